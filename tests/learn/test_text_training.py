"""Heads alone and with their encoder: they learn what can be learned, the same way for the same seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")
pytest.importorskip("peft", reason="needs peft: pip install 'tailwise[finetune]'")

from tailwise.data.labelled import Labelled, Span  # noqa: E402  after the packages that may be absent
from tailwise.learn.text_lessons import Targets, label_names  # noqa: E402
from tailwise.learn.text_training import learn_heads, learn_net, padded_vectors, read_by  # noqa: E402
from tailwise.nets.adapting import adapt  # noqa: E402
from tailwise.nets.language import open_backbone, padded  # noqa: E402
from tailwise.nets.settings_texts import ClassifierConfig  # noqa: E402
from tailwise.nets.texts import Heads, TextNet  # noqa: E402
from tailwise.rank.texts import Read  # noqa: E402

SAID = {"great": "good", "lovely": "good", "awful": "bad", "poor": "bad"}
TEXTS = [f"{word} {thing}" for word in SAID for thing in ("film", "shoe", "toy story", "heat")]
DATA = Labelled(
    tuple(TEXTS),
    {
        "sentiment": tuple((SAID[text.split()[0]],) for text in TEXTS),
        "intent": (None,) * len(TEXTS),
        "topic": tuple(("things",) if "shoe" in text else () for text in TEXTS),
    },
    tuple((Span(text.index(" ") + 1, len(text), "film"),) if "toy" in text else () for text in TEXTS),
)
NAMES = label_names(DATA, {})
NONE = DATA.take(np.empty(0, np.int64))


def net_of(folder: Path, config: ClassifierConfig) -> tuple[TextNet, Any]:
    backbone, tokenizer = open_backbone(str(folder))
    sizes = {head: len(own) for head, own in NAMES.items()}
    return TextNet(adapt(backbone, config.tuning, seed=1), Heads(32, sizes, 0.0)), tokenizer


def learned(folder: Path, raw: dict[str, Any], threads: int = 1, pairs: list[tuple[str, str]] | None = None) -> TextNet:
    config = ClassifierConfig.model_validate({"batch": 8, "dropout": 0.0, **raw})
    net, tokenizer = net_of(folder, config)
    learn_net(
        net,
        tokenizer,
        DATA,
        NONE,
        pairs or [],
        NAMES,
        config,
        seed=3,
        threads=threads,
        report=lambda what, done, total: None,
    )
    return net.eval()


def told(net: TextNet, tokenizer: Any) -> dict[str, list[Any]]:
    with torch.no_grad():
        answers, _ = net(*padded([tokenizer(text)["input_ids"] for text in TEXTS], 0), None)
    return {
        "sentiment": [NAMES["sentiment"][place] for place in answers["sentiment"].argmax(1)],
        "topic": (answers["topic"][:, 0] > 0).tolist(),
        "entities": answers["entities"].argmax(-1).tolist(),
    }


@pytest.mark.parametrize(
    "raw",
    [
        {"tuning": {"method": "lora"}, "train": {"epochs": 30, "learning_rate": 5e-3}},
        {
            "tuning": {"method": "full"},
            "train": {"epochs": 30, "learning_rate": 5e-3},
            "attack": {"kind": "fgm", "size": 0.02},
        },
    ],
    ids=["lora", "full, attacked"],
)
def test_a_tiny_world_is_learned_by_all_heads_at_once(raw: dict[str, Any], tiny_bert: Path) -> None:
    net = learned(tiny_bert, raw)

    found = told(net, open_backbone(str(tiny_bert))[1])
    assert found["sentiment"] == [own[0] for own in DATA.labels["sentiment"] if own]
    assert found["topic"] == ["shoe" in text for text in TEXTS]
    for text, tags in zip(TEXTS, found["entities"], strict=True):
        assert (1 in tags[:5]) == ("toy" in text)


def test_the_same_seed_gives_the_same_weights_bit_for_bit(tiny_bert: Path) -> None:
    raw = {"tuning": {"method": "lora"}, "train": {"epochs": 1}, "dropout": 0.2}

    one, two = (learned(tiny_bert, raw, threads=2).state_dict() for _ in range(2))

    assert all(torch.equal(one[name], two[name]) for name in one)


def test_pairs_of_liked_items_come_nearer(tiny_bert: Path) -> None:
    pairs = [("great film", "poor shoe"), ("lovely toy story", "awful heat")] * 2

    def nearness(net: TextNet) -> float:
        tokenizer = open_backbone(str(tiny_bert))[1]
        with torch.no_grad():
            _, vectors = net(*padded([tokenizer(text)["input_ids"] for pair in pairs[:2] for text in pair], 0), None)
        cosine = vectors @ vectors.T
        return float(cosine[0, 1] + cosine[2, 3] - cosine[0, 3] - cosine[2, 1])

    raw = {"tuning": {"method": "full"}, "train": {"epochs": 20, "learning_rate": 1e-3}}
    without, with_pairs = learned(tiny_bert, raw), learned(tiny_bert, {**raw, "ranking": 1.0}, pairs=pairs)

    assert nearness(with_pairs) > nearness(without) + 0.1


def test_heads_alone_learn_from_vectors_and_stop_by_the_held_out() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 200)
    vectors = random.standard_normal((200, 32)).astype(np.float32)
    vectors[:, 0] += 6 * labels
    data = Labelled(
        ("x",) * 200,
        {"sentiment": tuple(("bad",) if own else ("good",) for own in labels), "intent": (None,) * 200},
        (None,) * 200,
    )
    names = label_names(data, {})
    halves = [np.arange(0, 200, 2), np.arange(1, 200, 2)]
    seen, held = ((Read(vectors[own], (), ()), Targets.of(data.take(own), names, [()] * len(own))) for own in halves)

    heads = learn_heads(
        seen,
        held,
        names,
        ClassifierConfig(),
        seed=1,
        threads=1,
        report=lambda what, done, total: None,
    )

    told = heads(torch.from_numpy(vectors[halves[1]]), None, None)["sentiment"].argmax(1).numpy()
    assert (told == (1 - labels[halves[1]])).mean() > 0.9


def test_what_is_read_in_batches_is_what_each_text_is_alone(tiny_bert: Path) -> None:
    net, tokenizer = net_of(tiny_bert, ClassifierConfig())
    tokens = [tokenizer(text)["input_ids"] for text in ("great film", "heat", "the toy story is lovely")]

    read = read_by(net, tokens, 0, marked=[True, False, True])

    for row, own in enumerate(tokens):
        alone = read_by(net, [own], 0, marked=[True])
        np.testing.assert_allclose(read.vectors[row], alone.vectors[0], atol=1e-5)
        if row != 1:
            np.testing.assert_allclose(read.tokens[row], alone.tokens[0], atol=1e-5)
    assert len(read.tokens[1]) == 0


def test_vectors_are_padded_with_zeros() -> None:
    padded_up = padded_vectors([np.ones((2, 3), np.float32), np.zeros((0, 3), np.float32)])

    assert padded_up.shape == (2, 2, 3)
    assert padded_up.sum() == 6


def test_an_encoder_that_only_gets_worse_stays_as_it_was(tiny_bert: Path) -> None:
    config = ClassifierConfig.model_validate(
        {"tuning": {"method": "full"}, "train": {"epochs": 2, "learning_rate": 10.0, "warm_up_steps": 0}}
    )
    net, tokenizer = net_of(tiny_bert, config)
    before = {name: own.clone() for name, own in net.model.state_dict().items()}
    twice = DATA.take(np.tile(np.arange(len(TEXTS)), 2))

    progress = learn_net(
        net, tokenizer, DATA, twice, [], NAMES, config, seed=1, threads=1, report=lambda what, done, total: None
    )

    assert progress.best_epoch == 0
    assert all(torch.equal(own, before[name]) for name, own in net.model.state_dict().items())
