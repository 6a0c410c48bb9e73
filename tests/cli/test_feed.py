from __future__ import annotations

import signal
import subprocess
import sys
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tailwise.cli import main
from tailwise.cli.feed import told_to_stop
from tailwise.state.opening import open_store


@pytest.fixture
def stream(redis_server: Any) -> str:
    """The address of a stream with two events and a poisoned message."""
    name = uuid.uuid4().hex
    with closing(Redis(port=redis_server.port)) as client:
        client.xadd(name, {"user_id": "ann", "item_id": "a"})
        client.xadd(name, {"data": '{"user_id": "ann", "item_id": "b"}'})
        client.xadd(name, {"nothing": "of use"})
    return f"redis://127.0.0.1:{redis_server.port}/0/{name}"


def test_once_takes_what_is_there_and_ends(stream: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = f"sqlite:///{tmp_path}/state.sqlite"

    code = main(["ingest", stream, "--state", state, "--once"])

    assert code == 0
    assert capsys.readouterr().out.endswith("stored 2 events, put 1 messages aside\n")
    with closing(open_store(state)) as store:
        assert [event.item_id for event in store.history("ann", 9)] == ["a", "b"]


def test_it_goes_on_until_ctrl_c(stream: str, tmp_path: Path) -> None:
    state = f"sqlite:///{tmp_path}/state.sqlite"
    with closing(open_store(state)) as store:
        command = [sys.executable, "-m", "tailwise.cli", "ingest", stream, "--state", state]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            while len(store.history("ann", 9)) < 2:
                assert process.poll() is None
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=120)

    assert process.returncode == 0
    assert said.endswith("stored 2 events, put 1 messages aside\n")


def test_a_second_signal_interrupts_what_does_not_end() -> None:
    with told_to_stop() as end:
        signal.raise_signal(signal.SIGINT)
        assert end.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_server_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["ingest", "redis://127.0.0.1:1/0/events", "--state", "memory://"])

    assert code == 1
    assert capsys.readouterr().err.startswith("tailwise: Redis at redis://127.0.0.1:1/0 cannot be reached (")
