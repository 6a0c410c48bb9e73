"""Columns for the stages: only what is asked for, from every source, whoever found the item."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from tailwise.config import Step
from tailwise.errors import ConfigError
from tailwise.pipeline import Engine
from tailwise.pipeline.binding import SIGNALS, Bound
from tailwise.pipeline.hydrate import check_signals, hydrate
from tailwise.pipeline.signals import signal_names
from tailwise.types import Column, Request, Rows, Slate


@dataclass(frozen=True)
class Breaks:
    """A source that answers nothing."""

    def scores(self, request: Request, rows: Rows) -> Column:
        raise ZeroDivisionError("oh")


def slate(engine: Engine) -> Slate:
    return engine.candidates(Request("r", candidates=("i01", "i02"))).take(np.array([1, 0]))


def test_what_is_asked_for_is_there_and_signals_only_when_they_are(tiny_engine: Engine) -> None:
    rows = Slate(slate(tiny_engine).item_ids, np.zeros(2, np.float32), {"row": slate(tiny_engine).columns["row"]})

    plain, _ = hydrate(Request("r"), rows, tiny_engine.sources[:2], tiny_engine.catalogue, frozenset({"row", "tail"}))
    full, _ = hydrate(Request("r"), rows, tiny_engine.sources[:2], tiny_engine.catalogue, frozenset({"row", SIGNALS}))

    assert set(plain.columns) == {"row", "tail", "score_popular", "score_ease"}
    assert set(full.columns) == {"row", SIGNALS, "score_popular", "score_ease"}


def test_a_source_that_fails_knows_nothing_and_is_told(tiny_engine: Engine) -> None:
    broken = Bound("broken", Step(name="broken"), Breaks())

    after, failed = hydrate(
        Request("r"), slate(tiny_engine), (broken,), tiny_engine.catalogue, frozenset({"row", SIGNALS})
    )

    assert np.isnan(after.columns["score_broken"]).all()
    assert [(entry.name, entry.skipped) for entry in failed] == [("broken", "failed: ZeroDivisionError")]
    assert np.isfinite(after.columns[SIGNALS]).all()


@dataclass(frozen=True)
class Learned:
    """A stage that learned from some signals."""

    names: tuple[str, ...]
    needs: frozenset[str] = frozenset({SIGNALS})
    gives: frozenset[str] = frozenset()


def test_a_stage_that_learned_from_other_signals_is_refused(tiny_engine: Engine) -> None:
    names = signal_names(tiny_engine.sources, tiny_engine.catalogue)
    same, other = (Bound("judge", Step(name="judge"), Learned(own)) for own in (names, names[1:]))

    check_signals((same,), tiny_engine.sources, tiny_engine.catalogue)
    with pytest.raises(ConfigError) as caught:
        check_signals((other,), tiny_engine.sources, tiny_engine.catalogue)

    assert str(caught.value) == (
        f"stage judge learned from {len(names) - 1} signals, but the pipeline gives {len(names)} "
        f"('score popular' differs); fit the model again"
    )
