"""Networks side by side in a world where each item is followed by the next one, and a student that learns from two."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")

from tailwise.data.catalogue import Catalogue  # noqa: E402  after the package that may be absent
from tailwise.data.interactions import Interactions, Training  # noqa: E402
from tailwise.data.load import Dataset  # noqa: E402
from tailwise.learn.liked import LikedEvents  # noqa: E402
from tailwise.learn.loop import side_by_side  # noqa: E402
from tailwise.learn.members import fit_sequence  # noqa: E402
from tailwise.learn.sequence import judge_of, train_sequence  # noqa: E402
from tailwise.nets.sequence import SequenceNet  # noqa: E402
from tailwise.nets.settings import LoopConfig, SequenceShape  # noqa: E402
from tailwise.rank.sequence import SequenceConfig, SequenceScorer  # noqa: E402
from tailwise.types import Event, History, Request, Rows  # noqa: E402

ITEMS = 16
DIM = 16
TWO = SequenceConfig(
    shape=SequenceShape(dim=DIM, layers=1, heads=2, max_length=8, dropout=0.1),
    train=LoopConfig(epochs=8, learning_rate=0.02, warm_up_steps=5, average=0.5, patience=8),
    batch_tokens=128,
    finish=1.0,
    members=2,
)
STUDENT = TWO.model_copy(update={"distil": True})


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


def next_after(run: SequenceScorer, *rows: int) -> Rows:
    return run(asked(*rows), 3).columns["row"]


def all_right(run: SequenceScorer) -> bool:
    return all(next_after(run, row - 2, row - 1, row)[0] == row + 1 for row in range(2, ITEMS - 1))


def alone(config: SequenceConfig, training: Training) -> SequenceScorer:
    return fit_sequence(config.model_copy(update={"members": 1}), training)


@pytest.fixture(scope="module")
def fitted() -> SequenceScorer:
    return fit_sequence(TWO, training_of(chains()))


def test_networks_of_two_seeds_stand_side_by_side_and_add_their_scores_up(fitted: SequenceScorer) -> None:
    training = training_of(chains())
    one, other = alone(TWO, training), alone(TWO, replace(training, seed=training.seed + 1000))
    every = np.arange(ITEMS)

    np.testing.assert_array_equal(fitted.table, np.concatenate([one.table, other.table], axis=1))
    assert not np.array_equal(one.table, other.table)
    together = one.scores(asked(3, 4), every) + other.scores(asked(3, 4), every)
    np.testing.assert_allclose(fitted.scores(asked(3, 4), every), together, rtol=1e-4)
    assert all_right(fitted)


def test_the_same_seed_gives_the_same_networks_bitwise(fitted: SequenceScorer) -> None:
    np.testing.assert_array_equal(fit_sequence(TWO, training_of(chains())).table, fitted.table)


def test_networks_side_by_side_read_the_time_between_events() -> None:
    shape = TWO.shape.model_copy(update={"time_gaps": True})

    assert all_right(fit_sequence(TWO.model_copy(update={"shape": shape}), training_of(chains())))


def test_every_network_is_saved_with_what_it_can_go_on_from(fitted: SequenceScorer, tmp_path: Path) -> None:
    fitted.save(tmp_path)

    again = SequenceScorer.open(TWO, training_of(chains()).catalogue, tmp_path)

    np.testing.assert_array_equal(again.scores(asked(3), np.arange(ITEMS)), fitted.scores(asked(3), np.arange(ITEMS)))
    assert len(again.trained) == 2
    for one, other in zip(again.trained, fitted.trained, strict=True):
        assert set(one.weights) == {*other.weights} - {"ids.weight"}
        for name, weight in one.weights.items():
            np.testing.assert_array_equal(weight, other.weights[name])


def test_fitted_again_each_network_goes_on_from_where_it_was(fitted: SequenceScorer) -> None:
    everything = training_of(chains(), held_out=False)

    after = fit_sequence(TWO, replace(everything, before=fitted))

    assert len(after.trained) == 2
    halves = zip(np.split(after.table, 2, axis=1), np.split(fitted.table, 2, axis=1), strict=True)
    assert all(not np.array_equal(one, other) for one, other in halves)
    assert all_right(after)


def test_with_nothing_to_finish_each_network_stays_its_own() -> None:
    still = TWO.model_copy(update={"finish": 0.0})
    before = fit_sequence(still, training_of(chains()))

    after = fit_sequence(still, replace(training_of(chains(), held_out=False), before=before))

    np.testing.assert_array_equal(after.table, before.table)
    np.testing.assert_array_equal(after.person(asked(3, 4)), before.person(asked(3, 4)))


def test_networks_are_judged_by_what_they_say_together() -> None:
    training = training_of(chains())
    right, loud = train_sequence(TWO, training)[0], SequenceNet(TWO.shape, ITEMS)
    with torch.no_grad():
        loud.ids.weight.mul_(1e4)
    events = LikedEvents(training.interactions)

    with side_by_side(1) as pool:
        alone, shouting, both = (
            judge_of(nets, TWO, training, events, pool)() for nets in ([right], [loud], [right, loud])
        )

    assert alone > 0.9
    assert both == pytest.approx(shouting, abs=0.01)
    assert both < 0.8


@pytest.mark.parametrize("full_softmax_up_to", [1, 20_000])
def test_distilled_one_network_remains_that_knows_it_too(full_softmax_up_to: int, tmp_path: Path) -> None:
    config = STUDENT.model_copy(update={"full_softmax_up_to": full_softmax_up_to, "negatives": 8})
    told: list[str] = []
    training = replace(training_of(chains()), report=lambda what, *_: told.append(what))

    student = fit_sequence(config, training)

    assert student.table.shape == (ITEMS, DIM)
    assert list(dict.fromkeys(told)) == ["sequence", "sequence 2", "distil"]
    assert all_right(student)
    student.save(tmp_path)
    again = SequenceScorer.open(config, training.catalogue, tmp_path)
    np.testing.assert_array_equal(again.scores(asked(3), np.arange(ITEMS)), student.scores(asked(3), np.arange(ITEMS)))
    finished = fit_sequence(config, replace(training_of(chains(), held_out=False), before=student))
    assert finished.table.shape == (ITEMS, DIM)
    assert not np.array_equal(finished.table, student.table)


def test_a_student_that_became_no_better_is_left_out() -> None:
    training = training_of(chains())
    first = alone(TWO, training)
    people, targets = training.judged()
    right = [next_after(first, *training.past(person).rows)[0] for person in people[:20]]
    assert right == targets[:20].tolist()  # the first is perfect already, or this would be vacuous

    np.testing.assert_array_equal(fit_sequence(STUDENT, training).table, first.table)


def test_where_nobody_is_held_out_the_student_is_what_serves() -> None:
    training = training_of(chains(), held_out=False)

    teachers, student = fit_sequence(TWO, training), fit_sequence(STUDENT, training)

    assert not any(np.array_equal(student.table, teacher) for teacher in np.split(teachers.table, 2, axis=1))
    assert all_right(student)


def test_a_student_reads_the_time_between_events_as_its_teachers_do() -> None:
    shape = TWO.shape.model_copy(update={"time_gaps": True})

    student = fit_sequence(STUDENT.model_copy(update={"shape": shape}), training_of(chains(), held_out=False))

    assert all_right(student)


def test_a_student_learns_baskets_by_what_begins_them() -> None:
    rng = np.random.default_rng(0)
    events = pl.DataFrame(
        [
            (f"u{person:02d}", f"i{(start + step) % 2 * 8 + item:02d}", float(step))
            for person, start in enumerate(rng.integers(2, size=60))
            for step in range(6)
            for item in range(8)
        ],
        schema=["user_id", "item_id", "time"],
        orient="row",
    )
    catalogue = training_of(chains()).catalogue
    interactions = Interactions.of(Dataset.of("baskets", events=events).events, catalogue)
    assert interactions.in_baskets

    student = fit_sequence(STUDENT, Training(interactions, catalogue, 5))

    for half in range(2):
        found = student(replace(asked(*range(half * 8, half * 8 + 8)), excluded=np.empty(0, np.int64)), 8)
        assert set(found.columns["row"] // 8) == {1 - half}


def test_what_the_data_decided_stands_in_the_settings_that_serve() -> None:
    scorer = fit_sequence(SequenceConfig(train=LoopConfig(epochs=1)), training_of(chains()))

    assert scorer.config.shape.max_length == 10  # of people with at most seven events
    assert scorer.config.members == len(scorer.trained) == 3


def test_interrupted_networks_are_picked_up_where_they_were(tmp_path: Path, fitted: SequenceScorer) -> None:
    training = replace(training_of(chains()), folder=tmp_path)
    fit_sequence(TWO, training)
    told: list[tuple[str, int]] = []

    again = fit_sequence(TWO, replace(training, report=lambda what, done, _: told.append((what, done))))

    assert told == [("sequence", TWO.train.epochs), ("sequence 2", TWO.train.epochs)]  # nothing was trained again
    np.testing.assert_array_equal(again.table, fitted.table)
