"""Nobody waits longer than they want, nothing is asked twice, and what fails, is late or costs too much is counted."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest

from tailwise.errors import Abstain, UnavailableError
from tailwise.nets.questions import Backend, Kind, Question, Reply
from tailwise.rank.breaker import Breaker, BreakerConfig
from tailwise.rank.budget import Budget, BudgetConfig
from tailwise.rank.counsel import Counsel
from tailwise.rank.modes import Ask, Opinion
from tailwise.rank.opinions import CacheConfig, Opinions
from tailwise.rank.prompts import Brief
from tailwise.types import Rows, ids_of


class Model:
    """Answers as a function says, from a thread of its own."""

    remote = False
    kinds: frozenset[Kind] = frozenset({"continue"})
    fingerprint = "model"

    def __init__(self, answer: Callable[[Question], Reply]) -> None:
        self.answer = answer
        self.asked = 0

    def ask(self, question: Question, timeout_s: float) -> Reply:
        assert timeout_s > 0
        self.asked += 1
        return self.answer(question)


def liked(question: Question) -> Reply:
    return Reply(scores=np.array([float(len(option)) for option in question.options], np.float32), tokens_in=7)


def way(brief: Brief, places: Rows, ask: Ask) -> Opinion:
    reply = ask(Question("continue", "x", options=tuple(brief.items[place] for place in places)))
    values = np.full(len(brief.items), np.nan, np.float32)
    values[places] = np.nan if reply.scores is None else reply.scores
    return Opinion(values, malformed=reply.malformed)


def brief(*items: str, profile: str = "p") -> Brief:
    return Brief(profile, ("Alien",), "", ids_of([f"i-{item}" for item in items]), items, "en")


def counsel(
    backend: Backend,
    *,
    in_flight: int = 2,
    timeout_s: float = 5.0,
    enough: float | None = None,
    failures: int = 3,
    **budget: float,
) -> Counsel:
    return Counsel(
        backend,
        opinions=Opinions(CacheConfig()),
        breaker=Breaker(BreakerConfig(failures=failures)),
        budget=Budget(BudgetConfig.model_validate(budget)),
        in_flight=in_flight,
        timeout_s=timeout_s,
        enough=enough,
        dialect="d",
    )


def test_an_opinion_comes_and_is_not_asked_for_again() -> None:
    model = Model(liked)
    asked = counsel(model)

    first = asked.opinion(brief("a", "bbb", ""), way, 5)
    again = asked.opinion(brief("bbb", "a"), way, 5)

    assert np.array_equal(first.values, [1, 3, np.nan], equal_nan=True)
    assert again.values.tolist() == [3, 1]
    assert model.asked == 1
    assert asked.counts["cache_hits"] == 1
    assert asked.counts["tokens_in"] == 7


def test_only_what_is_unknown_is_asked_about() -> None:
    seen: list[tuple[str, ...]] = []

    def answer(question: Question) -> Reply:
        seen.append(question.options)
        return liked(question)

    asked = counsel(Model(answer))
    asked.opinion(brief("a", "bb"), way, 5)

    found = asked.opinion(brief("bb", "cccc", "a"), way, 5)

    assert seen == [("a", "bb"), ("cccc",)]
    assert found.values.tolist() == [2, 4, 1]


def test_in_a_list_all_are_asked_about_unless_enough_is_known() -> None:
    model = Model(liked)
    asked = counsel(model, enough=0.7)
    asked.opinion(brief("a", "bb", "ccc"), way, 5)

    enough = asked.opinion(brief("a", "bb", "ccc", "dddd"), way, 5)
    assert model.asked == 1
    few = asked.opinion(brief("a", "bb", "dddd", "eeeee"), way, 5)

    assert np.array_equal(enough.values, [1, 2, 3, np.nan], equal_nan=True)
    assert few.values.tolist() == [1, 2, 4, 5]
    assert model.asked == 2


def test_another_profile_is_another_opinion() -> None:
    model = Model(liked)
    asked = counsel(model)

    asked.opinion(brief("a", "bb"), way, 5)
    asked.opinion(brief("a", "bb", profile="q"), way, 5)

    assert model.asked == 2


def test_a_late_answer_serves_the_next_request() -> None:
    gate, answered = threading.Event(), threading.Event()

    def answer(question: Question) -> Reply:
        gate.wait(10)
        answered.set()
        return liked(question)

    model = Model(answer)
    asked = counsel(model)

    with pytest.raises(TimeoutError):
        asked.opinion(brief("a", "bb"), way, 0.01)
    gate.set()
    answered.wait(10)
    found = asked.opinion(brief("a", "bb"), way, 10)

    assert found.values.tolist() == [1, 2]
    assert model.asked == 1
    assert asked.counts["late"] == 1


def test_who_asks_the_same_meanwhile_waits_for_the_same_answer() -> None:
    gate = threading.Event()

    def answer(question: Question) -> Reply:
        gate.wait(10)
        return liked(question)

    model = Model(answer)
    asked = counsel(model, in_flight=1)
    with pytest.raises(TimeoutError):
        asked.opinion(brief("a", "bb"), way, 0.01)
    with pytest.raises(TimeoutError):
        asked.opinion(brief("a", "bb"), way, 0.01)
    gate.set()

    assert asked.opinion(brief("a", "bb"), way, 10).values.tolist() == [1, 2]
    assert model.asked == 1


def test_when_too_many_are_asking_the_next_one_is_turned_away_at_once() -> None:
    gate = threading.Event()

    def answer(question: Question) -> Reply:
        gate.wait(10)
        return liked(question)

    asked = counsel(Model(answer), in_flight=2)
    for profile in ("1", "2"):
        with pytest.raises(TimeoutError):
            asked.opinion(brief("a", "b", profile=profile), way, 0.001)

    with pytest.raises(Abstain, match=r"^busy: 2 opinions are being asked for$"):
        asked.opinion(brief("a", "b", profile="3"), way, 60)

    assert asked.counts["busy"] == 1
    assert asked.counts["in_flight"] == 2
    gate.set()


def test_failures_open_the_breaker_and_nobody_asks_any_more() -> None:
    def answer(question: Question) -> Reply:
        raise UnavailableError("host:1 cannot be asked: ConnectError")

    model = Model(answer)
    asked = counsel(model, failures=2)
    for profile in ("1", "2"):
        with pytest.raises(UnavailableError, match=r"^host:1 cannot be asked: ConnectError$"):
            asked.opinion(brief("a", "b", profile=profile), way, 5)

    with pytest.raises(Abstain, match=r"^breaker: open after 2 failures, next try in 30 s$"):
        asked.opinion(brief("a", "b", profile="3"), way, 5)

    assert model.asked == 2
    assert (asked.counts["failed"], asked.counts["broken"], asked.counts["breaker"]) == (2, 1, 2)


def test_a_reply_that_cannot_be_read_is_a_failure_and_counted_as_malformed() -> None:
    asked = counsel(Model(lambda _: Reply("prose", malformed=1)))

    with pytest.raises(UnavailableError, match=r"^no opinion could be read from what the model replied$"):
        asked.opinion(brief("a", "b"), way, 5)

    assert (asked.counts["failed"], asked.counts["malformed"]) == (1, 1)


def test_a_model_that_takes_its_whole_time_does_not_answer() -> None:
    def answer(question: Question) -> Reply:
        raise TimeoutError("host took longer than 1 s")

    asked = counsel(Model(answer))

    with pytest.raises(UnavailableError, match=r"^host took longer than 1 s$"):
        asked.opinion(brief("a", "b"), way, 5)

    assert asked.counts["late"] == 0


def test_an_error_that_nobody_thought_of_reaches_who_waits_and_frees_the_place() -> None:
    def answer(question: Question) -> Reply:
        raise ZeroDivisionError("odd")

    asked = counsel(Model(answer), in_flight=1)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError, match=r"^odd$"):
            asked.opinion(brief("a", "b"), way, 5)

    assert asked.counts["in_flight"] == 0


def test_a_spent_budget_is_no_failure_of_the_model() -> None:
    model = Model(liked)
    asked = counsel(model, tokens_per_minute=1)

    for _ in range(5):
        with pytest.raises(Abstain, match=r"^budget: 1 tokens a minute are spent$"):
            asked.opinion(brief("a", "b"), way, 5)

    assert model.asked == 0
    assert (asked.counts["over_budget"], asked.counts["breaker"]) == (5, 0)


def test_all_questions_of_an_opinion_share_its_time() -> None:
    def endless(told: Brief, places: Rows, ask: Ask) -> Opinion:
        while True:
            ask(Question("continue", "x", options=("a",)))

    asked = counsel(Model(liked), timeout_s=0.05)

    with pytest.raises(UnavailableError, match=r"^the opinion took longer than 0.05 s$"):
        asked.opinion(brief("a", "b"), endless, 5)


def test_many_threads_get_what_is_theirs() -> None:
    asked = counsel(Model(liked), in_flight=64)
    found: dict[int, list[float]] = {}

    def ask(n: int) -> None:
        found[n] = asked.opinion(brief("a", "b" * n, profile=str(n % 7)), way, 10).values.tolist()

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(1, 40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == {n: [1.0, float(n)] for n in range(1, 40)}
    assert asked.counts["in_flight"] == 0
