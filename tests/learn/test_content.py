"""What attributes say of who will like an item: learned from likers, judged by items that nothing was learned from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

pytest.importorskip("torch", reason="the package learn needs torch: pip install 'tailwise[train]'")

from tailwise.config import EncodeConfig, PipelineConfig, Step
from tailwise.data.attributes import Attributes
from tailwise.data.catalogue import Catalogue
from tailwise.data.interactions import Interactions, Training
from tailwise.data.load import Dataset
from tailwise.learn.content import fit_newcomers, judged, matrix_of, tastes_of
from tailwise.pipeline import Engine
from tailwise.rerank.newcomers import Newcomers, NewcomersConfig
from tailwise.types import Floats, Request, Slate

PEOPLE, ITEMS, NEW, KINDS = 120, 80, 8, 4
QUICK = PipelineConfig(
    encode=EncodeConfig(model="hash"),
    retrieve=(Step(name="popular", k=60), Step(name="item_knn", k=60)),
    stage=(Step(name="fusion"), Step(name="newcomers"), Step(name="reasons")),
)


def shop(*, told: bool = True, seed: int = 0, items: int = ITEMS) -> Dataset:
    """People of 4 tastes; each takes 12 of the items of a kind; the last 8 items nobody has. ``told``: by a genre."""
    random = np.random.default_rng(seed)
    kind = np.arange(items + NEW) % KINDS
    label = kind if told else random.permutation(kind)
    table = pl.DataFrame(
        {
            "item_id": [f"i{row:02d}" for row in range(items + NEW)],
            "title": [f"{'abcd'[kind]} one" if told else "one" for kind in label],
            "genres": [f"g{kind}" for kind in label],
        }
    )
    rows = []
    for person in range(PEOPLE):
        own = np.flatnonzero(kind[:items] == person % KINDS)
        taken = random.choice(own, min(12, len(own)), replace=False)
        rows += [(f"u{person:03d}", f"i{item:02d}", 1e9 + person * 100.0 + n) for n, item in enumerate(taken)]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "time"], orient="row")
    return Dataset.of("shop", events=events, items=table)


def training_of(dataset: Dataset, seed: int = 0) -> Training:
    assert dataset.items is not None
    nothing = np.zeros(dataset.items.height, np.float32)
    bare = Catalogue(dataset.items, popularity=nothing, recent=nothing, vectors=nothing[:, None], tail_cut=0.2)
    log = Interactions.of(dataset.events, bare)
    own = Catalogue(dataset.items, popularity=log.counts(), recent=nothing, vectors=bare.vectors, tail_cut=0.2)
    return Training(log, own, seed)


def fitted_on(dataset: Dataset, **settings: float) -> tuple[Newcomers, dict[str, float | str]]:
    nobody: Engine = None  # type: ignore[assignment]  # the trainer asks nothing of it
    return fit_newcomers(NewcomersConfig(**settings), training_of(dataset), nobody)  # type: ignore[arg-type]  # floats


def test_people_are_brought_newcomers_of_the_kind_that_they_take() -> None:
    training = training_of(shop())

    stage, notes = fitted_on(shop())

    assert notes["decision"] == "used"
    # By hand: 8 of 80 items play newcomers, 2 of them of each kind on average, and the best fifth is one item.
    assert notes["the same for the person"] > 0.5
    assert notes["recall of held-out items by chance"] == 0.125
    assert notes["the same by what is usual"] == pytest.approx(notes["recall of held-out items by chance"], abs=0.1)
    for person in (0, 1, 2, 3, 118):
        past = training.past(person)
        brought = stage.brings(Request("r", k=60, history=past), Slate(past.item_ids, past.values, {"row": past.rows}))
        assert sorted(brought.tolist()) == [ITEMS + person % KINDS, ITEMS + KINDS + person % KINDS]


def test_the_closed_form_is_the_ridge_regression_of_likers_on_attributes() -> None:
    training = training_of(shop(seed=4))
    config = NewcomersConfig(dim=3, regularisation=0.7)
    known: Floats = np.random.default_rng(1).normal(size=(ITEMS + NEW, 5)).astype(np.float32)
    had = matrix_of(training.interactions, 10_000, 0)
    taught = np.arange(ITEMS + NEW) < ITEMS - 3

    tastes = tastes_of(config, Attributes({}, {}), known, had, taught)

    # By definition: X scaled by people and items, S = XᵀX, W = argmin |S − FW|² + λ|W|², its widest 3 directions.
    x = had.toarray().astype(np.float64) * taught
    x /= np.sqrt(np.maximum(x.sum(1, keepdims=True), 1))
    x /= np.sqrt(np.maximum((had.toarray() * taught).sum(0), 1))
    f = (known - known[taught].mean(0))[taught].astype(np.float64)
    ridge = 0.7 * np.trace(f.T @ f) / 5
    w = np.linalg.solve(f.T @ f + ridge * np.eye(5), f.T @ (x.T @ x)[taught])  # (F, M)
    u, _, _ = np.linalg.svd(w, full_matrices=False)
    projected = u[:, :3].T @ w
    unit = projected / np.maximum(np.linalg.norm(projected, axis=0), 1e-12)
    assert tastes.items(known) @ tastes.likers[taught].T == pytest.approx(
        (known - known[taught].mean(0)) @ u[:, :3] @ unit[:, taught], abs=1e-3
    )
    assert (tastes.likers[~taught] == 0).all()


def test_nothing_of_held_out_items_is_learned() -> None:
    training = training_of(shop())
    attributes = Attributes.of(training.catalogue)
    known = attributes.rows(training.catalogue, training.catalogue.item_ids)
    had = matrix_of(training.interactions, 10_000, 0)
    taught = np.arange(ITEMS + NEW) >= 9
    without = had.copy().tolil()
    without[:, :9] = 0

    one = tastes_of(NewcomersConfig(), attributes, known, had, taught)
    other = tastes_of(NewcomersConfig(), attributes, known * taught[:, None], without.tocsr(), taught)

    assert one.likers.tobytes() == other.likers.tobytes()
    assert one.directions.tobytes() == other.directions.tobytes()
    assert (one.likers[:9] == 0).all()


def test_judging_counts_the_share_of_what_a_person_had() -> None:
    training = training_of(shop())
    attributes = Attributes.of(training.catalogue)
    known = attributes.rows(training.catalogue, training.catalogue.item_ids)
    had = matrix_of(training.interactions, 10_000, 0)
    out = np.arange(ITEMS + NEW) < 20  # 5 of each kind: the best fifth, 4 items, are all of a person's kind

    found, usual, chance = judged(
        tastes_of(NewcomersConfig(), attributes, known, had, ~out & (np.arange(ITEMS + NEW) < ITEMS)), known, had, out
    )

    held = had[:, :20].toarray()
    expected = []
    for own in held[held.any(axis=1)]:  # all of a kind are alike, so the first 4 of it stand first
        kind = int(np.flatnonzero(own)[0] % KINDS)
        expected.append(own[[kind, kind + 4, kind + 8, kind + 12]].sum() / own.sum())
    assert chance == 0.2
    assert found == pytest.approx(np.array(expected))
    assert usual.mean() == pytest.approx(0.25, abs=0.1)  # one kind is everybody's


def test_attributes_that_tell_nothing_are_not_used() -> None:
    stage, notes = fitted_on(shop(told=False))

    assert notes["decision"] == "not used: it finds no more than chance"
    assert stage.tastes is None


def test_items_without_attributes_and_small_shops_are_left_alone() -> None:
    bare = shop()
    assert bare.items is not None

    _, ids_alone = fitted_on(replace(bare, items=bare.items.select("item_id")))
    _, few = fitted_on(shop(items=40))

    assert ids_alone == {"decision": "not used: the items have no text, label or age"}
    assert few == {"decision": "not used: fewer than 50 items have events"}


def test_the_same_seed_gives_the_same_tastes() -> None:
    one, other = (fitted_on(shop())[0].tastes for _ in range(2))

    assert one is not None
    assert other is not None
    for name in ("middle", "directions", "likers", "usual", "spread"):
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes()


def test_at_most_so_many_people_teach() -> None:
    log = training_of(shop()).interactions

    had = matrix_of(log, 30, seed=0)

    assert had.shape == (30, ITEMS + NEW)
    assert had.sum() == 30 * 12


@pytest.fixture
def engine(fitted: Callable[..., Engine]) -> Engine:
    return fitted(shop())


def test_a_fitted_model_shows_newcomers_below_the_first_page_and_says_why(engine: Engine, tmp_path: Path) -> None:
    engine.save(tmp_path / "model")
    served = Engine.open(tmp_path / "model")

    page, more = (served.rank(user_id="u001", k=k) for k in (20, 28))

    assert engine.manifest["metrics"]["newcomers"]["decision"] == "used"
    assert more.item_ids[:20].tolist() == page.item_ids.tolist()
    assert more.item_ids[[23, 27]].tolist() == ["i81", "i85"]
    (reason, *_) = more.columns["reasons"][23]
    assert reason["kind"] == "new_for"
    assert reason["text"] == f"New here, for those who like {reason['name']}"
    assert reason["item_id"] in served.history("u001").item_ids
    assert (np.diff(more.scores) <= 1e-6).all()


def test_a_newcomer_on_the_list_is_explained(engine: Engine) -> None:
    shown = engine.rank(user_id="u001", k=24)

    whole, alone = engine.explain(user_id="u001", k=24), engine.explain(user_id="u001", k=24, item_id="i81")

    assert [own.item_id for own in whole.items] == shown.item_ids.tolist()
    (own,) = alone.items
    assert own.place == 24
    assert own.missing is None
    assert own.first_rank is None
    assert [move.stage for move in own.stages] == ["newcomers", "reasons"]
    assert (own.stages[0].place, own.stages[0].place_after) == (None, 24)
    assert own.reasons[0]["kind"] == "new_for"
