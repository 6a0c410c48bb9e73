"""Shapley values: by hand, against every order of arrival, and adding up whatever the stages do."""

from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise import registry
from tailwise.config import Step
from tailwise.pipeline import Engine
from tailwise.pipeline.binding import SIGNALS, Bound
from tailwise.pipeline.shapley import KINDS, SOURCES, judges, kind_of, scored, shapley, silenced, weights_of
from tailwise.pipeline.signals import signal_names
from tailwise.rank.fusion import Fusion, FusionConfig
from tailwise.types import Request, Slate, ids_of


def every(players: int) -> np.ndarray:
    return np.array([[bool(n >> p & 1) for p in range(players)] for n in range(2**players)])


@given(st.integers(1, 5), st.integers(0, 99))
def test_it_equals_the_mean_over_every_order(players: int, seed: int) -> None:
    worth = np.random.default_rng(seed).normal(size=2**players)

    values = weights_of(every(players)) @ worth

    gains = np.zeros(players)
    orders = list(permutations(range(players)))
    for order in orders:
        there = 0
        for player in order:
            gains[player] += worth[there | 1 << player] - worth[there]
            there |= 1 << player
    assert values == pytest.approx(gains / len(orders), abs=1e-9)
    assert values.sum() == pytest.approx(worth[-1] - worth[0], abs=1e-9)


def slate(**columns: list[float]) -> Slate:
    n = len(next(iter(columns.values())))
    made = {name: np.array(column, np.float32) for name, column in columns.items()}
    return Slate(ids_of([f"i{place}" for place in range(n)]), np.zeros(n, np.float32), made)


def bound(run: object, key: str = "it") -> Bound:
    return Bound(key, Step(name=key), run)


def test_of_a_sum_each_kind_gets_its_own_part() -> None:
    fusion = Fusion(FusionConfig(), {"ease": 2.0, "text": 1.0, "item_knn": 1.0})
    asked = slate(score_ease=[1.0, 0.0], score_text=[0.0, 4.0], score_item_knn=[3.0, 1.0])

    kinds, values, silent = shapley(Request("r"), asked, [bound(fusion)], signals=())

    assert kinds == ("collaborative", "text")
    assert values.tolist() == [[3.0, -3.0], [-1.0, 1.0]]
    assert silent.tolist() == [0.0, 0.0]


@dataclass(frozen=True)
class Product:
    """A judge that is no sum."""

    needs: frozenset[str] = frozenset({"score_ease", "score_text"})
    gives: frozenset[str] = frozenset()

    def __call__(self, request: Request, slate: Slate) -> Slate:
        columns = [np.nan_to_num(slate.columns[name]) for name in ("score_ease", "score_text")]
        return slate.score(columns[0] * columns[1])


def test_of_a_product_both_get_half() -> None:
    kinds, values, _ = shapley(
        Request("r"), slate(score_ease=[2.0, 1.0], score_text=[3.0, 0.0]), [bound(Product())], signals=()
    )

    assert kinds == ("collaborative", "text")
    assert values.tolist() == [[3.0, 0.0], [3.0, 0.0]]


@pytest.mark.parametrize("past", [True, False])
def test_values_add_up_to_the_score_less_what_is_there_without_any(tiny_engine: Engine, past: bool) -> None:
    user = str(tiny_engine.people.user_ids[0]) if past else "nobody"
    seen: list[tuple[str, Request, Slate]] = []
    tiny_engine.answer(Request("r", user_id=user), watch=lambda *step: seen.append(step))
    _, request, first = seen[0]
    stages = judges(tiny_engine.stages, frozenset(bound.key for bound in tiny_engine.stages))
    names = signal_names(tiny_engine.sources, tiny_engine.catalogue, tiny_engine.contexts)

    kinds, values, silent = shapley(request, first, stages, signals=names)

    assert stages
    assert {"collaborative", "text", "popularity"} <= set(kinds)  # the sequence where a judge that is used asks it
    assert len(set(kinds)) == len(kinds)
    assert np.abs(values).sum() > 0 or not past  # of a stranger a judge that does not ask what is popular says nothing
    assert silent + values.sum(axis=0) == pytest.approx(scored(request, first, stages), abs=1e-4)


def test_only_what_judges_by_signals_is_asked_again(tiny_engine: Engine) -> None:
    ran = frozenset(bound.key for bound in tiny_engine.stages)

    found = [bound.key for bound in judges(tiny_engine.stages, ran)]

    assert "fusion" in found
    assert not {"mmr", "dpp", "exposure", "rules", "reasons"} & set(found)
    assert "fusion" not in [bound.key for bound in judges(tiny_engine.stages, ran - {"fusion"})]


def test_what_is_silenced_says_nothing_of_any_candidate(tiny_engine: Engine) -> None:
    names = signal_names(tiny_engine.sources, tiny_engine.catalogue)
    first = tiny_engine.candidates(Request("r", user_id=str(tiny_engine.people.user_ids[0])))

    quiet = silenced(first, frozenset(KINDS), [kind_of(name) for name in names])

    assert quiet.columns[SIGNALS].std(axis=0) == pytest.approx(0.0, abs=1e-5)
    assert all(np.isnan(column).all() for name, column in quiet.columns.items() if name.startswith("score_"))
    assert silenced(first, frozenset(), []).columns[SIGNALS] is not None


def test_every_signal_has_a_kind_and_a_foreign_source_is_other(tiny_engine: Engine) -> None:
    names = signal_names(tiny_engine.sources, tiny_engine.catalogue)

    assert {"collaborative", "sequence", "text", "popularity"} <= {kind_of(name) for name in names}
    assert SOURCES.keys() <= registry.SOURCES.keys()
    assert kind_of("score taste") == "other"
    assert kind_of("taste to the last 5") == "other"


def test_an_empty_slate_has_no_values() -> None:
    _, values, silent = shapley(
        Request("r"),
        replace(slate(score_ease=[1.0], score_text=[1.0]).take(np.array([], int))),
        [bound(Product())],
        signals=(),
    )

    assert values.size == silent.size == 0
