"""A committee is judged by people that it never saw, and stays only when it helps them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")

import torch
from numpy.typing import NDArray

from tailwise.data.interactions import Training
from tailwise.learn.crossfit import Learned, Lists, cross_fitted, gains_of, honest, padded, temperature_of
from tailwise.learn.slates import Example, earned, gather
from tailwise.pipeline import Engine
from tailwise.types import Request, Slate, ids_of

World = tuple[Training, Engine]
N = 12
HOW = {"depth": N, "committee": 3, "seed": 0}


def examples(cases: int, people: int) -> list[Example]:
    """Slates whose order says little; signal 0 tells the target, signal 1 nothing."""
    rng = np.random.default_rng(4)
    made = []
    for case in range(cases):
        relevant = np.arange(N) == rng.integers(N // 2)
        signals = np.stack([relevant, rng.standard_normal(N)], axis=1).astype(np.float32)
        slate = Slate(ids_of([f"i{n}" for n in range(N)]), np.linspace(1, 0, N, dtype=np.float32), {"signals": signals})
        made.append(Example(case % people, Request("r"), slate, relevant, 1))
    return made


def by_signal(place: int, seen: list[NDArray[np.bool_]] | None = None, epochs: int = 1):  # type: ignore[no-untyped-def]  # noqa: ANN201  a learn function
    """A member that orders by one signal, whatever it is taught."""

    def learn(lists: Lists, own: NDArray[np.bool_], part: int) -> Learned[int]:
        if seen is not None:
            seen.append(own)
        return part, np.stack([gains_of(lists.signals[~own][:, :, place], lists, ~own)] * epochs)

    return learn


def test_a_committee_that_helps_is_used() -> None:
    members, notes = cross_fitted(examples(210, 70), **HOW, learn=by_signal(0, epochs=4))

    assert members == [0, 1, 2]
    assert notes["decision"] == "used"
    assert notes["ndcg@10 after (cross-fitted)"] == 1.0
    assert notes["ndcg@10 before"] < 0.6


def test_a_committee_that_guesses_is_not_used() -> None:
    members, notes = cross_fitted(examples(210, 70), **HOW, learn=by_signal(1))

    assert members == []
    assert notes["decision"] == "not used: the gain is not above 1 of its standard errors"


def test_what_may_lose_by_chance_says_so() -> None:
    kept, used = cross_fitted(examples(210, 70), **{**HOW, "least": -50.0}, learn=by_signal(1))
    gone, lost = cross_fitted(examples(210, 70), **{**HOW, "least": -0.01}, learn=by_signal(1))

    assert kept
    assert used["decision"] == "used: it loses less than 50 standard errors, which may be chance"
    assert gone == []
    assert lost["decision"] == "not used: it loses 0.01 standard errors"


def test_each_person_is_judged_by_the_one_member_that_did_not_learn_from_them() -> None:
    seen: list[NDArray[np.bool_]] = []
    made = examples(210, 70)

    cross_fitted(made, **HOW, learn=by_signal(0, seen))

    assert np.stack(seen).sum(0).tolist() == [2] * 210  # of three members two learn from each case
    people = np.array([example.person for example in made])
    for own in seen:
        assert not set(people[own]) & set(people[~own])


def test_members_may_learn_side_by_side() -> None:
    with ThreadPoolExecutor(2) as pool:
        members, notes = cross_fitted(examples(210, 70), **HOW, learn=by_signal(0), each=pool.map)

    assert (members, notes) == cross_fitted(examples(210, 70), **HOW, learn=by_signal(0))


def test_few_cases_teach_nothing() -> None:
    members, notes = cross_fitted(examples(199, 70), **HOW, learn=by_signal(0))

    assert members == []
    assert notes == {"decision": "not used: 199 cases could teach it, fewer than 200"}


def test_an_epoch_chosen_by_chance_earns_nothing() -> None:
    chance = np.random.default_rng(0).standard_normal((50, 400))
    halves = np.arange(400) % 2

    found = honest(chance, halves)

    assert abs(found.mean()) < 0.1 < chance.mean(1).max()  # the best of fifty looks good to those who chose it
    assert honest(chance[:1], halves).tolist() == chance[0].tolist()
    assert honest(chance, np.zeros(400, np.int64)).tolist() == chance[chance.mean(1).argmax()].tolist()


@given(st.data())
@settings(max_examples=60)
def test_gains_of_all_lists_are_those_of_each(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 15), min_size=1, max_size=6))
    width = max(sizes)
    labels, scores = np.zeros((len(sizes), width), np.float32), np.zeros((len(sizes), width), np.float32)
    mask = np.arange(width) < np.array(sizes)[:, None]
    for place, size in enumerate(sizes):
        labels[place, :size] = data.draw(st.lists(st.sampled_from([0, 0, 1]), min_size=size, max_size=size))
        scores[place] = data.draw(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=width, max_size=width))
    targets = labels.sum(1).astype(np.int64) + data.draw(st.integers(1, 3))
    nothing = torch.zeros(len(sizes), width)
    lists = Lists(nothing[:, :, None], nothing, torch.from_numpy(labels), torch.from_numpy(mask), targets)

    found = gains_of(torch.from_numpy(scores), lists)

    each = [
        earned(own[real], label[real] > 0, int(of))
        for own, label, real, of in zip(scores, labels, mask, targets, strict=True)
    ]
    assert found == pytest.approx(each)
    chosen = np.arange(len(sizes)) % 2 == 0
    assert gains_of(torch.from_numpy(scores[chosen]), lists, chosen) == pytest.approx(found[chosen])


def test_padded_lists_hold_the_best_of_each_slate(where_they_differ: World) -> None:
    training, engine = where_they_differ
    some = gather(training, engine, 6)

    lists = padded(some, 4)

    assert lists.signals.shape[:2] == (6, 4)
    for place, example in enumerate(some):
        assert lists.labels[place].tolist() == example.relevant[:4].astype(float).tolist()
        assert lists.base[place, 0] == 0.0
        assert np.array_equal(lists.signals[place].numpy(), example.slate.columns["signals"][:4])


def test_the_temperature_is_higher_where_the_incoming_order_is_right(
    where_the_first_is_right: World, where_nothing_tells: World
) -> None:
    sure, unsure = (
        temperature_of(padded(gather(*own), 30), np.arange(400))
        for own in (where_the_first_is_right, where_nothing_tells)
    )

    assert sure > 10 * unsure


def test_a_judge_that_has_broken_down_earns_nothing() -> None:
    ones = torch.ones(2, 3)
    lists = Lists(ones[..., None], ones, torch.tensor([[0.0, 1, 0], [1, 0, 0]]), ones > 0, np.array([1, 1]))
    scores = torch.tensor([[np.nan, np.nan, np.nan], [3.0, 2.0, 1.0]])

    assert gains_of(scores, lists).tolist() == [0.0, 1.0]
