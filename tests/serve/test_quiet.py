"""A real process with every secret that it can have: none is in anything that it writes, and it calls nobody."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import jwt
import numpy as np
import pytest

from tailwise.cli import main
from tailwise.config import PipelineConfig, Step
from tailwise.pipeline import Engine
from tailwise.pipeline.binding import Bound
from tailwise.retrieve.popular import Popular
from tailwise.serve.keys import create_key

SHARED, PSEUDONYMS = "jwt-secret-" + "j" * 40, "pseudonym-secret-" + "p" * 40
WHO = "wilhelmina-9271"
SPY = """
import sys
calls = open(sys.argv.pop(1), "w")
def spy(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg",
                 "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "urllib.Request", "http.client.connect"):
        print(event, arguments, file=calls, flush=True)
sys.addaudithook(spy)
from tailwise.cli import main
raise SystemExit(main(sys.argv[1:]))
"""


@pytest.fixture
def model(engine: Engine, tmp_path: Path) -> Path:
    """A model folder that opens by itself: the cinema with popularity alone."""
    step = Step(name="popular")
    popular = Popular(Popular.Config(), np.arange(96, dtype=np.float32), engine.catalogue.item_ids)
    config = PipelineConfig(retrieve=(step,), stage=())
    sources = (Bound("popular", step, popular),)
    replace(engine, config=config, sources=sources, stages=()).save(tmp_path / "cinema")
    return tmp_path / "cinema"


@contextmanager
def process(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """``tailwise serve`` as people start it, its words in files, every call to elsewhere in another."""
    command = [sys.executable, "-c", SPY, str(folder / "calls"), "serve", "--port", "0", *options]
    out, err = folder / "stdout", folder / "stderr"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        started = subprocess.Popen(command, stdout=stdout, stderr=stderr, env={**os.environ, "PYTHONUNBUFFERED": "1"})
        try:
            until = time.monotonic() + 60
            while not out.read_text() and started.poll() is None and time.monotonic() < until:
                os.sched_yield()
            assert out.read_text().startswith("serving "), err.read_text()
            yield started, out.read_text().split()[3]
        finally:
            started.send_signal(signal.SIGTERM)
            started.wait(120)


def test_nothing_that_the_process_writes_holds_a_secret_or_a_name_and_it_calls_nobody(
    model: Path, tmp_path: Path
) -> None:
    keys, wrote = tmp_path / "keys.toml", tmp_path / "process"
    wrote.mkdir()
    scopes = ("read", "write", "admin")
    _, secret = create_key(keys, now=time.time(), scopes=scopes, rate=1000.0, daily=10_000)
    (tmp_path / "shared").write_text(SHARED)
    (tmp_path / "pseudonyms").write_text(PSEUDONYMS)
    trust = 'issuer = "i"\naudience = "a"\nalgorithms = ["HS256"]\nsecret_file = "shared"\n'
    (tmp_path / "jwt.toml").write_text(trust)
    now = time.time()
    token = jwt.encode({"iss": "i", "aud": "a", "sub": WHO, "exp": now + 60, "scope": "read"}, SHARED, "HS256")
    expired = jwt.encode({"iss": "i", "aud": "a", "sub": WHO, "exp": now - 600, "scope": "read"}, SHARED, "HS256")
    options = ["--keys", str(keys), "--jwt", str(tmp_path / "jwt.toml"), "--pseudonymise", str(tmp_path / "pseudonyms")]
    options += ["--debug", "--log-requests", "--log-format", "json", "--state", f"sqlite:///{wrote}/state.sqlite"]
    answers = []

    with process(wrote, str(model), *options) as (_, address):
        with httpx.Client(timeout=60, base_url=address, headers={"Authorization": f"Bearer {secret}"}) as client:
            event = {"user_id": WHO, "item_id": "i1", "event": "click"}
            answers = [
                client.post("/v1/events", json=event),
                client.post("/v1/rank", json={"user_id": WHO, "k": 3, "explain": True}),
                client.post("/v1/rank", json={"user_id": WHO, "k": -1}),
                client.post("/v1/rank", content=f'{{"user_id": "{WHO}", {secret}'.encode()),
                client.get("/metrics"),
                client.get("/v1/model"),
                client.get("/openapi.json"),
                client.get(f"/v1/items/{secret}/similar", headers={"X-API-Key": secret}),
                client.get("/v1/people?limit=x"),
                client.get("/nowhere"),
            ]
        for wrong in (secret[:-1] + "!", secret + "x", expired, token[:-4] + "AAAA", f"tw_{secret}"):
            answers.append(httpx.get(f"{address}/v1/model", timeout=60, headers={"X-API-Key": wrong}))
        assert httpx.get(f"{address}/v1/model", timeout=60, headers={"X-API-Key": token}).status_code == 200

    assert [answer.status_code for answer in answers[:2]] == [200, 200]
    assert answers[2].status_code == 422
    assert [answer.status_code for answer in answers[-5:]] == [401] * 5
    written = b"".join(path.read_bytes() for path in wrote.rglob("*") if path.is_file())
    assert b'"message": "request"' in written  # else there is no log to look at
    bare = secret.split("_", 2)[2]
    for hidden in (bare, SHARED, PSEUDONYMS, token.split(".")[2], expired.split(".")[2], WHO):
        assert hidden.encode() not in written
    for answer in answers:
        own = f"item '{secret}"[:80] if "/similar" in str(answer.url) else ""  # what a caller sends as an id comes back
        for hidden in (bare, SHARED, PSEUDONYMS):
            assert hidden not in answer.text.replace(own, ""), answer.url
    assert (wrote / "calls").read_text() == ""


def test_a_key_that_is_revoked_by_the_command_stops_in_the_running_service(model: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    key, secret = create_key(keys, now=time.time(), scopes=("read",))
    with (
        process(tmp_path, str(model), "--keys", str(keys)) as (_, address),
        httpx.Client(timeout=60, base_url=address) as client,
    ):
        headers = {"Authorization": f"Bearer {secret}"}
        before = client.get("/v1/model", headers=headers).status_code
        assert main(["keys", "revoke", key.id, "--keys", str(keys)]) == 0
        revoked = time.monotonic()
        while client.get("/v1/model", headers=headers).status_code == 200:
            assert time.monotonic() - revoked < 5
        seconds = time.monotonic() - revoked

    assert before == 200
    assert seconds < 3
    assert f"{keys} was read again: 1 keys" in (tmp_path / "stderr").read_text()


def test_spying_sees_what_a_process_calls(tmp_path: Path) -> None:
    code = SPY.replace("from tailwise.cli import main\nraise SystemExit(main(sys.argv[1:]))", "")
    code += "import socket\nsocket.socket().connect_ex(('127.0.0.1', 9))\n"

    subprocess.run([sys.executable, "-c", code, str(tmp_path / "calls")], check=True)

    assert json.dumps("127.0.0.1")[1:-1] in (tmp_path / "calls").read_text()
