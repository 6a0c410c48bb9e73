import numpy as np
import pytest

from tailwise.pipeline import Engine
from tailwise.serve import shown
from tailwise.serve.shown import Shown


def test_coverage_counts_each_item_once_and_unknown_ones_not_at_all(engine: Engine) -> None:
    seen = Shown(engine.catalogue)

    seen.add(np.array([0, 1, 2, -1]))
    seen.add(np.array([2, 1]))

    assert seen.coverage() == pytest.approx(3 / len(engine.catalogue))
    assert seen.slots == 6


def test_the_tail_has_what_is_outside_the_most_popular_and_what_nobody_knows(engine: Engine) -> None:
    seen, tail = Shown(engine.catalogue), engine.catalogue.tail

    seen.add(np.array([int(np.flatnonzero(tail)[0]), int(np.flatnonzero(~tail)[0]), -1]))

    assert (seen.slots, seen.tail_slots) == (3, 2)


def test_what_was_shown_long_ago_no_longer_counts(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Shown(engine.catalogue)
    seen.add(np.arange(10))
    monkeypatch.setattr(shown, "WINDOW_S", -1.0)  # every look begins a new window

    coverages = [seen.coverage() for _ in range(2)]

    assert coverages == [pytest.approx(10 / 96), 0.0]
