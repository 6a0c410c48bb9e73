"""Worlds in which it is known whom an opinion helps: the gate must find them, and nobody else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.data.interactions import Training
from tailwise.errors import ShapeError
from tailwise.learn.gate import LEAST_CASES, WEIGHTS, cases_by_length, curves_of, fit_gate
from tailwise.learn.slates import Example, earned
from tailwise.pipeline import Engine
from tailwise.rank.gate import BUCKETS, LEAST_GAIN, Gate, blended, bucket
from tailwise.types import Event, Floats, History, Request, Slate, ids_of

World = tuple[Training, Engine]
N = 12
LENGTHS = (3, 12, 30, 80)
"""One in each bucket of people with a history."""


def case(person: int, length: int, rng: np.random.Generator) -> Example:
    """A slate whose order says something of the target."""
    scores = np.sort(rng.standard_normal(N).astype(np.float32))[::-1]
    chance = np.exp(scores) / np.exp(scores).sum()
    relevant = np.arange(N) == rng.choice(N, p=chance)
    past = History.of([Event("", f"h{time}", time) for time in range(length)]).place(np.arange(length))
    return Example(person, Request("r", history=past), Slate(ids_of([f"i{n}" for n in range(N)]), scores), relevant, 1)


def world(count: int, says: Callable[[Example, Floats], Floats], seed: int = 0) -> tuple[list[Example], list[Floats]]:
    """Cases of every length in turn, and what is said of each, given noise."""
    rng = np.random.default_rng(seed)
    cases = [case(person, LENGTHS[person % len(LENGTHS)], rng) for person in range(count)]
    return cases, [says(each, rng.standard_normal(N).astype(np.float32)) for each in cases]


def is_short(example: Example) -> bool:
    return len(example.request.past) <= 20


def good_for_short(example: Example, noise: Floats) -> Floats:
    """Knows the target of short histories, and takes the wrong one for long ones."""
    wanted = example.relevant.astype(np.float32)
    return noise + 4 * (wanted if is_short(example) else -wanted)


def oracle(example: Example, noise: Floats) -> Floats:
    return noise * 0.01 + example.relevant


def chance(example: Example, noise: Floats) -> Floats:
    return noise


def test_an_opinion_that_is_good_for_short_histories_is_asked_for_those_alone() -> None:
    examples, opinions = world(400, good_for_short)

    gate, notes = fit_gate(examples, opinions, depth=N, seed=0)

    assert gate.weights[1] > 1
    assert gate.weights[2] > 1
    assert gate.weights[3:] == (0.0, 0.0)
    assert gate.weights[0] == 0  # nobody was without a history
    assert notes["decision"] == "asked where it helps"
    assert 0.4 < float(notes["share of requests asked"]) <= 0.5
    assert float(notes["ndcg@10 after (cross-fitted)"]) > float(notes["ndcg@10 before"]) + 0.1
    assert float(notes["ndcg@10 after (cross-fitted)"]) > float(notes["ndcg@10 of the opinion alone"]) + 0.1


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_an_opinion_that_is_noise_is_not_asked_though_chance_favours_it_somewhere(seed: int) -> None:
    examples, opinions = world(600, chance, seed)

    gate, notes = fit_gate(examples, opinions, depth=N, seed=seed)

    assert max(gate.weights) == 0.0
    assert float(notes["ndcg@10 after (cross-fitted)"]) == float(notes["ndcg@10 before"])


def test_an_oracle_is_always_asked_and_decides() -> None:
    examples, opinions = world(200, oracle)

    gate, notes = fit_gate(examples, opinions, depth=N, seed=0)

    assert min(gate.weights[1:]) >= 1.0
    assert notes["share of requests asked"] == 1.0
    assert notes["ndcg@10 after (cross-fitted)"] == pytest.approx(1.0, abs=0.01)


def test_few_cases_ask_nothing() -> None:
    examples, opinions = world(LEAST_CASES - 1, oracle)

    gate, notes = fit_gate(examples, opinions, depth=N, seed=0)

    assert gate == Gate(depth=N)
    assert notes == {
        "decision": "not asked: 39 cases could teach it, fewer than 40",
        "share of requests asked": 0.0,
    }


def test_a_bucket_without_a_case_does_as_its_neighbours_but_strangers_have_none() -> None:
    examples, opinions = world(400, oracle)
    some = [place for place, example in enumerate(examples) if len(example.request.past) in {12, 30}]

    gate, _ = fit_gate([examples[place] for place in some], [opinions[place] for place in some], depth=N, seed=0)

    assert gate.weights[0] == 0
    assert gate.weights[1] == gate.weights[2] > 1
    assert gate.weights[4] == gate.weights[3] > 1


def test_people_with_a_short_history_do_not_do_as_those_without_one() -> None:
    rng = np.random.default_rng(0)
    strangers = [case(person, 0, rng) for person in range(200)]

    gate, _ = fit_gate(strangers, [each.relevant.astype(np.float32) for each in strangers], depth=N, seed=0)

    assert gate.weights[0] >= 1
    assert gate.weights[1:] == (0.0,) * 4


def test_a_bucket_of_a_few_is_not_led_by_them() -> None:
    examples, opinions = world(400, good_for_short)
    # Of the people with 21-50 events three are left, whom the opinion served well by chance.
    kept = [place for place, example in enumerate(examples) if len(example.request.past) != 30]
    few = [place for place, example in enumerate(examples) if len(example.request.past) == 30][:3]
    for place in few:
        opinions[place] = examples[place].relevant.astype(np.float32)
    longs = [place for place in kept if not is_short(examples[place])]
    chosen = longs + few

    gate, _ = fit_gate([examples[p] for p in chosen], [opinions[p] for p in chosen], depth=N, seed=0)

    assert gate.weights[3] == 0


def test_the_rule_leaves_out_those_whom_the_opinion_harms() -> None:
    """Of one bucket, the opinion is right where nobody touched the candidates, and wrong where all are known."""
    examples, opinions = world(800, chance)
    for place, example in enumerate(examples):
        popularity, sign = (np.zeros(N, np.float32), 6.0) if place % 3 else (np.ones(N, np.float32), -6.0)
        examples[place] = Example(
            example.person, example.request, example.slate.add(popularity=popularity), example.relevant, 1
        )
        opinions[place] = opinions[place] + sign * example.relevant

    gate, notes = fit_gate(examples, opinions, depth=N, seed=0)

    assert gate.rule is not None
    assert float(notes["share of requests asked"]) == pytest.approx(2 / 3, abs=0.05)
    asked = [gate.weight(example.request, example.slate) > 0 for example in examples]
    assert np.mean([own == bool(place % 3) for place, own in enumerate(asked)]) > 0.95


def test_a_bucket_that_gains_less_than_it_must_is_not_asked() -> None:
    examples, opinions = world(400, oracle)

    eager, thrifty, stingy = (
        fit_gate(examples, opinions, depth=N, seed=0, **least)[0]
        for least in ({}, {"least_gain": 0.2}, {"least_gain": 0.9})
    )

    assert (eager.least_gain, stingy.least_gain) == (LEAST_GAIN, 0.9)
    assert min(thrifty.weights[1:]) > 1
    assert max(stingy.weights) == 0


def test_the_same_seed_gives_the_same_gate() -> None:
    examples, opinions = world(200, good_for_short)

    assert fit_gate(examples, opinions, depth=N, seed=3) == fit_gate(examples, opinions, depth=N, seed=3)


def test_opinions_must_be_those_of_the_examples() -> None:
    examples, opinions = world(50, chance)

    with pytest.raises(ShapeError, match=r"^there are 49 opinions, but 50 examples$"):
        fit_gate(examples, opinions[1:], depth=N, seed=0)


@given(st.integers(0, 10_000), st.integers(2, N))
@settings(max_examples=30)
def test_a_curve_is_what_each_blend_earns(seed: int, depth: int) -> None:
    examples, opinions = world(3, good_for_short, seed)

    curves, before = curves_of(examples, opinions, depth)

    for place, (example, opinion) in enumerate(zip(examples, opinions, strict=True)):
        for at, weight in enumerate(WEIGHTS):
            after = blended(example.slate, opinion[:depth], weight)
            relevant = np.isin(after.item_ids, example.slate.item_ids[example.relevant])
            assert curves[place, at] + before[place] == pytest.approx(earned(-np.arange(N), relevant, 1))
    assert (curves[:, 0] == 0).all()


def test_cases_by_length_fill_every_bucket_that_the_histories_reach(long_histories: World) -> None:
    training, engine = long_histories

    examples = cases_by_length(training, engine, most=90, depth=20)

    lengths = [len(example.request.past.liked()) for example in examples]
    counts = np.bincount([bucket(length) for length in lengths], minlength=len(BUCKETS))
    assert counts[0] == 0
    assert counts[1:4].min() >= 18
    for example in examples:
        assert len(example.slate) <= 20
        before = set(training.past(example.person).rows)  # whether they were cut off or not
        assert not before & set(example.slate.columns["row"][~example.relevant])
