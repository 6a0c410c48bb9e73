"""Earlier slates come back as they were, standardised, and the oldest make room."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tailwise.data.catalogue import Catalogue
from tailwise.errors import ArtifactError
from tailwise.learn import replay
from tailwise.learn.replay import Replay
from tailwise.learn.slates import Example
from tailwise.rank.fusion import standardised
from tailwise.types import Request, Slate, ids_of

NAMES = ("a", "b")
NOTHING = np.zeros(9, np.float32)
CATALOGUE = Catalogue(
    pl.DataFrame({"item_id": [f"i{row}" for row in range(9)]}),
    popularity=NOTHING,
    recent=NOTHING,
    vectors=NOTHING[:, None],
    tail_cut=0.2,
)


def example(person: int, n: int = 4) -> Example:
    random = np.random.default_rng(person)
    rows = random.permutation(9)[:n]
    columns = {f"score_{name}": random.normal(size=n).astype(np.float32) for name in NAMES}
    slate = Slate(CATALOGUE.item_ids[rows], np.linspace(1, 0, n, dtype=np.float32), {"row": rows, **columns})
    return Example(person, Request("fit", user_id="nobody must be stored"), slate, np.arange(n) == 1, 1)


def test_scores_are_kept_on_one_scale_and_nothing_else_of_the_request(tmp_path: Path) -> None:
    first = example(0)

    kept = Replay(NAMES).with_new([first], [5.0])

    (again,) = kept.examples
    expected = standardised([first.slate.columns["score_a"], first.slate.columns["score_b"]])
    assert again.slate.columns["score_b"] == pytest.approx(expected[:, 1], abs=2e-3)
    assert again.request.user_id is None
    kept.save(tmp_path)
    assert not [path for path in tmp_path.iterdir() if b"nobody" in path.read_bytes()]


def test_saved_and_opened_it_is_the_same(tmp_path: Path) -> None:
    kept = Replay(NAMES).with_new([example(n, 3 + n) for n in range(4)], [1.0, 2.0, 3.0, 4.0])
    kept.save(tmp_path)

    again = Replay.open(tmp_path, CATALOGUE, NAMES)

    assert again.times == kept.times
    for mine, theirs in zip(again.examples, kept.examples, strict=True):
        assert mine.slate.item_ids.tolist() == theirs.slate.item_ids.tolist()
        assert mine.slate.columns["score_a"].tolist() == theirs.slate.columns["score_a"].tolist()
        assert mine.relevant.tolist() == theirs.relevant.tolist()
        assert (mine.person, mine.targets) == (theirs.person, theirs.targets)


def test_an_empty_one_can_be_kept_too(tmp_path: Path) -> None:
    Replay(NAMES).save(tmp_path)

    assert Replay.open(tmp_path, CATALOGUE, NAMES).examples == ()


def test_without_a_file_or_with_other_sources_there_is_nothing(tmp_path: Path) -> None:
    assert Replay.open(tmp_path, CATALOGUE, NAMES).examples == ()
    Replay(NAMES).with_new([example(0)], [1.0]).save(tmp_path)

    assert Replay.open(tmp_path, CATALOGUE, ("a", "c")).examples == ()


def test_the_oldest_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "MOST", 3)

    kept = Replay(NAMES).with_new([example(n) for n in range(5)], [float(n) for n in range(5)])

    assert [each.person for each in kept.examples] == [2, 3, 4]
    assert [each.person for each in kept.since(3.0).examples] == [3, 4]
    assert kept.since(None) == kept


def test_a_draw_is_of_the_seed_and_in_the_order_of_time() -> None:
    kept = Replay(NAMES).with_new([example(n) for n in range(20)], [float(n) for n in range(20)])

    people = [each.person for each in kept.drawn(5, seed=1)]

    assert people == sorted(people) == [each.person for each in kept.drawn(5, seed=1)]
    assert people != [each.person for each in kept.drawn(5, seed=2)]


def test_a_damaged_file_says_so(tmp_path: Path) -> None:
    Replay(NAMES).save(tmp_path)
    (tmp_path / "replay.json").write_text("{")

    with pytest.raises(ArtifactError, match=r"replay\.json cannot be read \(.*\); fit the model again$"):
        Replay.open(tmp_path, CATALOGUE, NAMES)


def test_items_are_placed_by_the_catalogue_as_it_is_now(tmp_path: Path) -> None:
    Replay(NAMES).with_new([example(3)], [1.0]).save(tmp_path)

    (again,) = Replay.open(tmp_path, CATALOGUE, NAMES).examples

    assert replace(again).slate.item_ids.tolist() == ids_of(again.slate.item_ids.tolist()).tolist()
    assert CATALOGUE.rows(again.slate.item_ids).tolist() == again.slate.columns["row"].tolist()
