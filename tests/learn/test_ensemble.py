"""Ensembles in a world where each item is followed by the next one, and a student that learns from two teachers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")

from tailwise.data.catalogue import Catalogue  # noqa: E402  after the package that may be absent
from tailwise.data.interactions import Interactions, Training  # noqa: E402
from tailwise.data.load import Dataset  # noqa: E402
from tailwise.learn.ensemble import fit_ensemble, imitation_loss  # noqa: E402
from tailwise.learn.losses import softmax_loss  # noqa: E402
from tailwise.nets.settings import LoopConfig, SequenceShape  # noqa: E402
from tailwise.rank.ensemble import Ensemble, EnsembleConfig  # noqa: E402
from tailwise.rank.sequence import SequenceConfig  # noqa: E402
from tailwise.types import Event, History, Request, Rows  # noqa: E402

ITEMS = 16
MEMBER = SequenceConfig(
    shape=SequenceShape(dim=16, layers=1, heads=2, max_length=8, dropout=0.1),
    train=LoopConfig(epochs=8, learning_rate=0.02, warm_up_steps=5, average=0.5, patience=8),
    batch_tokens=128,
    finish=1.0,
)
SMALL = EnsembleConfig(seeds=2, member=MEMBER)


def chains(people: int = 120) -> list[list[int]]:
    rng = np.random.default_rng(1)
    starts, lengths = rng.integers(ITEMS, size=people), rng.integers(4, 9, size=people)
    return [[(start + step) % ITEMS for step in range(length)] for start, length in zip(starts, lengths, strict=True)]


def training_of(sequences: list[list[int]], *, held_out: bool = True) -> Training:
    """People with these rows as their past; the last of each is what is to be predicted."""
    kept = [rows[:-1] for rows in sequences] if held_out else sequences
    events = pl.DataFrame(
        [(f"u{p:03d}", f"i{row:02d}", float(t)) for p, rows in enumerate(kept) for t, row in enumerate(rows)],
        schema=["user_id", "item_id", "time"],
        orient="row",
    )
    nothing = np.zeros(ITEMS, np.float32)
    frame = pl.DataFrame({"item_id": [f"i{row:02d}" for row in range(ITEMS)]})
    catalogue = Catalogue(frame, popularity=nothing, recent=nothing, vectors=nothing[:, None], tail_cut=0.2)
    interactions = Interactions.of(Dataset.of("chains", events=events).events, catalogue)
    targets = np.array([rows[-1] for rows in sequences]) if held_out else None
    return Training(interactions, catalogue, 5, targets=targets)


def asked(*rows: int) -> Request:
    past = History.of([Event("u", f"i{row:02d}", float(step)) for step, row in enumerate(rows)])
    return Request("r", history=past.place(np.array(rows, np.int64)), excluded=np.array(rows, np.int64))


def next_after(run: Ensemble, *rows: int) -> Rows:
    return run(asked(*rows), 3).columns["row"]


def all_right(run: Ensemble) -> bool:
    return all(next_after(run, row - 2, row - 1, row)[0] == row + 1 for row in range(2, ITEMS - 1))


@pytest.fixture(scope="module")
def fitted() -> Ensemble:
    return fit_ensemble(SMALL, training_of(chains()))


def test_every_model_has_a_seed_of_its_own_and_together_they_know_what_follows_what(fitted: Ensemble) -> None:
    one, other = fitted.members

    assert not np.array_equal(one.table, other.table)
    assert all_right(fitted)


def test_the_same_seed_gives_the_same_ensemble_bitwise(fitted: Ensemble) -> None:
    again = fit_ensemble(SMALL, training_of(chains()))

    for one, other in zip(fitted.members, again.members, strict=True):
        np.testing.assert_array_equal(one.table, other.table)


def test_fitted_again_each_model_goes_on_from_where_it_was(fitted: Ensemble) -> None:
    everything = training_of(chains(), held_out=False)

    after = fit_ensemble(SMALL, replace(everything, before=fitted))

    assert len(after.members) == 2
    assert all(not np.array_equal(a.table, b.table) for a, b in zip(after.members, fitted.members, strict=True))
    assert all_right(after)


@pytest.mark.parametrize("full_softmax_up_to", [1, 20_000])
def test_distilled_one_model_remains_that_knows_it_too(full_softmax_up_to: int, tmp_path: Path) -> None:
    member = MEMBER.model_copy(update={"full_softmax_up_to": full_softmax_up_to, "negatives": 8})
    config = SMALL.model_copy(update={"distil": True, "member": member})
    told: list[str] = []
    training = replace(training_of(chains()), report=lambda what, *_: told.append(what))

    student = fit_ensemble(config, training)

    assert len(student.members) == 1
    assert set(told) == {"sequence", "distil"}
    assert all_right(student)
    student.save(tmp_path)
    again = Ensemble.open(config, training.catalogue, tmp_path)
    np.testing.assert_array_equal(again.scores(asked(3), np.arange(ITEMS)), student.scores(asked(3), np.arange(ITEMS)))
    finished = fit_ensemble(config, replace(training_of(chains(), held_out=False), before=student))
    assert len(finished.members) == 1
    assert not np.array_equal(finished.members[0].table, student.members[0].table)


def test_a_student_that_became_no_better_is_left_out(fitted: Ensemble) -> None:
    training = training_of(chains())
    people, targets = training.judged()
    right = [next_after(fitted, *training.past(person).rows)[0] for person in people[:20]]
    assert right == targets[:20].tolist()  # the first is perfect already, or this would be vacuous

    kept = fit_ensemble(SMALL.model_copy(update={"distil": True}), training)

    np.testing.assert_array_equal(kept.members[0].table, fitted.members[0].table)


def test_where_nobody_is_held_out_the_student_is_what_serves() -> None:
    training = training_of(chains(), held_out=False)

    teachers = fit_ensemble(SMALL, training)
    student = fit_ensemble(SMALL.model_copy(update={"distil": True}), training)

    assert not any(np.array_equal(student.members[0].table, teacher.table) for teacher in teachers.members)
    assert all_right(student)


def test_a_student_reads_the_time_between_events_as_its_teachers_do(tmp_path: Path) -> None:
    shape = MEMBER.shape.model_copy(update={"time_gaps": True})
    config = EnsembleConfig(seeds=2, distil=True, member=MEMBER.model_copy(update={"shape": shape}))

    student = fit_ensemble(config, training_of(chains(), held_out=False))

    assert all_right(student)


def test_what_the_data_decided_stands_in_the_settings_that_serve() -> None:
    training = training_of(chains())
    left_open = EnsembleConfig(seeds=1, member=SequenceConfig(train=LoopConfig(epochs=1)))

    ensemble = fit_ensemble(left_open, training)

    assert ensemble.config.member == ensemble.members[0].config
    assert ensemble.config.member.shape.max_length == 10  # of people with at most seven events


def test_an_interrupted_ensemble_is_picked_up_where_it_was(tmp_path: Path, fitted: Ensemble) -> None:
    training = replace(training_of(chains()), folder=tmp_path)
    fit_ensemble(SMALL, training)
    told: list[tuple[Any, ...]] = []

    again = fit_ensemble(SMALL, replace(training, report=lambda *what: told.append(what)))

    assert {done for _, done, _ in told} == {MEMBER.train.epochs}  # nothing was trained again
    for one, other in zip(fitted.members, again.members, strict=True):
        np.testing.assert_array_equal(one.table, other.table)


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def test_the_loss_is_the_cross_entropy_against_the_mixture() -> None:
    hidden, table = numbers(700, 4).requires_grad_(), numbers(9, 4, seed=1).requires_grad_()  # more than one block
    targets = torch.arange(700) % 9
    told = [(numbers(700, 3, seed=2), numbers(9, 3, seed=3)), (numbers(700, 5, seed=4), numbers(9, 5, seed=5))]

    loss = imitation_loss(hidden, table, targets, told, imitate=0.3)
    found = torch.autograd.grad(loss, (hidden, table))

    chance = torch.stack([(vectors @ items.T).softmax(1) for vectors, items in told]).mean(0)
    wanted = 0.3 * chance + 0.7 * torch.nn.functional.one_hot(targets, 9)
    plain = -(wanted * (hidden @ table.T).log_softmax(1)).sum(1).mean()
    assert float(loss.detach()) == pytest.approx(float(plain.detach()), rel=1e-5)
    for one, other in zip(found, torch.autograd.grad(plain, (hidden, table)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_who_imitates_nobody_learns_as_usual() -> None:
    hidden, table, targets = numbers(20, 4), numbers(9, 4, seed=1), torch.arange(20) % 9

    loss = imitation_loss(hidden, table, targets, [(hidden * 3, table)], imitate=0.0, of=40)

    assert float(loss) == pytest.approx(float(softmax_loss(hidden, table, targets, of=40)), rel=1e-5)
