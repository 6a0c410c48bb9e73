"""A small cinema with known taste: 96 films of 8 genres, 24 people who each like two of them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import uvicorn
from fastapi import FastAPI
from starlette.testclient import TestClient

from tailwise.config import PipelineConfig, Step
from tailwise.data.catalogue import Catalogue
from tailwise.data.interactions import Interactions
from tailwise.pipeline import Engine
from tailwise.pipeline.binding import Bound
from tailwise.rerank.diversity import MMR
from tailwise.rerank.exposure import Exposure
from tailwise.serve.app import create_app
from tailwise.serve.running import QUIET
from tailwise.serve.service import Service
from tailwise.state.memory import MemoryStore
from tailwise.state.sqlite import SqliteStore
from tailwise.state.store import StateStore
from tailwise.types import Floats, Request, Rows, Slate

HOSTILE = '<img src=x onerror=alert(1)><b>Bobby</b> & "Tables"'
NOUNS = {
    "Space": "Orbit Comet Nebula Gravity Airlock Saturn Eclipse Pulsar Horizon Lander Vacuum Dust",
    "Romance": "Letter Kiss Wedding Garden Paris Summer Promise Waltz Harbour Violin Balcony Rain",
    "Crime": "Alibi Heist Witness Ledger Verdict Informer Safehouse Ransom Badge Motive Docks Knife",
    "Western": "Saddle Canyon Sheriff Stagecoach Mesa Revolver Prairie Drifter Gulch Homestead Herd Noon",
    "Horror": "Attic Cellar Séance Mirror Lake Marionette Crypt Fog Asylum Lullaby Orchard Teeth",
    "Comedy": "Roommate Vacation Buffet Karaoke Landlord Parrot Reunion Neighbour Toupee Campsite Intern Moustache",
    "War": "Trench Convoy Bridge Armistice Sniper Bunker Medic Platoon Siege Barracks Beachhead Minefield",
    "Animation": "Fox Teapot Dragon Lantern Kite Puddle Robot Acorn Snowman Balloon Otter Umbrella",
}
ADJECTIVES = [
    "Quiet",
    "Last",
    "Crimson",
    "Borrowed",
    "Endless",
    "Paper",
    "Second",
    "Silver",
    "Forgotten",
    "Distant",
    "Crooked",
    "Gentle",
]
START = 1_700_000_000.0
DAY = 86_400.0


def films() -> pl.DataFrame:
    rows: list[dict[str, str]] = []
    for genre, nouns in NOUNS.items():
        for place, noun in enumerate(nouns.split()):
            other = list(NOUNS)[(list(NOUNS).index(genre) + place) % len(NOUNS)]
            title = f"The {ADJECTIVES[place]} {noun}"
            rows.append({"item_id": f"i{len(rows)}", "title": title, "genres": "|".join(dict.fromkeys((genre, other)))})
    rows[5]["title"] = HOSTILE
    return pl.DataFrame(rows)


def events(n_items: int) -> pl.DataFrame:
    """Person ``u{p}`` likes genres p and p + 3 (modulo 8); the first films of a genre are the famous ones."""
    rng, rows = np.random.default_rng(7), []
    fame = np.exp(-0.35 * (np.arange(n_items) % 12))
    for person in range(24):
        taste = np.where(np.isin(np.arange(n_items) // 12, [person % 8, (person + 3) % 8]), 1.0, 0.08) * fame
        for step, item in enumerate(rng.choice(n_items, 14, replace=False, p=taste / taste.sum())):
            event = ("view", "click", "favourite", "purchase")[step % 4]
            time = START + person * 3600 + step * DAY
            rows.append({"user_id": f"u{person}", "item_id": f"i{item}", "time": time, "event": event, "value": None})
    return pl.DataFrame(rows, schema_overrides={"value": pl.Float64}).sort("time", "user_id", "item_id")


@dataclass(frozen=True)
class Scored:
    """A source from a function of the request to (M,) scores."""

    catalogue: Catalogue
    score: Callable[[Request], Floats]

    def __call__(self, request: Request, k: int) -> Slate:
        scores = self.score(request).copy()
        scores[request.excluded] = -np.inf
        rows = np.argsort(-scores, kind="stable")[: min(k, int(np.isfinite(scores).sum()))]
        return Slate(self.catalogue.item_ids[rows], scores[rows], {"row": rows})

    def scores(self, request: Request, rows: Rows) -> Floats:
        return np.asarray(np.where(rows >= 0, self.score(request)[rows], np.nan), np.float32)


@dataclass(frozen=True)
class Taste:
    """Mean vector of what was liked, newest most, less what was disliked; scores by cosine."""

    catalogue: Catalogue

    def __call__(self, request: Request) -> Floats:
        past = request.past
        signs = np.array([-1.0 if event in {"skip", "dislike"} else 1.0 for event in past.events])
        weights = signs * 0.9 ** np.arange(len(past))[::-1] * (past.rows >= 0)
        vector = weights @ self.catalogue.vectors[past.rows] if len(past) else np.zeros(self.catalogue.vectors.shape[1])
        return np.asarray(self.catalogue.vectors @ vector / max(float(np.linalg.norm(vector)), 1e-9), np.float32)


@dataclass(frozen=True)
class Blend:
    """Taste, and a little fame."""

    needs: frozenset[str] = frozenset({"score_taste", "recent"})
    gives: frozenset[str] = frozenset()

    def __call__(self, request: Request, slate: Slate) -> Slate:
        columns = {name: np.nan_to_num(slate.columns[name]) for name in self.needs}
        return slate.score(np.asarray(columns["score_taste"] + 0.3 * columns["recent"], np.float32))


@dataclass(frozen=True)
class Because:
    """The nearest film of the history as a reason."""

    catalogue: Catalogue
    needs: frozenset[str] = frozenset({"row", "vector", "tail"})
    gives: frozenset[str] = frozenset({"reasons"})

    def __call__(self, request: Request, slate: Slate) -> Slate:
        liked = request.past.liked()
        reasons = np.empty(len(slate), object)
        for place in range(len(slate)):
            found = [{"kind": "popular", "text": "popular now"}]
            if len(liked):
                nearest = liked[np.argmax(self.catalogue.vectors[liked] @ slate.columns["vector"][place])]
                found = [{"kind": "history", "text": f"because of {self.catalogue.title(nearest)}"}]
            if slate.columns["tail"][place]:
                found.append({"kind": "tail", "text": "a rarer find"})
            reasons[place] = tuple(found)
        return slate.add(reasons=reasons)


def cinema(store: StateStore | None = None) -> Engine:
    frame = films()
    m = frame.height
    log = events(m)
    counts = dict(log.group_by("item_id").len().iter_rows())
    popularity = np.array([counts.get(f"i{row}", 0) for row in range(m)], np.float32)
    labels = [set(genres.split("|")) for genres in frame["genres"]]
    hot = np.array([[genre in own for genre in NOUNS] for own in labels], np.float32)
    vectors = np.hstack([hot, 0.4 * np.random.default_rng(3).standard_normal((m, 8))])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    catalogue = Catalogue(frame, popularity=popularity, recent=popularity, vectors=vectors, tail_cut=0.2)
    steps = PipelineConfig(
        retrieve=(Step(name="popular", k=40), Step(name="taste", k=40)),
        stage=(Step(name="blend"), Step(name="mmr"), Step(name="exposure"), Step(name="because")),
    )
    runs = (
        Scored(catalogue, lambda _: popularity),
        Scored(catalogue, Taste(catalogue)),
        Blend(),
        MMR(MMR.Config()),
        Exposure(Exposure.Config()),
        Because(catalogue),
    )
    bounds = [Bound(step.name, step, run) for step, run in zip((*steps.retrieve, *steps.stage), runs, strict=True)]
    metrics = {"validation": {"ndcg@10": 0.1234, "hr@10": 0.2}, "people": 24}
    manifest = {
        "version": "c1ne3a00",
        "created": "2026-01-02T03:04:05Z",
        "seed": 7,
        "metrics": metrics,
        "notes": ["A made-up cinema."],
        "files": {"secret": {}},
    }
    people = Interactions.of(log, catalogue)
    return Engine(steps, catalogue, people, tuple(bounds[:2]), tuple(bounds[2:]), manifest, store or MemoryStore())


@contextmanager
def running(app: FastAPI) -> Iterator[str]:
    """The application behind a real uvicorn on a free port; gives its address."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(512)
        server = uvicorn.Server(uvicorn.Config(app, **QUIET))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def engine() -> Engine:
    return cinema()


@pytest.fixture
def app(engine: Engine) -> FastAPI:
    return create_app(engine)


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def served(engine: Engine, tmp_path: Path) -> Iterator[str]:
    """The address of the cinema behind a real uvicorn, its state in a SQLite file."""
    engine.store = SqliteStore(tmp_path / "state.sqlite")
    with running(create_app(engine)) as address:
        yield address


@pytest.fixture(scope="module")
def site() -> Iterator[tuple[str, Engine]]:
    """One server for the tests of a module, and its engine; each test takes people of its own."""
    engine = cinema()
    # However busy the machine is: what is shown is compared with what the engine says when nobody is in a hurry.
    patient = Service(model=Path(), watch_s=0, shed_after_ms=60_000.0, refuse_after_ms=60_000.0)
    with running(create_app(engine, patient)) as address:
        yield address, engine
