"""Every way of asking gives a number an item, whatever comes back, and order bias is seen."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise.nets.questions import Question, Reply
from tailwise.rank.modes import Opinion, asked_in_lists, asked_one_by_one, kendall_tau, spread, window_starts
from tailwise.rank.prompts import Brief, Wording
from tailwise.types import Floats, ids_of

Ask = Callable[[Question], Reply]


def brief(n: int) -> Brief:
    """Candidate n is called "n": the higher, the better."""
    return Brief("p", ("Alien",), "", ids_of([str(i) for i in range(n)]), tuple(str(i) for i in range(n)), "en")


def wording(mode: str) -> Wording:
    return Wording(mode, "", 80, 4_000)


def shown(question: Question) -> list[int]:
    """The candidates of a question, as it lists them."""
    return [int(title) for title in re.findall(r'^(?:\[\d+\]|[A-T]\)) "(\d+)"$', question.text, re.MULTILINE)]


def honest(question: Question) -> Reply:
    """Wants the highest numbers."""
    items = shown(question)
    if question.kind == "order":
        order = sorted(range(len(items)), key=lambda place: -items[place])
        return Reply(" > ".join(f"[{place + 1}]" for place in order))
    return Reply(scores=np.array(items, np.float32))


def first_wins(question: Question) -> Reply:
    """Wants what it is shown first."""
    return Reply(scores=-np.arange(len(question.options), dtype=np.float32))


def in_lists(
    mode: str,
    ask: Ask,
    n: int,
    *,
    window: int = 20,
    step: int = 10,
    seed: int | None = None,
    places: Floats | None = None,
) -> Opinion:
    chosen = np.arange(n) if places is None else places
    return asked_in_lists(brief(n), chosen, wording(mode), ask, window=window, step=step, seed=seed)


@pytest.mark.parametrize("mode", ["windows", "first_token"])
def test_one_window_orders_all(mode: str) -> None:
    opinion = in_lists(mode, honest, 6)

    assert np.argsort(-opinion.values).tolist() == [5, 4, 3, 2, 1, 0]
    assert opinion.malformed == 0


@pytest.mark.parametrize("mode", ["windows", "first_token"])
def test_windows_carry_the_best_from_the_bottom_to_the_top(mode: str) -> None:
    asked: list[Question] = []

    def ask(question: Question) -> Reply:
        asked.append(question)
        return honest(question)

    opinion = in_lists(mode, ask, 10, window=4, step=2)

    assert np.argsort(-opinion.values)[:2].tolist() == [9, 8]
    assert shown(asked[0])[0] == 6
    assert len(asked) == len(window_starts(10, 4, 2)) == 4


def test_a_single_reading_keeps_the_chances() -> None:
    opinion = in_lists("first_token", honest, 3)

    assert opinion.values.tolist() == [0, 1, 2]


def test_only_the_places_asked_about_have_a_value() -> None:
    opinion = in_lists("first_token", honest, 5, places=np.array([4, 1]))

    assert np.isfinite(opinion.values).tolist() == [False, True, False, False, True]


def test_a_window_that_cannot_be_read_keeps_its_order_and_is_counted() -> None:
    replies = iter([Reply("no idea"), Reply("[2] > [1] > [3] > [4]")])

    opinion = in_lists("windows", lambda _: next(replies), 6, window=4, step=2)

    assert opinion.malformed == 1
    assert np.argsort(-opinion.values).tolist() == [1, 0, 2, 3, 4, 5]


@pytest.mark.parametrize("mode", ["windows", "first_token"])
def test_nothing_that_can_be_read_is_no_opinion(mode: str) -> None:
    opinion = in_lists(mode, lambda _: Reply("I would rather not"), 4)

    assert np.isnan(opinion.values).all()


def test_a_model_that_wants_what_it_sees_first_is_not_trusted() -> None:
    honest_one = in_lists("first_token", honest, 12, seed=3)
    biased = in_lists("first_token", first_wins, 12, seed=3)

    assert honest_one.trust == 1.0
    assert honest_one.checked
    assert biased.trust < 0.5


def test_two_orders_are_averaged() -> None:
    opinion = in_lists("first_token", first_wins, 4, seed=2)

    order = np.random.default_rng(2).permutation(4)
    assert order.tolist() != [0, 1, 2, 3]
    second = np.empty(4)
    second[order] = [1, 1 / 3, -1 / 3, -1]
    assert opinion.values == pytest.approx((np.array([1, 1 / 3, -1 / 3, -1]) + second) / 2, abs=1e-6)


@given(st.text(max_size=60), st.integers(2, 30), st.integers(2, 10), st.integers(1, 10), st.none() | st.integers(0, 5))
def test_any_reply_gives_a_value_an_item_or_none_at_all(
    text: str, n: int, window: int, step: int, seed: int | None
) -> None:
    opinion = in_lists("windows", lambda _: Reply(text), n, window=window, step=min(step, window), seed=seed)

    known = np.isfinite(opinion.values)
    assert known.all() or not known.any()
    assert 0 <= opinion.trust <= 1


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), max_size=8), st.sampled_from(["first_token"]))
def test_any_scores_do_no_harm(values: list[float], mode: str) -> None:
    opinion = in_lists(mode, lambda _: Reply(scores=np.array(values, np.float32)), 4)

    assert len(opinion.values) == 4
    assert not np.isinf(opinion.values).any()


def test_one_by_one_is_one_question_about_all() -> None:
    asked: list[Question] = []

    def ask(question: Question) -> Reply:
        asked.append(question)
        return Reply(scores=np.array([0.5, np.inf], np.float32), malformed=1)

    opinion = asked_one_by_one(brief(4), np.array([3, 1]), wording("likelihood"), ask)

    assert len(asked) == 1
    assert np.array_equal(opinion.values, np.array([np.nan, np.nan, np.nan, 0.5], np.float32), equal_nan=True)
    assert opinion.malformed == 1


@given(st.integers(1, 200), st.integers(2, 30), st.integers(1, 30))
def test_windows_cover_every_place_and_overlap(n: int, window: int, step: int) -> None:
    step = min(step, window)

    starts = window_starts(n, window, step)

    assert starts[-1] == 0
    assert starts == sorted(starts, reverse=True)
    assert {place for start in starts for place in range(start, min(start + window, n))} == set(range(n))


def slow_tau(first: list[float], second: list[float]) -> float:
    pairs = [(i, j) for i in range(len(first)) for j in range(i)]
    signs = [np.sign(first[i] - first[j]) * np.sign(second[i] - second[j]) for i, j in pairs]
    return float(np.mean(signs)) if pairs else 1.0


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12))
def test_tau_is_the_mean_over_pairs(pairs: list[tuple[int, int]]) -> None:
    first, second = [float(a) for a, _ in pairs], [float(b) for _, b in pairs]

    assert kendall_tau(np.array(first), np.array(second)) == pytest.approx(slow_tau(first, second))


def test_spread_is_places_from_one_to_minus_one() -> None:
    out = spread(np.array([5.0, np.nan, 9.0, -2.0], np.float32))

    assert np.array_equal(out, np.array([0, np.nan, 1, -1], np.float32), equal_nan=True)
