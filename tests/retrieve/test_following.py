"""What follows what: a plain regression, a ring of sequels, and people who buy the same again."""

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tailwise.data.catalogue import Catalogue
from tailwise.data.holdout import hold_out
from tailwise.data.interactions import Interactions, Training
from tailwise.data.load import Dataset
from tailwise.retrieve import following
from tailwise.retrieve.following import NextItem, NextItemConfig, next_weights
from tailwise.types import Request

Acts = list[tuple[int, int, int]]
Asked = Callable[..., Request]
ITEMS = 6


def log_of(acts: Acts, count: int = ITEMS, kinds: list[str] | None = None) -> Training:
    """(person, item, time) in any order; what is done at one time is one moment."""
    frame = pl.DataFrame(
        {
            "user_id": [f"u{person}" for person, _, _ in acts],
            "item_id": [f"i{item}" for _, item, _ in acts],
            "time": [1e9 + time for _, _, time in acts],
            "event": kinds or ["view"] * len(acts),
        }
    )
    nothing = np.zeros(count, np.float32)
    catalogue = Catalogue(
        pl.DataFrame({"item_id": [f"i{row}" for row in range(count)]}),
        popularity=nothing,
        recent=nothing,
        vectors=np.zeros((count, 0), np.float32),
        tail_cut=0.2,
    )
    return Training(Interactions.of(Dataset.of("x", events=frame).events, catalogue), catalogue, 0)


def plain_weights(acts: Acts, config: NextItemConfig) -> NDArray[np.float64]:
    """Every step written out as a row of a weighted ridge regression."""
    befores, afters = [], []
    for person in sorted({who for who, _, _ in acts}):
        times = sorted({time for who, _, time in acts if who == person})
        moments = [{item for who, item, at in acts if (who, at) == (person, time)} for time in times]
        for step in range(1, len(moments)):
            before = np.zeros(ITEMS)
            for gap, moment in enumerate(moments[max(0, step - config.window) : step][::-1]):
                before[sorted(moment)] += np.exp(-config.memory * gap)
            after = np.zeros(ITEMS)
            after[sorted(moments[step])] = 1
            root = (before.sum() * after.sum()) ** -0.25
            befores.append(root * before)
            afters.append(root * after)
    if not befores:
        return np.zeros((ITEMS, ITEMS))
    left, right = np.array(befores), np.array(afters)
    ridge = config.regularisation * np.eye(ITEMS)
    return np.asarray(np.linalg.solve(left.T @ left + ridge, left.T @ right))


ACTS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, ITEMS - 1), st.integers(0, 5)), min_size=1, max_size=30)


@given(ACTS, st.floats(0.5, 50), st.sampled_from([0.0, 0.2, 1.0]), st.integers(1, 4))
@settings(max_examples=60)
def test_weights_equal_a_plain_regression(acts: Acts, regularisation: float, memory: float, window: int) -> None:
    config = NextItemConfig(regularisation=regularisation, memory=memory, window=window)

    weights = next_weights(log_of(acts).interactions, np.arange(ITEMS), config)

    assert weights.dtype == np.float32
    assert weights == pytest.approx(plain_weights(acts, config), abs=1e-5)


def test_one_step_by_hand() -> None:
    # Item 0, then items 1 and 2: the step counts 1 / sqrt(1 · 2), so with w = 1 / sqrt(2)
    # each weight is w / (w + ridge).
    weights = next_weights(
        log_of([(0, 0, 1), (0, 1, 2), (0, 2, 2)]).interactions, np.arange(ITEMS), NextItemConfig(regularisation=1.0)
    )

    share = 2**-0.5 / (2**-0.5 + 1)
    assert weights[0].tolist() == pytest.approx([0, share, share, 0, 0, 0])
    assert not weights[1:].any()


def test_work_in_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    acts = [(int(rng.integers(20)), int(rng.integers(ITEMS)), int(rng.integers(9))) for _ in range(150)]
    interactions = log_of(acts).interactions
    whole = next_weights(interactions, np.arange(ITEMS), NextItemConfig())

    monkeypatch.setattr(following, "BLOCK", 7)
    parts = next_weights(interactions, np.arange(ITEMS), NextItemConfig())

    assert parts == pytest.approx(whole, abs=1e-6)
    owners = interactions.users[interactions.moment_starts]
    blocks = list(following._blocks(owners))
    assert len(blocks) > 5
    assert all(owners[high - 1] != owners[high] for _, high in blocks[:-1])


def ring(people: int = 40) -> Acts:
    """Everybody walks round the ring of items from a place of their own."""
    return [(person, (person + step) % ITEMS, step) for person in range(people) for step in range(5)]


def test_the_sequel_comes_first_and_direction_matters(asked: Asked) -> None:
    left, held = hold_out(log_of(ring()).interactions)
    training = Training(left, log_of(ring()).catalogue, 0, held=held, targets=held.first(0))
    source = NextItem.fit(NextItemConfig(), training)

    for row in range(ITEMS):
        assert source(asked(row, excluded=(row,)), 1).columns["row"].tolist() == [(row + 1) % ITEMS]
    assert source.config.decay is not None


def test_what_is_bought_again_leads_back_to_itself(asked: Asked) -> None:
    # Bread (0) comes with every basket, a pan (1, 2, …) never again.
    acts = [(person, 0, step) for person in range(9) for step in range(4)]
    acts += [(person, 1 + (person + step) % 5, step) for person in range(9) for step in range(4)]

    source = NextItem.fit(NextItemConfig(decay=0.0, regularisation=1.0), log_of(acts))

    assert source(asked(0), 1).columns["row"].tolist() == [0]
    own = source.weights.values.diagonal()
    assert own[0] > own[1:].max() + 0.1


def test_a_log_without_times_makes_it_silent(asked: Asked) -> None:
    source = NextItem.fit(NextItemConfig(), log_of([(person, item, 0) for person in range(5) for item in range(4)]))

    assert len(source(asked(1, 2), 5)) == 0
    assert not source.scores(asked(1, 2), np.arange(ITEMS)).any()


def test_what_speaks_against_an_item_is_no_step() -> None:
    liked = next_weights(log_of([(0, 0, 1), (0, 1, 2)]).interactions, np.arange(ITEMS), NextItemConfig())
    disliked = next_weights(
        log_of([(0, 0, 1), (0, 1, 2), (0, 2, 3)], kinds=["view", "view", "dislike"]).interactions,
        np.arange(ITEMS),
        NextItemConfig(),
    )

    assert disliked[:3, :3] == pytest.approx(liked[:3, :3])
    assert not disliked[:, 2].any()


def test_only_the_most_popular_items_take_part(asked: Asked) -> None:
    acts = [*ring(), *((99, item, item) for item in (0, 1, 2))]

    source = NextItem.fit(NextItemConfig(most_items=3, decay=0.8), log_of(acts))

    assert source.weights.chosen.tolist() == [0, 1, 2]
    scores = source.scores(asked(0), np.arange(ITEMS))
    assert not scores[3:].any()
    assert scores[1] == scores.max()
    assert len(source(asked(4), 5)) == 0
