"""Heads over one encoder, compared with numpy and with one text at a time."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")
transformers = pytest.importorskip("transformers", reason="needs transformers: pip install 'tailwise[language]'")

from tailwise.nets.texts import Heads, TextNet  # noqa: E402  after the packages that may be absent
from tailwise.rank.texts import standard  # noqa: E402


def heads() -> Heads:
    own = Heads(8, {"topic": 3, "entities": 5}, dropout=0.5)
    with torch.no_grad():
        for parameter in own.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return own


def net() -> TextNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        config = transformers.BertConfig(
            vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
        )
        return TextNet(transformers.BertModel(config).eval(), heads())


def test_heads_answer_as_numpy_does() -> None:
    own, vectors = heads(), np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)
    weight, bias = own.weights()["topic"]

    told = own(torch.from_numpy(vectors), None, None)

    assert set(told) == {"topic"}
    np.testing.assert_allclose(told["topic"].detach().numpy(), standard(vectors) @ weight.T + bias, atol=1e-5)


def test_heads_know_nothing_at_first() -> None:
    told = Heads(8, {"topic": 3}, 0.0)(torch.randn(2, 8), None, None)

    assert not told["topic"].any()


def test_dropout_is_drawn_from_its_generator() -> None:
    own, vectors = heads(), torch.ones(2, 8).cumsum(1)

    one, again, other = (own(vectors, None, torch.Generator().manual_seed(s))["topic"] for s in (1, 1, 2))

    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_a_text_among_others_is_what_it_is_alone() -> None:
    own = net()
    ids, mask = torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])

    with torch.no_grad():
        told, vectors = own(ids, mask, None)
        alone, vector = own(ids[1:, :3], mask[1:, :3], None)

    assert told["topic"].shape == (2, 3)
    assert told["entities"].shape == (2, 4, 5)
    torch.testing.assert_close(told["topic"][1:], alone["topic"])
    torch.testing.assert_close(told["entities"][1:, :3], alone["entities"])
    torch.testing.assert_close(vectors[1:], vector)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(2))
