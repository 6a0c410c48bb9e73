"""Sizes from the data: short logs get small batches, what is given stays, and choosing twice changes nothing."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from tailwise.data.interactions import Interactions
from tailwise.learn.sizes import settled
from tailwise.nets.settings import SequenceShape
from tailwise.rank.sequence import SequenceConfig
from tailwise.types import ids_of


def log_of(lengths: list[int]) -> Interactions:
    """People with so many clicks each, on one item."""
    events = sum(lengths)
    return Interactions(
        ids_of([f"u{place}" for place in range(len(lengths))]),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.zeros(events, np.int64),
        np.arange(events, dtype=np.float64),
        np.ones(events, np.uint8),
        np.full(events, np.nan, np.float32),
        1,
    )


@pytest.mark.parametrize(
    ("people", "events", "length", "dropout", "tokens", "members"),
    [
        (943, 8, 10, 0.5, 800, 3),
        (943, 105, 100, 0.3, 3_269, 1),
        (500, 103, 100, 0.3, 1_700, 1),
        (6000, 8, 10, 0.5, 1_400, 3),
        (8000, 8, 10, 0.5, 1_866, 1),
        (3, 1, 10, 0.5, 800, 3),
    ],
)
def test_sizes_follow_the_events_of_people(
    people: int, events: int, length: int, dropout: float, tokens: int, members: int
) -> None:
    config = settled(SequenceConfig(), log_of([events] * people))

    assert (config.shape.max_length, config.shape.dropout) == (length, dropout)
    assert (config.batch_tokens, config.members) == (tokens, members)


def test_what_is_given_stays() -> None:
    given = SequenceConfig(shape=SequenceShape(dropout=0.1, max_length=7), batch_tokens=64, members=2)

    config = settled(given, log_of([50] * 40))

    assert config == given


def test_choosing_again_from_other_data_changes_nothing() -> None:
    first = settled(SequenceConfig(), log_of([8] * 40))

    again = settled(first, log_of([90] * 4000))
    read = settled(SequenceConfig.model_validate(first.model_dump()), log_of([90] * 4000))

    assert again == first == read


def test_it_says_what_it_chose_and_why(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        settled(SequenceConfig(), log_of([8] * 943))

    chosen = "max_length=10 dropout=0.5 batch_tokens=800 members=3"
    assert caplog.messages == [f"sequence model: {chosen}, because 6601 positions, 8 events a person"]


def test_nobody_at_all_is_no_error() -> None:
    assert settled(SequenceConfig(), log_of([])).shape.max_length == 10
