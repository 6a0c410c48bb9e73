"""Slates of held-out cases: made once, in folds that keep people together, and judged as an oracle does."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.data.interactions import Training
from tailwise.fakes import Reverse
from tailwise.learn.slates import Example, earned, folds_of, gather
from tailwise.pipeline import Engine
from tailwise.pipeline.binding import Bound
from tailwise.types import Request, Slate, ids_of


def training_of(engine: Engine) -> Training:
    """Everybody's last event once more, as a target that the sources know: enough to make slates."""
    targets = np.array([engine.people.rows[end - 1] for end in engine.people.offsets[1:]])
    return Training(engine.people, engine.catalogue, 3, exclude_seen=False, targets=targets)


def bare(engine: Engine) -> Engine:
    return replace(engine, stages=())


def example(person: int) -> Example:
    slate = Slate(ids_of([]), np.empty(0, np.float32))
    return Example(person, Request("r"), slate, np.empty(0, bool), 1)


def plain_ndcg(scores: list[float], relevant: list[bool], targets: int, k: int) -> float:
    """Scores without ties: sort, walk, add up."""
    order = sorted(range(len(scores)), key=lambda place: -scores[place])
    gain = sum(1 / math.log2(rank + 2) for rank, place in enumerate(order[:k]) if relevant[place])
    return gain / sum(1 / math.log2(rank + 2) for rank in range(min(targets, k)))


@given(st.lists(st.booleans(), min_size=1, max_size=15), st.integers(0, 3), st.integers(1, 12), st.integers(0, 99))
@settings(max_examples=60)
def test_what_a_slate_earns_equals_a_plain_walk(relevant: list[bool], missed: int, k: int, seed: int) -> None:
    scores = np.random.default_rng(seed).permutation(len(relevant)).astype(float)
    targets = max(1, sum(relevant) + missed)

    value = earned(scores, np.array(relevant), targets, k=k)

    assert value == pytest.approx(plain_ndcg(scores.tolist(), relevant, targets, k))


def test_ties_lie_in_the_middle_of_where_they_could_be() -> None:
    value = earned(np.ones(3), np.array([False, True, False]), 1)

    assert value == pytest.approx(1 / math.log2(3))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60), st.integers(0, 9))
def test_all_of_a_person_are_in_one_fold_and_folds_are_of_a_size(people: list[int], seed: int) -> None:
    fold = folds_of([example(person) for person in people], seed, 3)

    of = {person: {int(fold[place]) for place, other in enumerate(people) if other == person} for person in people}
    sizes = np.bincount([next(iter(own)) for own in of.values()], minlength=3)
    assert all(len(own) == 1 for own in of.values())
    assert sizes.max() - sizes.min() <= 1


def test_slates_are_made_once_and_more_of_them_when_more_are_asked_for(tiny_engine: Engine) -> None:
    training = training_of(tiny_engine)
    told: list[tuple[str, int, int]] = []
    training = replace(training, report=lambda *what: told.append(what))

    few = gather(training, bare(tiny_engine), 5)
    again = gather(training, bare(tiny_engine), 5)
    more = gather(training, bare(tiny_engine), 9)

    assert [a is b for a, b in zip(few, again, strict=True)] == [True] * 5
    assert more[:5] == few
    assert [done for what, done, total in told if done == total] == [5, 4]


def test_an_example_knows_its_targets_wherever_stages_put_them(tiny_engine: Engine) -> None:
    training = training_of(tiny_engine)
    reverse = Bound("reverse", tiny_engine.stages[0].step, Reverse())

    plain = gather(training, bare(tiny_engine))
    turned = gather(training, replace(tiny_engine, stages=(reverse,)))

    assert any(one.relevant.any() for one in plain)
    for one, other in zip(plain, turned, strict=True):
        assert other.slate.item_ids.tolist() == one.slate.item_ids[::-1].tolist()
        assert other.relevant.tolist() == one.relevant[::-1].tolist()
        row = training.targets[one.person]  # type: ignore[index]  # it has targets
        assert (one.slate.columns["row"] == row).tolist() == one.relevant.tolist()
