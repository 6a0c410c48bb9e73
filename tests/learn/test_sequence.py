"""The sequence model in a world where each item is followed by the next one: learned, exported, served."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")

from tailwise.data.batch import windows  # noqa: E402  after the package that may be absent
from tailwise.data.catalogue import Catalogue  # noqa: E402
from tailwise.data.interactions import Interactions, Training  # noqa: E402
from tailwise.data.load import Dataset  # noqa: E402
from tailwise.learn.loop import side_by_side  # noqa: E402
from tailwise.learn.sequence import _batches, _judge, _loss, exported, fit_sequence, train_sequence  # noqa: E402
from tailwise.nets.sequence import SequenceNet  # noqa: E402
from tailwise.nets.settings import LoopConfig, SequenceShape  # noqa: E402
from tailwise.rank.sequence import SequenceConfig, SequenceScorer  # noqa: E402
from tailwise.types import Event, History, Request, Rows  # noqa: E402

ITEMS = 24
SMALL = SequenceConfig(
    shape=SequenceShape(dim=16, layers=1, heads=2, max_length=8, dropout=0.1),
    train=LoopConfig(epochs=30, learning_rate=0.02, warm_up_steps=5, average=0.5, patience=30),
    batch_tokens=128,
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
    inner, targets = interactions.hold_out_last()
    return Training(inner, catalogue, 5, targets=targets)


def earned(net: SequenceNet, training: Training, config: SequenceConfig = SMALL) -> float:
    """NDCG@10 on the held-out people."""
    with side_by_side(1) as pool, torch.no_grad():
        return _judge(net, config, training, training.interactions.liked_sequences(), pool)()


def chains(people: int = 200, longest: int = 8, *, items: int = ITEMS) -> list[list[int]]:
    rng = np.random.default_rng(1)
    starts, lengths = rng.integers(items, size=people), rng.integers(min(longest, 4), longest + 1, size=people)
    return [[(start + step) % items for step in range(length)] for start, length in zip(starts, lengths, strict=True)]


def asked(*rows: int) -> Request:
    past = History.of([Event("u", f"i{row:02d}", float(step)) for step, row in enumerate(rows)])
    return Request("r", history=past.place(np.array(rows, np.int64)), excluded=np.array(rows, np.int64))


def next_after(scorer: SequenceScorer, *rows: int) -> Rows:
    return scorer(asked(*rows), 3).columns["row"]


@pytest.mark.parametrize("text", [True, False])
def test_it_learns_what_follows_what(text: bool) -> None:
    training = training_of(chains(), text=text)

    net, _ = train_sequence(SMALL, training)
    scorer = fit_sequence(SMALL, training)

    assert earned(net, training) > 0.97
    assert [next_after(scorer, row - 2, row - 1, row)[0] for row in range(2, ITEMS - 1)] == list(range(3, ITEMS))


def test_it_learns_with_shared_negatives_too() -> None:
    config = SMALL.model_copy(update={"full_softmax_up_to": 1, "negatives": 16})

    training = training_of(chains())

    net, _ = train_sequence(config, training)

    assert earned(net, training) > 0.95


@pytest.mark.parametrize("full_softmax_up_to", [1, 20_000])
def test_the_parts_of_a_batch_cost_together_what_the_batch_costs(full_softmax_up_to: int) -> None:
    training = training_of(chains())
    config = SMALL.model_copy(update={"full_softmax_up_to": full_softmax_up_to})
    net, _ = train_sequence(config.model_copy(update={"train": LoopConfig(epochs=1)}), training)
    pieces = windows(training.interactions.liked_sequences(), SMALL.shape.max_length)
    loss = _loss(net)

    for parts in _batches(config, training.interactions, pieces, 0)(0):
        whole = replace(parts[0], pieces=[piece for part in parts for piece in part.pieces])
        together = sum(float(loss(part, None).detach()) for part in parts)

        assert len(parts) == 2
        assert whole.of == sum(len(piece) - 1 for piece in whole.pieces)
        assert together == pytest.approx(float(loss(whole, None).detach()), rel=1e-5)


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
def test_an_item_that_nobody_touched_keeps_its_text_alone(text: bool) -> None:
    training = training_of(chains(items=ITEMS - 2), text=text)  # the last two are in the catalogue only
    config = SMALL.model_copy(update={"train": LoopConfig(epochs=2)})

    net, _ = train_sequence(config, training)
    scorer = fit_sequence(config, training)

    with torch.no_grad():
        learned = net.table().numpy()
        of_text = np.zeros_like(learned) if net.adapter is None else net.adapter(net.text).numpy()
    np.testing.assert_allclose(scorer.table[:-2], learned[:-2], atol=1e-6)
    np.testing.assert_allclose(scorer.table[-2:], of_text[-2:], atol=1e-6)
    assert scorer.table[-2:].any() == text


def test_the_exported_network_equals_torch_at_every_length() -> None:
    training = training_of(chains(40))
    net, _ = train_sequence(SMALL.model_copy(update={"train": LoopConfig(epochs=2)}), training)
    table = net.table().detach().numpy()
    scorer = SequenceScorer(SMALL, table, exported(net), training.catalogue.item_ids)

    for length in range(1, SMALL.shape.max_length + 1):
        rows = np.random.default_rng(length).integers(ITEMS, size=length)
        with torch.no_grad():
            expected = net(net.vectors(torch.from_numpy(rows)[None]))[0, -1].numpy()

        np.testing.assert_allclose(scorer.person(asked(*rows)), expected, rtol=1e-4, atol=1e-5)


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

    assert before.trained is not None
    assert told[-1] == ("sequence", round(0.5 * before.trained.epochs), round(0.5 * before.trained.epochs))
    assert not np.array_equal(after.table, before.table)
    assert [next_after(after, row - 2, row - 1, row)[0] for row in range(2, ITEMS - 1)] == list(range(3, ITEMS))


def test_with_nothing_to_finish_the_second_fit_is_the_first() -> None:
    sequences = chains(40)
    config = SMALL.model_copy(update={"finish": 0.0})
    before = fit_sequence(config, training_of(sequences))

    after = fit_sequence(config, replace(training_of(sequences, held_out=False), before=before))

    np.testing.assert_array_equal(after.person(asked(3, 4)), before.person(asked(3, 4)))


def test_the_epochs_of_a_large_log_take_turns_over_all_of_it() -> None:
    training = training_of(chains(people=80), held_out=False)
    pieces = windows(training.interactions.liked_sequences(), 50)
    config = SequenceConfig(epoch_positions=sum(len(piece) - 1 for piece in pieces) // 4, batch_tokens=64)
    each = _batches(config, training.interactions, pieces, 3)

    epochs = [[tuple(piece) for parts in each(epoch) for part in parts for piece in part.pieces] for epoch in range(8)]

    everything = sorted(map(tuple, pieces))
    assert sorted(piece for epoch in epochs[:4] for piece in epoch) == everything
    assert sorted(piece for epoch in epochs[4:] for piece in epoch) == everything
    assert sorted(epochs[0]) != sorted(epochs[4])
