"""Candidates side by side behind one history say what each says alone, whatever kind of model reads."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import nn

from tailwise.nets.candidates import CandidateReader, first_place, padded_rows, reads_together
from tailwise.nets.language import TextReader, open_backbone

IDS = torch.tensor([[2, 40, 41, 3, 50, 51, 3, 60, 61, 62, 3, 0]])
PART = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2, -1]])
BOTH = torch.tensor([1, 2])
SHAPE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def roberta() -> nn.Module:
    torch.manual_seed(3)
    config = transformers.RobertaConfig(vocab_size=260, **SHAPE, max_position_embeddings=66, pad_token_id=1)
    return transformers.RobertaModel(config).eval()


def t5() -> nn.Module:
    """Knows how far tokens are from each other, not where they stand."""
    torch.manual_seed(3)
    return transformers.T5EncoderModel(
        transformers.T5Config(vocab_size=260, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    ).eval()


@pytest.fixture(params=["bert", "gpt2", "roberta"])
def reader(request: pytest.FixtureRequest, tiny_backbone: Path, tiny_causal: Path) -> CandidateReader:
    if request.param == "roberta":
        return CandidateReader(roberta(), "mean", None)
    folder = tiny_backbone if request.param == "bert" else tiny_causal
    return CandidateReader(open_backbone(str(folder))[0], "last" if request.param == "gpt2" else "mean", None)


def alone(which: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    own = (PART[0] == 0) | (PART[0] == which)
    return IDS[:, own], PART[:, own], torch.tensor([which])


@torch.no_grad()
def test_an_item_says_beside_others_what_it_says_alone(reader: CandidateReader) -> None:
    both = reader(IDS, PART, BOTH)

    for place in (0, 1):
        assert both[:, place].numpy() == pytest.approx(reader(*alone(place + 1))[:, 0].numpy(), abs=1e-5)
    assert (both[:, 0] - both[:, 1]).abs().max() > 0.01


@torch.no_grad()
def test_an_item_reads_the_history(reader: CandidateReader) -> None:
    other = IDS.clone()
    other[0, 1] = 99

    assert (reader(IDS, PART, BOTH) - reader(other, PART, BOTH)).abs().amax(2).min() > 1e-3


@torch.no_grad()
def test_an_item_without_a_history_is_read_as_a_text_by_itself(reader: CandidateReader) -> None:
    ids = torch.tensor([[50, 51, 52, 53]])

    found = reader(ids, torch.ones_like(ids), torch.tensor([1]))[:, 0]

    plain = TextReader(reader.model, reader.reading)(ids, torch.ones_like(ids))
    assert found.numpy() == pytest.approx(plain.numpy(), abs=1e-5)


@torch.no_grad()
def test_a_causal_model_says_what_it_says_of_the_pair_as_a_text(tiny_causal: Path) -> None:
    model, _ = open_backbone(str(tiny_causal))

    said = CandidateReader(model, "last", None)(IDS, PART, BOTH)[:, 1]

    ids = alone(2)[0]
    assert said.numpy() == pytest.approx(TextReader(model, "last")(ids, torch.ones_like(ids)).numpy(), abs=1e-5)


@torch.no_grad()
def test_one_item_a_row_sees_everything_and_is_the_mean_of_its_tokens(tiny_backbone: Path) -> None:
    model, _ = open_backbone(str(tiny_backbone))
    for own in model.encoder.parameters():
        own.mul_(10.0)  # fresh weights are so small that nothing heeds another
    ids, part, which = alone(1)

    said = CandidateReader(model, "mean", None, together=False)(ids, part, which)

    hidden = model(input_ids=ids).last_hidden_state[:, 4:]
    assert said.numpy() == pytest.approx(hidden.mean(1, keepdim=True).numpy(), abs=1e-5)
    apart = CandidateReader(model, "mean", None)(ids, part, which)  # there the history does not see the item
    assert (said - apart).abs().max() > 1e-3


@torch.no_grad()
def test_rows_of_other_lengths_and_padding_change_nothing(reader: CandidateReader) -> None:
    rows = [(IDS[0, :7].numpy(), PART[0, :7].numpy()), (IDS[0, :11].numpy(), PART[0, :11].numpy())]

    said = reader(*padded_rows(rows, 0))

    assert said[1].numpy() == pytest.approx(reader(IDS, PART, BOTH)[0].numpy(), abs=1e-5)
    assert said[0, 0].numpy() == pytest.approx(said[1, 0].numpy(), abs=1e-5)
    assert not said[0, 1].any()  # an item that the row does not have


@torch.no_grad()
def test_a_row_may_be_padded_by_more_than_the_places_that_a_model_knows(reader: CandidateReader) -> None:
    more = 400  # the models of these tests know 64 to 128 places
    ids = torch.cat([IDS, torch.zeros(1, more, dtype=torch.long)], 1)
    part = torch.cat([PART, torch.full((1, more), -1)], 1)

    assert reader(ids, part, BOTH).numpy() == pytest.approx(reader(IDS, PART, BOTH).numpy(), abs=1e-5)


def test_a_head_makes_one_number_an_item_and_drops_only_while_it_learns(tiny_backbone: Path) -> None:
    model, _ = open_backbone(str(tiny_backbone))
    net = CandidateReader(model, "mean", nn.Linear(16, 1), dropout=0.5)

    said = net(IDS, PART, BOTH)

    assert said.shape == (1, 2)
    assert torch.equal(net(IDS, PART, BOTH), said)
    assert not torch.equal(net(IDS, PART, BOTH, torch.Generator().manual_seed(0)), said)


def test_models_that_tell_tokens_apart_by_places_read_several_items_in_a_row(
    tiny_backbone: Path, tiny_causal: Path
) -> None:
    assert reads_together(open_backbone(str(tiny_backbone))[0], "mean")
    assert reads_together(open_backbone(str(tiny_causal))[0], "last")
    assert reads_together(roberta(), "mean")


def test_a_model_that_takes_no_places_or_minds_no_mask_reads_one() -> None:
    class Mixing(nn.Module):
        def forward(self, input_ids: Any, attention_mask: Any, position_ids: Any) -> Any:
            del attention_mask, position_ids
            mean = input_ids.float().mean(1, keepdim=True)
            return SimpleNamespace(last_hidden_state=(input_ids + mean)[..., None].float())

    assert not reads_together(t5(), "mean")
    assert not reads_together(Mixing(), "mean")


def test_the_first_place_is_where_a_model_begins_to_count(tiny_backbone: Path) -> None:
    assert first_place(open_backbone(str(tiny_backbone))[0]) == 0
    assert first_place(roberta()) == 2


def test_rows_are_padded_on_the_right_to_a_multiple() -> None:
    rows = [(np.array([5, 6]), np.array([0, 1])), (np.array([7, 8, 9]), np.array([0, 1, 2]))]

    ids, part, which = padded_rows(rows, 4, multiple=4)

    assert ids.tolist() == [[5, 6, 4, 4], [7, 8, 9, 4]]
    assert part.tolist() == [[0, 1, -1, -1], [0, 1, 2, -1]]
    assert which.tolist() == [1, 2]
