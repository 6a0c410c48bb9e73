"""A live system on the synthetic world: fit, evaluate, serve over HTTP, learn from feedback, survive a kill, refit."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")

from tailwise.data.load import load, write
from tailwise.data.synthetic import World, make_world

CONFIG = """
[encode]
model = "hash"
whiten_dim = 32

[[retrieve]]
name = "popular"

[[retrieve]]
name = "ease"

[[retrieve]]
name = "item_knn"

[[retrieve]]
name = "text"

[[retrieve]]
name = "sequence"
shape = { dim = 32, layers = 1, max_length = 20 }
train = { epochs = 25, learning_rate = 0.01, average = 0.9 }

[[stage]]
name = "fusion"

[[stage]]
name = "mmr"

[[stage]]
name = "exposure"

[[stage]]
name = "rules"

[[stage]]
name = "reasons"
"""


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(users=150, items=120, events_per_user=20, groups=5, requests=1, seed=11)


@pytest.fixture(scope="module")
def place(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, a pipeline file, a model held out for evaluation, its report, and a model of everything."""
    folder = tmp_path_factory.mktemp("world")
    write(world.dataset, folder / "data")
    (folder / "pipeline.toml").write_text(CONFIG)
    data, config = folder / "data", folder / "pipeline.toml"
    tailwise(folder, "validate", data)
    tailwise(folder, "fit", data, "--out", folder / "judged", "--config", config, "--holdout", "last")
    tailwise(folder, "evaluate", folder / "judged", data, "--out", folder / "report")
    tailwise(folder, "fit", data, "--out", folder / "model", "--config", config)
    return folder


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "TAILWISE_CACHE": str(folder / "cache"), "TAILWISE_THREADS": "1", "OMP_NUM_THREADS": "1"}


def tailwise(folder: Path, *words: str | Path) -> str:
    command = [sys.executable, "-m", "tailwise.cli", *map(str, words)]
    done = subprocess.run(command, env=environment(folder), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The service on a free port; gives its address and its process, which is killed at the end."""
    command = [sys.executable, "-m", "tailwise.cli", "serve", str(folder / "model"), "--port", "0"]
    with subprocess.Popen(command, env=environment(folder), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()  # said when it takes requests
            match = re.search(r"http://[\d.:]+", line)
            assert match, line
            yield match[0], process
        finally:
            process.kill()


def call(address: str, method: str, path: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{address}{path}", data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


def ranked(address: str, **fields: Any) -> list[str]:
    answer = call(address, "POST", "/v1/rank", {"request_id": "r", "k": 10, **fields})
    return [item["item_id"] for item in answer["items"]]


def test_the_pipeline_beats_every_baseline_where_the_truth_says_that_it_can(place: Path) -> None:
    report = json.loads((place / "report" / "report.json").read_text())

    reached = {
        method["name"]: sum(filter(None, method["per_request"]["ndcg@10"])) / len(report["request_ids"])
        for method in report["methods"]
        if "ndcg@10" in method["per_request"]
    }
    assert reached["tailwise"] > 1.3 * max(reached[name] for name in ("Pop", "EASE", "ALS"))
    assert reached["sequence"] > reached["EASE"]  # only the order of acts finds sequels
    assert reached["Pop"] < reached["EASE"]
    assert "NDCG@10" in (place / "report" / "report.html").read_text()


def test_an_acknowledged_event_changes_the_next_list_and_survives_a_kill(place: Path, world: World) -> None:
    rows = world.truth.sequel
    bought = "i050"
    sequel = world.item_ids[rows[world.item_ids.index(bought)]]
    event = {"user_id": "newcomer", "item_id": bought, "event": "purchase", "event_id": "e1"}

    with serving(place) as (address, process):
        before = ranked(address, user_id="newcomer")
        assert call(address, "POST", "/v1/events", event) == {"accepted": 1, "new": 1}
        after = ranked(address, user_id="newcomer")
        process.send_signal(signal.SIGKILL)
        process.wait()
    with serving(place) as (address, _):
        again = ranked(address, user_id="newcomer")
        stored = call(address, "GET", "/v1/users/newcomer")["events"]
        repeated = call(address, "POST", "/v1/events", event)

    assert before != after
    assert sequel in after[:5]
    assert again == after
    assert [(own["item_id"], own["event"]) for own in stored] == [(bought, "purchase")]
    assert repeated == {"accepted": 1, "new": 0}


def test_the_service_answers_every_route_of_its_model(place: Path, world: World) -> None:
    titles = world.dataset.items["title"].to_list()
    asked = {"query": titles[4], "documents": [titles[60], titles[4], titles[80]], "top_n": 1}
    with serving(place) as (address, process):
        ready = call(address, "GET", "/ready")
        card = call(address, "GET", "/v1/model")
        chosen = ranked(address, user_id="u007", candidates=["i001", "i002", "nobody knows it"])
        recommended = call(address, "POST", "/v1/recommend", {"user_id": "u007", "tail_share": 1.0})["items"]
        near = call(address, "GET", "/v1/items/i001/similar?k=3")["items"]
        documents = call(address, "POST", "/v1/rerank", asked)
        loaded = Path(f"/proc/{process.pid}/maps").read_text()
        with pytest.raises(urllib.error.HTTPError, match=r"422") as refused:
            call(address, "POST", "/v1/rank", {"request_id": "r"})
        problem = json.loads(refused.value.read())
        refused.value.close()

    assert ready["version"] == card["version"] == json.loads((place / "model" / "manifest.json").read_text())["version"]
    assert sorted(chosen) == ["i001", "i002", "nobody knows it"]
    assert all(item["tail"] for item in recommended)
    assert len(near) == 3
    assert [found["index"] for found in documents["results"]] == [1]
    assert problem["detail"] == "a request needs one of: user_id, history, candidates, query"
    assert "libtorch" not in loaded


def test_the_circle_closes_through_files(place: Path, world: World, tmp_path: Path) -> None:
    """What the service was told goes into the log, and a new fit on it knows a person and a taste that it did not."""
    pairs = [(f"n{person:02d}", item) for person in range(30) for item in ("i003", "i090")]
    told = [
        {"user_id": user, "item_id": item, "event": "click", "time": 1_650_000_000.0 + step}
        for step, (user, item) in enumerate(pairs)
    ]
    with serving(place) as (address, _):
        assert call(address, "POST", "/v1/events", told)["new"] == 60
        stored = [
            {"user_id": f"n{person:02d}", **own}
            for person in range(30)
            for own in call(address, "GET", f"/v1/users/n{person:02d}")["events"]
        ]
    log = load(place / "data")
    later = pl.DataFrame(stored).select("user_id", "item_id", "time", "event")
    grown = log.with_events(pl.concat([log.events, later], how="diagonal_relaxed"))
    write(grown, tmp_path / "data")

    tailwise(place, "fit", tmp_path / "data", "--out", tmp_path / "model", "--config", place / "pipeline.toml")
    (tmp_path / "r.jsonl").write_text('{"request_id": "r", "history": [{"item_id": "i003"}], "k": 5}\n')
    for name, model in (("old", place / "model"), ("new", tmp_path / "model")):
        tailwise(place, "rank", model, "--requests", tmp_path / "r.jsonl", "--out", tmp_path / f"{name}.jsonl")

    first = {
        name: json.loads((tmp_path / f"{name}.jsonl").read_text())["items"][0]["item_id"] for name in ("old", "new")
    }
    assert len(stored) == 60
    assert first["new"] == "i090"
    assert first["old"] != "i090"
    assert json.loads((tmp_path / "model" / "manifest.json").read_text())["counts"]["people"] == 180
