"""Repeats: what somebody had comes by how often and how lately they had it."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tailwise.data.holdout import hold_out
from tailwise.data.interactions import Training
from tailwise.retrieve.again import Again, AgainConfig
from tailwise.types import Request, ids_of

Asked = Callable[..., Request]
Trainer = Callable[[list[tuple[int, int]], int], Training]
IDS = ids_of([f"i{row}" for row in range(6)])


def test_scores_add_up_what_each_time_counts(asked: Asked) -> None:
    source = Again(AgainConfig(decay=math.log(2)), IDS)

    scores = source.scores(asked(3, 1, 3, -1), np.array([3, 1, 0, -1]))

    assert scores[:3].tolist() == pytest.approx([1 / 8 + 1 / 2, 1 / 4, 0.0])  # what was never had was had 0 times
    assert np.isnan(scores[3])
    assert np.isnan(source.scores(asked(), np.array([3, 1]))).all()


def test_what_the_person_had_comes_best_first_and_nothing_else(asked: Asked) -> None:
    source = Again(AgainConfig(decay=0.1), IDS)

    assert source(asked(3, 1, 3, 4), 10).columns["row"].tolist() == [3, 4, 1]
    assert source(asked(3, 1, 3, 4), 10).item_ids.tolist() == ["i3", "i4", "i1"]
    assert len(source(asked(), 10)) == 0


def test_what_is_disliked_or_may_not_be_shown_again_stays_out(asked: Asked) -> None:
    source = Again(AgainConfig(decay=0.0), IDS)

    assert source(asked(3, (1, "dislike"), 4, excluded=(4,)), 10).columns["row"].tolist() == [3]


def test_the_decay_is_chosen_where_repeats_are_shown_and_only_there(training_of: Trainer) -> None:
    # People come back for what they had last, and had something else more often before.
    pairs = [(person, item) for person in range(20) for item in (0, 0, 0, 0, 1 + person % 4, 1 + person % 4)]
    every = training_of(pairs, 6)
    left, held = hold_out(every.interactions)
    training = replace(every, interactions=left, exclude_seen=False, held=held, targets=held.first(0))

    chosen = Again.fit(AgainConfig(), training).config
    silent = Again.fit(AgainConfig(), replace(training, exclude_seen=True)).config

    assert chosen.decay is not None
    assert chosen.decay >= 0.8  # less, and what was had four times comes before what was had last
    assert silent == AgainConfig()
    assert Again.fit(chosen, training).config == chosen


def test_it_opens_as_it_was(tmp_path: Path, board: Training, asked: Asked) -> None:
    before = Again.fit(AgainConfig(decay=0.2), board)

    after = Again.open(before.config, board.catalogue, tmp_path)

    request = asked(2, 5, 2)
    assert (after(request, 5).scores == before(request, 5).scores).all()
    assert after(request, 5).item_ids.tolist() == before(request, 5).item_ids.tolist()
