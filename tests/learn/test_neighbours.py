"""Tail items that also learn from what other people took at like moments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")

from tailwise.data.catalogue import Catalogue  # noqa: E402  after the package that may be absent
from tailwise.data.interactions import Interactions, Training  # noqa: E402
from tailwise.data.load import Dataset  # noqa: E402
from tailwise.learn.liked import LikedEvents  # noqa: E402
from tailwise.learn.members import fit_sequence  # noqa: E402
from tailwise.learn.neighbours import SHARPNESS, Bank, Neighbours  # noqa: E402
from tailwise.learn.sequence import train_sequence  # noqa: E402
from tailwise.nets.sequence import SequenceNet  # noqa: E402
from tailwise.nets.settings import LoopConfig, SequenceShape  # noqa: E402
from tailwise.rank.sequence import SequenceConfig  # noqa: E402

ITEMS, HEAD = 20, 4
TAIL = np.arange(ITEMS) >= HEAD
SHAPE = SequenceShape(dim=8, layers=1, heads=2, max_length=6, dropout=0.1)
CONFIG = SequenceConfig(
    members=1,
    shape=SHAPE,
    train=LoopConfig(epochs=4, learning_rate=0.02, warm_up_steps=2, average=0.5),
    batch_tokens=96,
)
TAUGHT = CONFIG.model_copy(update={"self_distil": 0.5})


def histories(people: int = 30) -> list[list[int]]:
    """Two head items, then a tail one, twice; the first four are the most popular."""
    rng = np.random.default_rng(3)
    return [
        [int(rng.integers(HEAD)) if step % 3 else int(rng.integers(HEAD, ITEMS)) for step in range(1, 9)]
        for _ in range(people)
    ]


def training_of(sequences: Sequence[Sequence[int]], *, baskets: bool = False) -> Training:
    events = [
        (f"u{person:02d}", f"i{row:02d}", float(step // 8 if baskets else step))
        for person, rows in enumerate(sequences)
        for step, row in enumerate(rows)
    ]
    frame = pl.DataFrame({"item_id": [f"i{row:02d}" for row in range(ITEMS)]})
    nothing = np.zeros(ITEMS, np.float32)
    catalogue = Catalogue(frame, popularity=nothing, recent=nothing, vectors=nothing[:, None], tail_cut=0.2)
    log = pl.DataFrame(events, schema=["user_id", "item_id", "time"], orient="row")
    return Training(Interactions.of(Dataset.of("turns", events=log).events, catalogue), catalogue, 5)


def net_of() -> SequenceNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return SequenceNet(SHAPE, ITEMS)


def neighbours_of(training: Training, share: float = 1.0) -> Neighbours:
    events = LikedEvents(training.interactions)
    return Neighbours(net_of(), events, share=share, tail=TAIL, length=SHAPE.max_length, seed=7)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_what_followed_the_nearest_moment_is_drawn_most() -> None:
    angles = torch.tensor([0.0, 0.5, 3.0])
    bank = Bank(torch.stack([angles.cos(), angles.sin()], 1), torch.tensor([1, 2, 3]), torch.tensor([10, 11, 12]))
    asked = torch.tensor([[5.0, 0.0]]).expand(4000, 2)  # no length of a vector counts

    drawn = bank.draw(asked, torch.zeros(4000, dtype=torch.int64), generator())

    chance = 1 / (1 + np.exp((np.cos(0.5) - 1) / SHARPNESS))  # the third is behind
    assert float((drawn == 10).float().mean()) == pytest.approx(chance, abs=0.02)
    assert not (drawn == 12).any()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(1, 6), st.integers(0, 1000))
def test_nobody_learns_from_themselves_nor_from_far_away(moments: int, people: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = torch.nn.functional.normalize(torch.from_numpy(rng.standard_normal((moments, 3))), dim=1)
    owners = torch.from_numpy(rng.integers(people, size=moments))
    bank = Bank(vectors, owners, torch.arange(moments))
    hidden, asking = torch.from_numpy(rng.standard_normal((9, 3))), torch.from_numpy(rng.integers(people, size=9))

    drawn = bank.draw(hidden, asking, generator(seed))

    for vector, person, row in zip(hidden, asking, drawn, strict=True):
        others = [m for m in range(moments) if owners[m] != person]
        nearest = sorted(others, key=lambda m: -float(vectors[m] @ vector))[:20]
        assert int(row) in nearest if others else int(row) == -1


def test_the_bank_holds_every_moment_that_a_tail_item_followed_and_no_other() -> None:
    near = neighbours_of(training_of(sequences := histories()))

    bank = near.filled(0)

    assert bank is not None
    found = sorted(zip(bank.people.tolist(), bank.followed.tolist(), strict=True))
    assert found == sorted((p, row) for p, rows in enumerate(sequences) for row in rows[1:] if TAIL[row])
    np.testing.assert_allclose(bank.vectors.norm(dim=1), 1.0, rtol=1e-5)
    assert not bank.vectors.requires_grad


def test_a_large_log_fills_the_bank_with_others_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailwise.learn.neighbours.MOMENTS", 10)
    near = neighbours_of(training_of(histories()))

    banks = [near.filled(epoch) for epoch in (0, 0, 1)]

    people = [bank.people.tolist() for bank in banks if bank is not None]
    assert [len(own) for own in people] == [10, 10, 10]
    assert people[0] == people[1] != people[2]


def test_only_tail_targets_change_and_only_to_tail_items() -> None:
    training = training_of(histories())
    events, near = LikedEvents(training.interactions), neighbours_of(training)
    near.bank = near.filled(0)
    places = np.array([place for own in events.of_people for place in own[1:]])
    targets = torch.from_numpy(events.rows[places])
    hidden = torch.randn(len(places), SHAPE.dim, generator=generator())

    taught = near.taught(hidden, targets, places, generator(1))

    changed = (taught != targets).numpy()
    assert TAIL[targets[changed]].all()
    assert TAIL[taught[changed]].all()
    assert changed[TAIL[targets]].mean() > 0.8  # by chance it is the same item


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_the_share_is_that_of_the_tail_targets(share: float) -> None:
    training = training_of(histories(200))
    events, near = LikedEvents(training.interactions), neighbours_of(training, share)
    near.bank = Bank(torch.ones(1, SHAPE.dim), torch.tensor([-1]), torch.tensor([ITEMS]))  # what nobody has
    places = np.array([place for own in events.of_people for place in own[1:]])
    targets = torch.from_numpy(events.rows[places])

    taught = near.taught(torch.ones(len(places), SHAPE.dim), targets, places, generator())

    assert float((taught == ITEMS)[TAIL[targets]].float().mean()) == pytest.approx(share, abs=0.07)


@pytest.mark.parametrize("sequences", [[[0, 1, 2, 3]] * 3, [[5]] * 3, [[0, 9, 1]]], ids=["no tail", "no past", "alone"])
def test_where_nobody_can_teach_the_targets_stay(sequences: list[list[int]]) -> None:
    training = training_of(sequences)
    events, near = LikedEvents(training.interactions), neighbours_of(training)
    near.bank = near.filled(0)
    places = np.arange(len(events.rows))
    targets = torch.from_numpy(events.rows)

    taught = near.taught(torch.ones(len(places), SHAPE.dim), targets, places, generator())

    assert torch.equal(taught, targets)


def test_the_bank_is_filled_before_the_first_batch_of_every_epoch() -> None:
    near, banks = neighbours_of(training_of(histories())), []

    for epoch in range(2):
        for _ in near.before(lambda epoch: iter([epoch, epoch]))(epoch):
            banks.append(near.bank)  # noqa: PERF401  it is a state while they pass

    assert banks[0] is banks[1] is not None
    assert banks[2] is banks[3] is not banks[0]


def test_a_fit_learns_otherwise_with_it_and_the_same_again(tmp_path: Path) -> None:
    training = training_of(histories())

    without, one, again = (fit_sequence(config, training) for config in (CONFIG, TAUGHT, TAUGHT))

    assert not np.array_equal(one.table, without.table)
    np.testing.assert_array_equal(one.table, again.table)
    stored = replace(training, folder=tmp_path)
    train_sequence(TAUGHT.model_copy(update={"train": CONFIG.train.model_copy(update={"epochs": 2})}), stored)
    resumed, _ = train_sequence(TAUGHT, stored)
    np.testing.assert_array_equal(resumed.table().detach().numpy(), one.trained[0].weights["ids.weight"])


@pytest.mark.parametrize("named", [{"loss": "gbce"}, {"full_softmax_up_to": 1}, {"baskets": True}], ids=str)
def test_it_teaches_with_every_loss_and_in_baskets_too(named: dict[str, object]) -> None:
    settings = {"negatives": 8, **named}
    baskets = bool(settings.pop("baskets", False))
    sequences = [[*first, *second] for first, second in zip(histories(), histories()[::-1], strict=True)]
    training = training_of(sequences, baskets=baskets)

    with_it, without = (
        train_sequence(config.model_copy(update=settings), training)[0].table() for config in (TAUGHT, CONFIG)
    )

    assert with_it.isfinite().all()
    assert not torch.equal(with_it, without)
