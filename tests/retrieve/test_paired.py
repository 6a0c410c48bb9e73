"""What sources of pairs have in common: a score is the sum of what each event adds, and what it is made of is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tailwise.fakes import DictFacts
from tailwise.retrieve.paired import PairSource
from tailwise.retrieve.pairs import PairWeights
from tailwise.types import Request, ids_of

Asked = Callable[..., Request]
WEIGHTS = np.array([[0, 2, -1, 0], [2, 0, 1, 0], [-1, 1, 0, 0], [0, 0, 0, 0]], np.float32)
IDS = ids_of(list("abcd"))


@dataclass(frozen=True)
class Fading:
    decay: float | None = 1.0


class ByHand(PairSource[Fading]):
    name = "by_hand"


@pytest.fixture
def source() -> ByHand:
    return ByHand(Fading(), PairWeights(WEIGHTS), IDS)


def test_each_event_adds_its_pair_and_older_moments_less(source: ByHand, asked: Asked) -> None:
    request = asked(0, 1)

    scores = source.scores(request, np.array([0, 1, 2, 3, -1]))

    older = np.exp(-1)
    np.testing.assert_allclose(scores, [2, 2 * older, 1 - older, 0, np.nan], rtol=1e-6)
    np.testing.assert_allclose(source.contributions(request, np.array([2])), [[-older, 1]], rtol=1e-6)


def test_candidates_are_what_something_speaks_of(source: ByHand, asked: Asked) -> None:
    assert source(asked(2), 4).item_ids.tolist() == ["b", "a"]
    assert source(asked(3), 4).item_ids.tolist() == []


def test_a_decay_that_nobody_chose_yet_is_none_at_all(asked: Asked) -> None:
    undecided = ByHand(Fading(None), PairWeights(WEIGHTS), IDS)

    assert undecided.scores(asked(0, 1), np.array([2])).tolist() == [0.0]


def test_it_opens_as_it_was_saved(source: ByHand, asked: Asked, tmp_path: Path) -> None:
    source.save(tmp_path)
    opened = ByHand.open(Fading(), DictFacts({"row": dict.fromkeys(IDS, 0)}), tmp_path)

    assert opened(asked(0, 1), 4).item_ids.tolist() == source(asked(0, 1), 4).item_ids.tolist()
