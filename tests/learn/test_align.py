"""Item vectors and texts that find each other while a network learns, and a network that keeps nothing of it."""

from __future__ import annotations

import contextlib
import logging
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")

from torch import Tensor  # noqa: E402  after the package that may be absent

from tailwise.data.catalogue import Catalogue  # noqa: E402
from tailwise.data.interactions import Interactions, Training  # noqa: E402
from tailwise.data.load import Dataset  # noqa: E402
from tailwise.learn.align import TEMPERATURE, alignment_loss, with_alignment  # noqa: E402
from tailwise.learn.members import fit_sequence  # noqa: E402
from tailwise.learn.semantics import Origin  # noqa: E402
from tailwise.learn.sequence import train_sequence  # noqa: E402
from tailwise.nets.sequence import SequenceNet, fading  # noqa: E402
from tailwise.nets.settings import LoopConfig, SequenceShape  # noqa: E402
from tailwise.rank.sequence import SequenceConfig  # noqa: E402
from tailwise.types import Floats  # noqa: E402

ITEMS, WIDTH = 30, 12
SHAPE = SequenceShape(dim=8, layers=1, heads=2, max_length=6, dropout=0.0)
CONFIG = SequenceConfig(
    members=1,
    shape=SHAPE,
    train=LoopConfig(epochs=4, learning_rate=0.02, warm_up_steps=2, average=0.5),
    batch_tokens=96,
)
ALIGNED = CONFIG.model_copy(update={"align": 0.5})


def texts(seed: int = 0, items: int = ITEMS) -> Floats:
    drawn = np.random.default_rng(seed).standard_normal((items, WIDTH)).astype(np.float32)
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), np.float32)


def training_of(vectors: Floats, *, people: int = 40) -> Training:
    """People who go from item to item; the last two items are nobody's."""
    import polars as pl

    rng = np.random.default_rng(3)
    events = [
        (f"u{person:02d}", f"i{(start + step) % (ITEMS - 2):02d}", float(step))
        for person, start in enumerate(rng.integers(ITEMS, size=people))
        for step in range(6)
    ]
    frame = pl.DataFrame({"item_id": [f"i{row:02d}" for row in range(ITEMS)]})
    nothing = np.zeros(ITEMS, np.float32)
    catalogue = Catalogue(frame, popularity=nothing, recent=nothing, vectors=vectors, tail_cut=0.2)
    log = pl.DataFrame(events, schema=["user_id", "item_id", "time"], orient="row")
    return Training(Interactions.of(Dataset.of("rounds", events=log).events, catalogue), catalogue, 5)


def net_of(seed: int = 0) -> SequenceNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SequenceNet(SHAPE, ITEMS)


def nothing_else(part: object, noise: torch.Generator) -> Tensor:
    return torch.zeros(())


def plain(learned: Floats, told: Floats) -> float:
    """The same, one item and one direction after the other."""
    total = 0.0
    for one, other in ((learned, told), (told, learned)):
        for row in range(len(one)):
            cosines = [float(one[row] @ o / np.linalg.norm(one[row]) / np.linalg.norm(o)) for o in other]
            total += math.log(sum(math.exp(c / TEMPERATURE) for c in cosines)) - cosines[row] / TEMPERATURE
    return total / (2 * len(learned))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(2, 5), st.integers(0, 1000))
def test_the_loss_equals_the_plain_one_and_no_size_of_a_vector_counts(items: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    learned, told = (rng.standard_normal((items, width)) + 0.1 for _ in range(2))

    loss = float(alignment_loss(torch.from_numpy(learned), torch.from_numpy(told)))
    grown = float(alignment_loss(torch.from_numpy(learned * 7), torch.from_numpy(told * 0.3)))

    assert loss == pytest.approx(plain(learned, told), rel=1e-9)
    assert grown == pytest.approx(loss, rel=1e-9)


def test_rows_move_to_where_their_texts_tell_them_apart() -> None:
    net, vectors = net_of(), texts()
    rows, noise = np.arange(ITEMS), torch.Generator().manual_seed(0)

    with with_alignment(net, nothing_else, weight=1.0, vectors=vectors, touched=rows) as loss:
        optimiser = torch.optim.Adam(net.parameters(), lr=0.02)
        values = []
        for _ in range(150):
            optimiser.zero_grad()
            value = loss(None, noise)
            value.backward()
            optimiser.step()
            values.append(float(value.detach()))

    assert 0 < values[-1] < 0.5 * values[0]
    assert values[-1] < 0.4 * math.log(ITEMS)


def test_the_map_begins_where_the_table_stands() -> None:
    net, vectors = net_of(), texts()
    with torch.no_grad():
        net.ids.weight.copy_(torch.from_numpy(vectors @ np.random.default_rng(4).standard_normal((WIDTH, SHAPE.dim))))
    table = net.table().detach().clone()

    with with_alignment(net, nothing_else, weight=1.0, vectors=vectors, touched=np.arange(ITEMS)) as loss:
        begun = float(loss(None, torch.Generator().manual_seed(0)).detach())

    assert begun == pytest.approx(float(alignment_loss(table, table)), rel=1e-4)  # no map could be nearer


def test_of_items_without_text_or_events_nothing_is_asked() -> None:
    net, vectors = net_of(), texts()
    vectors[5:10] = 0

    with with_alignment(net, nothing_else, weight=1.0, vectors=vectors, touched=np.arange(ITEMS - 3)) as loss:
        (moved,) = torch.autograd.grad(loss(None, torch.Generator().manual_seed(0)), [net.ids.weight])

    still = [*range(5, 10), *range(ITEMS - 3, ITEMS)]
    assert not moved[still].any()
    assert moved[[row for row in range(ITEMS) if row not in still]].any(dim=1).all()


def test_a_sample_stands_for_a_large_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailwise.learn.align.SAMPLE", 7)
    net, noise = net_of(), torch.Generator().manual_seed(0)

    with with_alignment(net, nothing_else, weight=1.0, vectors=texts(), touched=np.arange(ITEMS)) as loss:
        drawn = [torch.autograd.grad(loss(None, noise), [net.ids.weight])[0].any(dim=1) for _ in range(20)]

    assert {int(rows.sum()) for rows in drawn} == {7}
    assert torch.stack(drawn).any(dim=0).all()  # in turn it is everybody's


def test_nothing_of_it_stays_in_the_network_whatever_happens() -> None:
    net = net_of()
    names = list(net.state_dict())

    with (
        contextlib.suppress(KeyboardInterrupt),
        with_alignment(net, nothing_else, weight=1.0, vectors=texts(), touched=np.arange(ITEMS)),
    ):
        within = list(net.state_dict())
        raise KeyboardInterrupt

    assert within == [*names, "alignment.weight"]
    assert list(net.state_dict()) == names


def test_without_weight_it_is_the_loss_itself() -> None:
    with with_alignment(net_of(), nothing_else, weight=0.0, vectors=texts(), touched=np.arange(ITEMS)) as loss:
        assert loss is nothing_else


@pytest.mark.parametrize("with_text", [0, 1])
def test_without_texts_it_says_that_there_is_no_alignment(with_text: int, caplog: pytest.LogCaptureFixture) -> None:
    vectors = texts()
    vectors[with_text:] = 0

    with (
        caplog.at_level(logging.WARNING),
        with_alignment(net_of(), nothing_else, weight=0.1, vectors=vectors, touched=np.arange(ITEMS)) as loss,
    ):
        assert loss is nothing_else

    assert caplog.messages == [f"no alignment: reason={with_text} items that people touched have a text"]


def test_a_fit_learns_otherwise_with_it_and_serves_the_same_files(tmp_path: Path) -> None:
    training = training_of(texts())

    without, scorer, again = (fit_sequence(config, training) for config in (CONFIG, ALIGNED, ALIGNED))
    scorer.save(tmp_path)

    assert not np.array_equal(scorer.table, without.table)
    np.testing.assert_array_equal(scorer.table, again.table)
    assert scorer.trained[0].weights.keys() == without.trained[0].weights.keys()
    assert b"alignment" not in (tmp_path / "sequence.onnx").read_bytes()
    assert b"alignment" not in (tmp_path / "sequence.safetensors").read_bytes()


def test_with_the_texts_turned_off_there_is_none(caplog: pytest.LogCaptureFixture) -> None:
    training = training_of(texts())
    off = {"text": False}

    plainly, aligned = (train_sequence(c.model_copy(update=off), training)[0] for c in (CONFIG, ALIGNED))

    assert torch.equal(plainly.table(), aligned.table())
    assert caplog.messages == ["no alignment: reason=0 items that people touched have a text"]


def test_it_goes_on_from_a_fit_and_from_another_domain() -> None:
    training = training_of(texts())
    scorer = fit_sequence(ALIGNED, training)
    origin = Origin(scorer, training.catalogue.vectors)
    elsewhere = replace(training_of(texts(1)), memo={Origin: origin})

    finished = fit_sequence(ALIGNED.model_copy(update={"finish": 1.0}), replace(training, before=scorer))
    (with_it, _), (without, _) = (train_sequence(config, elsewhere) for config in (ALIGNED, CONFIG))

    assert not np.array_equal(finished.table, scorer.table)
    assert with_it.table().isfinite().all()
    assert not torch.equal(with_it.table(), without.table())


def test_what_an_older_model_of_another_domain_lacks_starts_afresh() -> None:
    training = training_of(texts())
    scorer = fit_sequence(CONFIG, training)
    (trained,) = scorer.trained
    older = {name: array for name, array in trained.weights.items() if "recency" not in name}
    assert len(older) < len(trained.weights)
    scorer.trained = (replace(trained, weights=older),)
    origin = Origin(scorer, training.catalogue.vectors)
    silent = Training(training.interactions.pick(np.zeros(len(training.interactions), bool)), training.catalogue, 0)

    net, _ = train_sequence(CONFIG, replace(silent, memo={Origin: origin}))

    for block in net.blocks:
        assert torch.equal(block.recency, fading(*block.recency.shape))
    np.testing.assert_array_equal(net.places.weight.detach().numpy(), older["places.weight"])


def test_an_interrupted_training_is_picked_up_with_its_map(tmp_path: Path) -> None:
    training = training_of(texts())
    whole, _ = train_sequence(ALIGNED, training)
    stored = replace(training, folder=tmp_path)
    train_sequence(ALIGNED.model_copy(update={"train": CONFIG.train.model_copy(update={"epochs": 2})}), stored)

    resumed, _ = train_sequence(ALIGNED, stored)

    pairs = zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
