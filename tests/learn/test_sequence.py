"""The sequence model in a world where each item is followed by the next one: learned, exported, served."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")

from tailwise.data.catalogue import Catalogue  # noqa: E402  after the package that may be absent
from tailwise.data.holdout import hold_out  # noqa: E402
from tailwise.data.interactions import Interactions, Training  # noqa: E402
from tailwise.data.load import Dataset  # noqa: E402
from tailwise.learn.liked import LikedEvents  # noqa: E402
from tailwise.learn.loop import side_by_side  # noqa: E402
from tailwise.learn.members import exported, fit_sequence  # noqa: E402
from tailwise.learn.sequence import _loss, judge_of, parted_batches, train_sequence  # noqa: E402
from tailwise.nets.sequence import SequenceNet  # noqa: E402
from tailwise.nets.settings import LoopConfig, SequenceShape  # noqa: E402
from tailwise.rank.sequence import SequenceConfig, SequenceScorer  # noqa: E402
from tailwise.types import Event, History, Request, Rows  # noqa: E402

ITEMS = 24
SMALL = SequenceConfig(
    shape=SequenceShape(dim=16, layers=1, heads=2, max_length=8, dropout=0.1),
    train=LoopConfig(epochs=30, learning_rate=0.02, warm_up_steps=5, average=0.5, patience=30),
    batch_tokens=128,
    members=1,
)


def training_of(
    sequences: list[list[int]], *, items: int = ITEMS, text: bool = True, held_out: bool = True
) -> Training:
    """People with these rows as their past, in this order."""
    events = pl.DataFrame(
        [
            (f"u{p:03d}", f"i{row:02d}", float(step))
            for p, rows in enumerate(sequences)
            for step, row in enumerate(rows)
        ],
        schema=["user_id", "item_id", "time"],
        orient="row",
    )
    vectors = np.random.default_rng(2).standard_normal((items, 8)).astype(np.float32)
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True) if text else np.zeros((items, 1), np.float32)
    nothing = np.zeros(items, np.float32)
    frame = pl.DataFrame({"item_id": [f"i{row:02d}" for row in range(items)]})
    catalogue = Catalogue(frame, popularity=nothing, recent=nothing, vectors=vectors, tail_cut=0.2)
    interactions = Interactions.of(Dataset.of("chains", events=events).events, catalogue)
    if not held_out:
        return Training(interactions, catalogue, 5)
    inner, held = hold_out(interactions, cases=1)
    return Training(inner, catalogue, 5, targets=held.first(0), held=held)


def earned(net: SequenceNet, training: Training, config: SequenceConfig = SMALL) -> float:
    """NDCG@10 on the held-out people."""
    with side_by_side(1) as pool, torch.no_grad():
        return judge_of([net], config, training, LikedEvents(training.interactions), pool)()


def chains(people: int = 200, longest: int = 8, *, items: int = ITEMS) -> list[list[int]]:
    rng = np.random.default_rng(1)
    starts, lengths = rng.integers(items, size=people), rng.integers(min(longest, 4), longest + 1, size=people)
    return [[(start + step) % items for step in range(length)] for start, length in zip(starts, lengths, strict=True)]


def asked(*rows: int) -> Request:
    past = History.of([Event("u", f"i{row:02d}", float(step)) for step, row in enumerate(rows)])
    return Request("r", history=past.place(np.array(rows, np.int64)), excluded=np.array(rows, np.int64))


def moments(count: int) -> torch.Tensor:
    """When those of ``asked`` were."""
    return torch.arange(count, dtype=torch.float64)[None]


def next_after(scorer: SequenceScorer, *rows: int) -> Rows:
    return scorer(asked(*rows), 3).columns["row"]


@pytest.mark.parametrize("text", [True, False])
def test_it_learns_what_follows_what(text: bool) -> None:
    training = training_of(chains(), text=text)

    net, _ = train_sequence(SMALL, training)
    scorer = fit_sequence(SMALL, training)

    assert earned(net, training) > 0.97
    assert [next_after(scorer, row - 2, row - 1, row)[0] for row in range(2, ITEMS - 1)] == list(range(3, ITEMS))


@pytest.mark.parametrize(
    "settings",
    [{"full_softmax_up_to": 1}, {"loss": "sampled_softmax"}, {"loss": "gbce"}],
    ids=["large catalogue", "sampled_softmax", "gbce"],
)
def test_it_learns_with_shared_negatives_too(settings: dict[str, Any]) -> None:
    config = SMALL.model_copy(update={"negatives": 16, **settings})

    training = training_of(chains())

    net, _ = train_sequence(config, training)

    assert earned(net, training) > 0.95


@pytest.mark.parametrize("full_softmax_up_to", [1, 20_000])
def test_the_parts_of_a_batch_cost_together_what_the_batch_costs(full_softmax_up_to: int) -> None:
    training = training_of(chains())
    config = SMALL.model_copy(update={"full_softmax_up_to": full_softmax_up_to})
    net, _ = train_sequence(config.model_copy(update={"train": LoopConfig(epochs=1)}), training)
    events = LikedEvents(training.interactions)
    loss = _loss(net, config, events)

    for parts in parted_batches(config, events, 0)(0):
        whole = replace(parts[0], pieces=[piece for part in parts for piece in part.pieces])
        together = sum(float(loss(part, None).detach()) for part in parts)

        assert len(parts) == 2
        assert whole.of == sum(len(piece) - 1 for piece in whole.pieces)
        assert together == pytest.approx(float(loss(whole, None).detach()), rel=1e-3)  # products may have 16 bits


def test_the_order_of_the_past_decides_not_the_set() -> None:
    scorer = fit_sequence(SMALL, training_of(chains()))

    assert next_after(scorer, 3, 5)[0] == 6
    assert next_after(scorer, 5, 3)[0] == 4


def test_the_same_seed_gives_the_same_scorer_bitwise(tmp_path: Path) -> None:
    training = training_of(chains(40))
    config = SMALL.model_copy(update={"train": LoopConfig(epochs=2)})

    fit_sequence(config, training).save(tmp_path / "one")
    fit_sequence(config, training).save(tmp_path / "two")

    for name in ("sequence.onnx", "sequence.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize("text", [True, False])
def test_an_item_that_nobody_touched_stands_where_its_likes_stand(text: bool) -> None:
    training = training_of(chains(items=ITEMS - 2), text=text)  # the last two are in the catalogue only
    vectors = training.catalogue.vectors
    if text:
        vectors[-1] = vectors[3]  # a twin of what people know

    scorer = fit_sequence(SMALL.model_copy(update={"train": LoopConfig(epochs=2)}), training)

    assert scorer.table[-2:].any() == text
    if text:
        cosines = np.corrcoef(scorer.table)[-1]
        assert np.argsort(-cosines)[1] == 3


def test_the_exported_network_equals_torch_at_every_length() -> None:
    training = training_of(chains(40))
    net, _ = train_sequence(SMALL.model_copy(update={"train": LoopConfig(epochs=2)}), training)
    table = net.table().detach().numpy()
    scorer = SequenceScorer(SMALL, table, exported([net]), training.catalogue.item_ids)

    for length in range(1, SMALL.shape.max_length + 1):
        rows = np.random.default_rng(length).integers(ITEMS, size=length)
        with torch.no_grad():
            expected = net(net.table()[torch.from_numpy(rows)[None]], times=moments(length))[0, -1].numpy()

        np.testing.assert_allclose(scorer.person(asked(*rows)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("named", [{"blocks": "gated"}, {"time_gaps": True}])
def test_other_networks_learn_and_export_what_they_need(named: dict[str, Any], tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"shape": SMALL.shape.model_copy(update=named)})
    training = training_of(chains(80))

    fit_sequence(config, training).save(tmp_path)
    net, _ = train_sequence(config, training)
    opened = SequenceScorer.open(config, training.catalogue, tmp_path)

    assert earned(net, training, config) > 0.9
    with torch.no_grad():
        expected = net(torch.from_numpy(opened.table[[3, 4, 5]][None]), times=moments(3))[0, -1].numpy()
    np.testing.assert_allclose(opened.person(asked(3, 4, 5)), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_a_time_that_is_none_is_no_error(odd: float) -> None:
    scorer = fit_sequence(SMALL, training_of(chains()))
    past = History.of([Event("u", "i03", 0.0), Event("u", "i04", odd), Event("u", "i05", 5.0)])

    person = scorer.person(Request("r", history=past.place(np.array([3, 4, 5]))))

    assert np.isfinite(person).all()
    assert person.any()


def test_the_time_between_events_tells_where_the_order_does_not() -> None:
    # After a long break people go back, after a short one on.
    rng = np.random.default_rng(0)
    events, past = [], 40_000.0
    for person in range(400):
        row, long = int(rng.integers(2, ITEMS - 2)), bool(rng.integers(2))
        times = [0.0, past if long else 10.0, past + 20_000.0]
        rows = [row, row, row - 1 if long else row + 1]
        events += [(f"u{person:03d}", f"i{r:02d}", t) for r, t in zip(rows, times, strict=True)]
    log = pl.DataFrame(events, schema=["user_id", "item_id", "time"], orient="row")
    catalogue = training_of(chains(1), text=False).catalogue
    interactions = Interactions.of(Dataset.of("breaks", events=log).events, catalogue)
    inner = Training(interactions, catalogue, 5)
    shape = SMALL.shape.model_copy(update={"time_gaps": True})

    scorer = fit_sequence(SMALL.model_copy(update={"shape": shape}), inner)

    def after(seconds: float) -> int:
        history = History.of([Event("u", "i09", 0.0), Event("u", "i09", seconds)]).place(np.array([9, 9]))
        return int(scorer(Request("r", history=history), 1).columns["row"][0])

    assert after(10.0) == 10
    assert after(past) == 8


def test_new_items_get_the_room_that_held_out_people_do_not_pay_for() -> None:
    nobody = training_of(chains(items=ITEMS - 2), text=False)  # nothing can stand in: all powers are as good

    free, given = (
        fit_sequence(config, nobody).config.new_items
        for config in (SMALL, SMALL.model_copy(update={"new_items": 0.25}))
    )

    assert (free, given) == (1.0, 0.25)


def test_items_without_events_are_no_rivals_while_it_learns() -> None:
    training = training_of(chains(items=ITEMS - 2), text=False)
    net, _ = train_sequence(SMALL.model_copy(update={"train": LoopConfig(epochs=2)}), training)
    fresh, _ = train_sequence(SMALL.model_copy(update={"train": LoopConfig(epochs=1)}), training)

    assert torch.equal(net.table()[-2:], fresh.table()[-2:])  # as they began
    assert not torch.equal(net.table()[:-2], fresh.table()[:-2])


def test_one_item_and_one_event_each_make_a_working_model() -> None:
    scorer = fit_sequence(SMALL.model_copy(update={"train": LoopConfig(epochs=2)}), training_of([[0]] * 12, items=1))

    assert scorer(asked(0), 5).item_ids.tolist() == []  # the only item was seen
    assert np.isfinite(scorer.scores(asked(0), np.array([0]))).all()


def test_of_a_longer_history_the_newest_events_are_read() -> None:
    scorer = fit_sequence(SMALL, training_of(chains(40)))
    newest = [4, 9, 1, 5, 7, 2, 3, 8]
    assert len(newest) == SMALL.shape.max_length

    long, short = (scorer.person(asked(*rows)) for rows in ([20, 21, 22, *newest], newest))

    np.testing.assert_array_equal(long, short)


def test_people_with_more_events_than_the_network_reads_teach_all_of_them() -> None:
    training = training_of(chains(12, 60))  # seven windows each

    net, _ = train_sequence(SMALL, training)

    assert earned(net, training) > 0.95


def test_people_with_one_event_teach_nothing_and_break_nothing() -> None:
    singles = [[row % ITEMS] for row in range(30)]

    scorer = fit_sequence(SMALL, training_of([*chains(), *singles]))

    assert next_after(scorer, 3, 4)[0] == 5


def test_when_nobody_has_two_events_there_is_a_scorer_all_the_same() -> None:
    training = training_of([[row] for row in range(ITEMS)])
    told: list[tuple[str, int, int]] = []
    object.__setattr__(training, "report", lambda *what: told.append(what))

    scorer = fit_sequence(SMALL.model_copy(update={"train": LoopConfig(epochs=3)}), training)

    assert told[-1] == ("sequence", 3, 3)
    assert len(scorer(asked(3), 5)) == 5


def test_when_nobody_can_be_held_out_it_runs_for_all_epochs() -> None:
    training = training_of(chains(80, 2))  # two events are too few to hold one out
    assert not len(training.judged()[0])

    _, epochs = train_sequence(SMALL, training)
    scorer = fit_sequence(SMALL, training)

    assert epochs == SMALL.train.epochs
    assert next_after(scorer, 4)[0] == 5  # the weights of the last epoch, not of the first


def test_without_held_out_people_all_epochs_teach() -> None:
    training = training_of(chains(), held_out=False)

    _, epochs = train_sequence(SMALL.model_copy(update={"train": LoopConfig(epochs=3)}), training)

    assert epochs == 3


def test_the_judge_filters_what_was_seen_only_where_it_is_not_shown_again() -> None:
    # Everyone goes to and fro between two items: what comes next is always something they had.
    pairs = [[a, a ^ 1] * (2 + n) for a in range(ITEMS) for n in range(3)]
    once = training_of(pairs)
    again = Training(once.interactions, once.catalogue, 5, exclude_seen=False, targets=once.targets)

    net, _ = train_sequence(SMALL, once)

    assert earned(net, once) == 1.0  # the target competes with strangers alone
    assert earned(net, again) < 0.9  # and here with the other of the two, which the network has just read


def test_an_interrupted_training_is_picked_up_from_the_folder(tmp_path: Path) -> None:
    training = training_of(chains(40))
    whole, _ = train_sequence(SMALL, training)
    stored = Training(training.interactions, training.catalogue, 5, targets=training.targets, folder=tmp_path)
    train_sequence(SMALL.model_copy(update={"train": SMALL.train.model_copy(update={"epochs": 3})}), stored)

    told: list[tuple[str, int, int]] = []
    object.__setattr__(stored, "report", lambda *what: told.append(what))

    resumed, _ = train_sequence(SMALL, stored)

    assert told[0] == ("sequence", 3, 30)
    pairs = zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_fitted_again_on_all_events_it_goes_on_from_where_it_was() -> None:
    sequences = chains()
    first = training_of(sequences)
    everything = training_of(sequences, held_out=False)
    before = fit_sequence(SMALL, first)
    told: list[tuple[str, int, int]] = []
    again = replace(everything, before=before, report=lambda *what: told.append(what))

    after = fit_sequence(SMALL.model_copy(update={"finish": 0.5}), again)

    (own,) = before.trained
    assert told[-1] == ("sequence finish", math.ceil(0.5 * own.epochs), math.ceil(0.5 * own.epochs))
    assert not np.array_equal(after.table, before.table)
    assert [next_after(after, row - 2, row - 1, row)[0] for row in range(2, ITEMS - 1)] == list(range(3, ITEMS))


def test_with_nothing_to_finish_the_second_fit_is_the_first() -> None:
    sequences = chains(40)
    config = SMALL.model_copy(update={"finish": 0.0})
    before = fit_sequence(config, training_of(sequences, text=False))  # with texts, rare items count their events anew

    after = fit_sequence(config, replace(training_of(sequences, text=False, held_out=False), before=before))

    np.testing.assert_array_equal(after.person(asked(3, 4)), before.person(asked(3, 4)))


def test_the_epochs_of_a_large_log_take_turns_over_all_of_it() -> None:
    training = training_of(chains(people=80), held_out=False)
    events = LikedEvents(training.interactions)
    pieces = [piece for piece in events.of_people if len(piece) > 1]
    config = SequenceConfig(epoch_positions=sum(len(piece) - 1 for piece in pieces) // 4, batch_tokens=64)
    each = parted_batches(config, events, 3)

    epochs = [[tuple(piece) for parts in each(epoch) for part in parts for piece in part.pieces] for epoch in range(8)]

    everything = sorted(map(tuple, pieces))
    assert sorted(piece for epoch in epochs[:4] for piece in epoch) == everything
    assert sorted(piece for epoch in epochs[4:] for piece in epoch) == everything
    assert sorted(epochs[0]) != sorted(epochs[4])
