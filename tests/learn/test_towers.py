"""The classic models in two worlds whose answer is known: items that follow one another, and groups of taste."""

from __future__ import annotations

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
from tailwise.learn.loop import side_by_side  # noqa: E402
from tailwise.learn.losses import LOSSES  # noqa: E402
from tailwise.learn.tower_export import towers_of  # noqa: E402
from tailwise.learn.towers import Choices, _batches, _judge, _loss, fit_towers, train_towers  # noqa: E402
from tailwise.nets.towers import TowerNet  # noqa: E402
from tailwise.rank.towers import TowersConfig, TowerScorer  # noqa: E402
from tailwise.types import Event, History, Request, Rows  # noqa: E402

ITEMS, GROUPS = 24, 3
KINDS = ["mf", "pooled", "dnn", "attention", "gru", "lstm"]
READERS = KINDS[1:]


def small(person: str, loss: str = "softmax", **more: Any) -> TowersConfig:
    train = {"epochs": 20, "learning_rate": 0.03, "warm_up_steps": 5, "average": 0.5, "patience": 20}
    sizes = {"dim": 16, "max_length": 8, "dropout": 0.1, "negatives": 12, "batch_positions": 256}
    return TowersConfig.model_validate({"person": person, "loss": loss, **sizes, "train": train, **more})


def training_of(
    histories: list[list[int]], *, items: int = ITEMS, text: bool = True, held_out: bool = True
) -> Training:
    """People with these rows as their past, in this order; an item's text tells its group, ``row % GROUPS``."""
    rows = [(f"u{p:03d}", f"i{row:02d}", float(t)) for p, own in enumerate(histories) for t, row in enumerate(own)]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "time"], orient="row")
    rng = np.random.default_rng(2)
    groups = rng.standard_normal((GROUPS, 12))[np.arange(items) % GROUPS]
    vectors = (groups + 0.5 * rng.standard_normal((items, 12))).astype(np.float32)
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True) if text else np.zeros((items, 1), np.float32)
    nothing = np.zeros(items, np.float32)
    frame = pl.DataFrame({"item_id": [f"i{row:02d}" for row in range(items)]})
    catalogue = Catalogue(frame, popularity=nothing, recent=nothing, vectors=vectors, tail_cut=0.2)
    interactions = Interactions.of(Dataset.of("tiny", events=events).events, catalogue)
    if not held_out:
        return Training(interactions, catalogue, 5)
    inner, held = hold_out(interactions)
    return Training(inner, catalogue, 5, targets=held.first(0), held=held)


def chains(people: int = 150) -> list[list[int]]:
    """Each item is followed by the next one."""
    rng = np.random.default_rng(1)
    starts, lengths = rng.integers(ITEMS, size=people), rng.integers(4, 9, size=people)
    return [[(start + step) % ITEMS for step in range(length)] for start, length in zip(starts, lengths, strict=True)]


def groups(people: int = 60, *, items: int = ITEMS) -> list[list[int]]:
    """Everybody likes six items of one group and no other, in any order."""
    rng = np.random.default_rng(1)
    return [rng.permutation(np.arange(person % GROUPS, items, GROUPS))[:6].tolist() for person in range(people)]


def earned(net: TowerNet, config: TowersConfig, training: Training) -> float:
    """NDCG@10 on the held-out people."""
    with side_by_side(1) as pool, torch.no_grad():
        return _judge(net, config, training, pool)()


def asked(*rows: int, user_id: str | None = None, **more: Any) -> Request:
    past = History.of([Event("u", f"i{row:02d}", float(t)) for t, row in enumerate(rows)])
    return Request("r", user_id=user_id, history=past.place(np.array(rows, np.int64)), **more)


def best(scorer: TowerScorer, *rows: int, k: int = 3) -> Rows:
    return scorer(asked(*rows, excluded=np.array(rows, np.int64)), k).columns["row"]


@pytest.mark.parametrize("person", READERS)
def test_what_reads_histories_learns_what_follows_what(person: str) -> None:
    training, config = training_of(chains()), small(person)

    net, epochs = train_towers(config, training)
    scorer = TowerScorer(config, towers_of(net, config, training), training.catalogue.item_ids, epochs)

    assert earned(net, config, training) > 0.9
    assert np.mean([best(scorer, row - 2, row - 1, row)[0] == row + 1 for row in range(2, ITEMS - 1)]) > 0.9


@pytest.mark.parametrize(
    ("person", "loss"),
    [*(("mf", loss) for loss in ("softmax", *LOSSES)), ("pooled", "gbce"), ("pooled", "mse"), ("attention", "bpr")],
)
def test_every_loss_learns_who_likes_which_group(person: str, loss: str) -> None:
    training = training_of(groups(), text=False)

    scorer = fit_towers(small(person, loss, batch_positions=64), training)

    for group in range(GROUPS):
        found = best(scorer, *(group + GROUPS * np.arange(4)), k=4)
        assert (found % GROUPS == group).mean() >= 0.75


@pytest.mark.parametrize("loss", ["softmax", "gbce", "mse"])
def test_the_plain_network_learns_by_any_loss_too(loss: str) -> None:
    training, config = training_of(groups(), text=False), small("dnn", loss, batch_positions=64)

    net, _ = train_towers(config, training)

    assert earned(net, config, training) > 0.5  # three of the group's eight are open, so that 0.71 is perfect


@pytest.mark.parametrize("loss", ["softmax", "sampled_softmax", "gbce"])
@pytest.mark.parametrize("person", ["mf", "pooled", "dnn"])
def test_the_parts_of_a_batch_cost_together_what_the_batch_costs(person: str, loss: str) -> None:
    training, config = training_of(chains()), small(person, loss)
    net, _ = train_towers(config.model_copy(update={"train": config.train.model_copy(update={"epochs": 1})}), training)
    choices = Choices.of(training.interactions)
    cost = _loss(net, config, choices)
    predicted = 0

    for parts in _batches(config, training.interactions, choices, 0)(0):
        whole = replace(parts[0], pieces=[piece for part in parts for piece in part.pieces])
        together = sum(float(cost(part, None).detach()) for part in parts)
        predicted += whole.of

        assert len(parts) == 2
        assert together == pytest.approx(float(cost(whole, None).detach()), rel=1e-4)

    people = len(training.interactions.user_ids)
    assert predicted == len(training.interactions) - (0 if person == "mf" else people)  # all but what came first


def test_the_plain_network_with_softmax_is_compared_with_the_whole_catalogue() -> None:
    training, config = training_of(chains(30)), small("dnn")
    net, _ = train_towers(config.model_copy(update={"train": config.train.model_copy(update={"epochs": 1})}), training)
    choices = Choices.of(training.interactions)
    (parts, *_) = _batches(config, training.interactions, choices, 0)(0)
    part = replace(parts[0], pieces=parts[0].pieces[:1], of=len(parts[0].pieces[0]) - 1)

    cost = float(_loss(net, config, choices)(part, None).detach())

    rows = choices.rows[torch.from_numpy(part.pieces[0])]
    with torch.no_grad():
        logits = net.compare(net(net.vectors(rows[None, :-1]))[0], net.offered(net.table()))
    assert cost == pytest.approx(float(torch.nn.functional.cross_entropy(logits, rows[1:])), rel=1e-5)


def test_ratings_are_what_squared_error_learns_where_there_are_any() -> None:
    events = pl.DataFrame(
        {
            "user_id": ["a", "a", "a", "a", "b"],
            "item_id": ["i00", "i01", "i02", "i03", "i00"],
            "time": [0.0, 1.0, 2.0, 3.0, 0.0],
            "event": ["rating", "rating", "click", "skip", "dwell"],
            "value": [5.0, 2.0, None, None, 90.0],
        }
    )
    frame = training_of(chains(2)).catalogue
    interactions = Interactions.of(Dataset.of("rated", events=events).events, frame)

    choices = Choices.of(interactions)

    assert choices.labels.tolist() == pytest.approx([1.0, 0.4, 1.0, 1.0])  # seconds are no rating; a skip is no choice
    assert choices.people.tolist() == [0, 0, 0, 1]
    assert choices.rows.tolist() == [0, 1, 2, 0]
    assert choices.offsets.tolist() == [0, 3, 4]


def test_people_of_mf_have_the_vector_that_was_learned_while_they_did_nothing_new() -> None:
    histories = groups()
    training, config = training_of(histories, held_out=False), small("mf")

    net, _ = train_towers(config, training)
    scorer = fit_towers(config, training)

    assert net.people is not None
    for place in (0, 7, 31):
        past = training.past(place)
        known = Request("r", user_id=training.interactions.user_ids[place], history=past)
        learned = net.people.weight[place].detach().numpy()
        np.testing.assert_allclose(scorer.person(known), learned, rtol=1e-4, atol=1e-5)
        stranger = scorer.person(replace(known, user_id="nobody", cache={}))
        assert not np.allclose(stranger, learned, atol=1e-4)
        assert np.corrcoef(stranger, learned)[0, 1] > 0.8  # who likes the same gets about the same


@pytest.mark.parametrize("person", KINDS)
def test_the_same_seed_gives_the_same_files_bitwise_and_they_open_equal(person: str, tmp_path: Path) -> None:
    training, config = training_of(chains(40)), small(person, "gbce", train={"epochs": 2})

    one, two = fit_towers(config, training), fit_towers(config, training)
    one.save(tmp_path / "one")
    two.save(tmp_path / "two")
    opened = TowerScorer.open(config, training.catalogue, tmp_path / "one")

    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert ("comparison.onnx" in names) == (person == "dnn")
    assert ("people.parquet" in names) == (person == "mf")
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    who = Request("r", user_id="u003", history=training.past(3))
    np.testing.assert_array_equal(
        opened.scores(who, np.arange(ITEMS)), one.scores(replace(who, cache={}), np.arange(ITEMS))
    )


@pytest.mark.parametrize("person", KINDS)
def test_an_item_that_nobody_touched_ranks_by_its_text_alone(person: str) -> None:
    training = training_of(groups(items=ITEMS - 3))  # the last three are in the catalogue only, one of each group

    scorer = fit_towers(small(person, batch_positions=64, train={"epochs": 15, "learning_rate": 0.02}), training)
    without = fit_towers(small(person, text=False, train={"epochs": 2}), training)

    cold = np.arange(ITEMS - 3, ITEMS)
    for group in range(GROUPS):
        past = asked(*(group + GROUPS * np.arange(4)))
        assert cold[scorer.scores(past, cold).argmax()] % GROUPS == group
        assert np.isnan(without.scores(replace(past, cache={}), cold)).all()


@pytest.mark.parametrize("person", ["mf", "gru"])
def test_fitted_again_it_learns_afresh_from_all_events_for_as_many_epochs(person: str) -> None:
    histories = groups(30)
    config = small(person)
    before = fit_towers(config, training_of(histories))
    told: list[tuple[str, int, int]] = []
    everything = replace(training_of(histories, held_out=False), report=lambda *what: told.append(what))

    after = fit_towers(config, replace(everything, before=before))
    afresh = fit_towers(small(person, train={**config.train.model_dump(), "epochs": before.epochs}), everything)

    assert told[-1] == ("towers", before.epochs, before.epochs)
    np.testing.assert_array_equal(after.towers.read, afresh.towers.read)


@pytest.mark.parametrize("person", KINDS)
def test_when_nobody_has_two_events_there_is_a_scorer_all_the_same(person: str) -> None:
    training = training_of([[row] for row in range(ITEMS)])

    scorer = fit_towers(small(person, train={"epochs": 2}), training)

    assert len(scorer(asked(3), 5)) == 5


@pytest.mark.parametrize("person", ["mf", "pooled"])
def test_the_epochs_of_a_large_log_take_turns_over_all_of_it(person: str) -> None:
    training = training_of(chains(80), held_out=False)
    choices = Choices.of(training.interactions)
    predicted = len(choices.rows) - (0 if person == "mf" else len(training.interactions.user_ids))
    config = small(person, epoch_positions=predicted // 4, batch_positions=64)
    each = _batches(config, training.interactions, choices, 3)
    whole = _batches(small(person), training.interactions, choices, 3)(0)

    epochs = [[tuple(piece) for parts in each(epoch) for part in parts for piece in part.pieces] for epoch in range(8)]

    once = sorted(place for parts in whole for part in parts for piece in part.pieces for place in piece)
    assert sorted(place for epoch in epochs[:4] for piece in epoch for place in piece) == once
    assert sorted(place for epoch in epochs[4:] for piece in epoch for place in piece) == once
    assert sorted(epochs[0]) != sorted(epochs[4])
