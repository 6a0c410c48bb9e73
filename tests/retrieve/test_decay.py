"""How what is older fades: by moments, and as fast as held-out people say."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.data.holdout import hold_out
from tailwise.data.interactions import Training
from tailwise.data.scores import gains
from tailwise.retrieve.decay import (
    AGAINST_WEIGHT,
    DECAYS,
    _earned,
    best_decay,
    history_weights,
    weights_by_decay,
    weights_without,
)
from tailwise.retrieve.pairs import PairWeights
from tailwise.types import AGAINST, Event, Floats, History


def history(events: list[tuple[int, str]]) -> History:
    past = History.of([Event("", str(row), float(n), kind) for n, (row, kind) in enumerate(events)])
    return past.place(np.array([row for row, _ in events], np.int64))


def chosen_by(training: Training, dense: Floats) -> float:
    return best_decay(training, PairWeights(dense).by_decay)


def test_newer_counts_more_dislikes_count_against_and_unknown_items_not_at_all() -> None:
    weights = history_weights(history([(0, "view"), (1, "dislike"), (-1, "view"), (2, "purchase")]), math.log(2))

    assert weights.tolist() == pytest.approx([1 / 8, AGAINST_WEIGHT / 4, 0.0, 1.0])


def test_weights_are_worked_out_once_of_a_history_and_nobody_can_change_them() -> None:
    past = history([(0, "view"), (1, "view")])

    once = history_weights(past, 0.1)

    assert history_weights(past, 0.1) is once
    assert history_weights(past, 0.2)[0] < once[0]
    assert history_weights(past.place(np.array([-1, 1])), 0.1).tolist() == [0.0, 1.0]  # other rows, other weights
    with pytest.raises(ValueError, match=r"^assignment destination is read-only$"):
        once[0] = 2.0


def test_a_basket_is_one_step_back_however_large() -> None:
    times = [1.0, 2.0, 2.0, 2.0, 5.0, 5.0]
    past = History.of([Event("", str(row), time) for row, time in enumerate(times)]).place(np.arange(6))

    assert past.moments_ago.tolist() == [2, 1, 1, 1, 0, 0]
    assert history_weights(past, math.log(2)).tolist() == pytest.approx([0.25, 0.5, 0.5, 0.5, 1, 1])


def test_without_times_all_events_weigh_alike() -> None:
    past = History.of([Event("", str(row), 0.0) for row in range(4)]).place(np.arange(4))

    assert history_weights(past, 1.6).tolist() == [1, 1, 1, 1]
    assert past.take(slice(0, 0)).moments_ago.tolist() == []


@given(st.lists(st.tuples(st.integers(-1, 6), st.integers(0, 4), st.sampled_from(["view", "dislike", "skip"]))))
def test_weights_equal_a_plain_count_of_later_times(events: list[tuple[int, int, str]]) -> None:
    events = sorted(events, key=lambda event: event[1])
    past = History.of([Event("", str(row), float(time), kind) for row, time, kind in events])
    past = past.place(np.array([row for row, _, _ in events], np.int64))

    weights = history_weights(past, 0.3)

    later = [len({other for _, other, _ in events if other > time}) for _, time, _ in events]
    plain = [
        (AGAINST_WEIGHT if kind in AGAINST else 1.0) * math.exp(-0.3 * ago) * (row >= 0)
        for (row, _, kind), ago in zip(events, later, strict=True)
    ]
    assert weights.tolist() == pytest.approx(plain)
    assert weights.dtype == np.float32
    assert weights_by_decay(past).tolist() == [history_weights(past, decay).tolist() for decay in DECAYS]


def held_out(training_of: Callable[..., Training], pairs: list[tuple[int, int]]) -> Training:
    """Eight items; everybody's last event is held out."""
    every = training_of(pairs, 8)
    left, held = hold_out(every.interactions, cases=1)
    return Training(left, every.catalogue, 0, targets=held.first(0), held=held)


def test_the_best_decay_is_the_one_that_earns_most(training_of: Callable[..., Training]) -> None:
    # The last item says what comes next; the two before it mislead.
    pairs = [(person, item) for person in range(6) for item in (0, 1, 2, 3 + person % 2, 5 + person % 2)]
    training = held_out(training_of, pairs)
    dense = np.zeros((8, 8), np.float32)
    dense[3, 5] = dense[4, 6] = 1.0
    dense[:3, 7] = 0.4
    weights = PairWeights(dense)

    decay = chosen_by(training, dense)

    people, wanted = training.judged()
    earned = []
    for each in DECAYS:
        scores = np.stack([weights.scores(training.past(person), each) for person in people])
        earned.append(gains(scores, wanted, training.seen(people)).sum())
    assert decay == DECAYS[int(np.argmax(earned))]
    assert earned[0] < max(earned)
    assert decay > 0


def test_what_earns_as_much_to_within_chance_looks_further_back(training_of: Callable[..., Training]) -> None:
    # From decay 0.2 on the first person's target rises from the third place to the first, and the second's falls to
    # the second; the others' stays where it is.
    pasts = [(0, 1), (2, 3), *[(4, 5)] * 8]
    training = held_out(training_of, [(person, item) for person, past in enumerate(pasts) for item in (*past, 7)])
    dense = np.zeros((8, 8), np.float32)
    dense[0, [5, 6]] = dense[2, 7] = 1.0
    dense[1, 7] = dense[3, 4] = 0.9

    assert chosen_by(training, dense) == 0.0

    dense[2, 7] = 3.0  # the second's stays first as well: now some decay is surely better

    assert chosen_by(training, dense) == 0.2


def test_targets_of_one_basket_do_not_stand_in_each_others_way(training_of: Callable[..., Training]) -> None:
    # Of a basket of two, the weights know one from the last item and the other from the first: every decay finds
    # both at the top, unless one of them counts as ahead of the other.
    training = held_out(training_of, [(person, item) for person in range(6) for item in (0, 1, 2, 3)])
    held = training.cases()
    both = replace(held, targets=tuple(np.array([5, 6]) for _ in range(len(held))))
    dense = np.zeros((8, 8), np.float32)
    dense[0, 5] = dense[2, 6] = 1.0

    earned = [chosen_by(replace(training, held=cases), dense) for cases in (held, both)]

    assert earned == [0.0, 0.0]  # the first of those that earn alike
    scores = np.array([[0, 0, 0, 0, 0, 1, 2, 0]], np.float32)
    assert _earned(scores, np.array([5, 6]), np.array([0])).tolist() == [1.0]


@pytest.mark.parametrize(
    ("targets", "seen", "gain"), [([3], [], 1 / math.log2(2.5)), ([3], [5], 1.0), ([3], [3, 5], 1)]
)
def test_a_tie_counts_half_and_what_was_seen_stands_in_nobodys_way(
    targets: list[int], seen: list[int], gain: float
) -> None:
    scores = np.array([[0, 0, 0, 1, 0, 1]], np.float32)

    assert _earned(scores, np.array(targets), np.array(seen, np.int64)).tolist() == pytest.approx([gain])


def test_without_anyone_to_ask_the_middle_decay_is_taken(board: Training) -> None:
    everyone = Training(board.interactions, board.catalogue, 0)

    assert chosen_by(everyone, np.eye(12, dtype=np.float32)) == DECAYS[len(DECAYS) // 2]


@given(
    st.lists(
        st.tuples(st.integers(-1, 4), st.integers(0, 6), st.sampled_from(["click", "skip"])), min_size=1, max_size=9
    ),
    st.sampled_from([0.0, 0.3, 1.6]),
    st.booleans(),
)
@settings(max_examples=150)
def test_weights_without_an_item_are_those_of_the_history_without_it(
    events: list[tuple[int, int, str]], decay: float, apart: bool
) -> None:
    if apart:  # each item once, and one at a time
        events = [(row, time, kind) for time, (row, kind) in enumerate({row: kind for row, _, kind in events}.items())]
    past = History.of([Event("", str(row), float(time), kind) for row, time, kind in events])
    past = past.place(np.array([int(item) for item in past.item_ids], np.int64))
    items = np.arange(5)

    weights, older = weights_without(past, decay, items)

    for item in items:
        kept = past.rows != item
        np.testing.assert_allclose(weights[item][kept], history_weights(past.take(kept), decay), rtol=1e-5)
        assert not weights[item][~kept].any()
        gone = len(np.unique(past.times)) - len(np.unique(past.times[kept]))
        assert older[item] == pytest.approx(np.exp(decay * gone), rel=1e-5)
