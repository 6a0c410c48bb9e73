"""A tiny causal model learns what comes next, and its folder says what the adapted model says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from tailwise.data.load import Dataset
from tailwise.errors import DataError
from tailwise.learn.peft_causal import _choices, _likelihood, _loss, _tokens, fit_causal
from tailwise.nets.language import open_backbone
from tailwise.nets.settings_language import CausalConfig, TextLoop, Tuning

LOOP = TextLoop(epochs=4, learning_rate=0.02, warm_up_steps=2, average=0.5, precision="float32")


def shop(*, titles: bool = True) -> Dataset:
    """Whoever liked aaa likes zzz next."""
    names = ["aaa", "zzz"] if titles else ["", ""]
    items = pl.DataFrame({"item_id": ["a", "z"], "title": names})
    events = pl.DataFrame(
        [
            {"user_id": f"u{person:02d}", "item_id": item, "time": float(n), "event": "click", "value": None}
            for person in range(40)
            for n, item in enumerate("az")
        ],
        schema={
            "user_id": pl.String,
            "item_id": pl.String,
            "time": pl.Float64,
            "event": pl.String,
            "value": pl.Float32,
        },
    )
    return Dataset(name="shop", items=items, events=events)


def config_of(folder: Path, **settings: object) -> CausalConfig:
    return CausalConfig(**{"model": str(folder), "train": LOOP, "tuning": Tuning(rank=4), "batch": 8, **settings})


def test_what_people_take_next_becomes_likelier_and_the_folder_is_the_whole_model(
    tiny_causal: Path, tmp_path: Path
) -> None:
    notes = fit_causal(shop(), tmp_path / "tuned", config_of(tiny_causal, tuning=Tuning(method="full")))

    assert notes["log-probability after"] > notes["log-probability before"] + 1.0
    model, tokenizer = open_backbone(str(tmp_path / "tuned"), causal=True)
    ids = tokenizer(' "zzz"', add_special_tokens=False, return_tensors="pt")["input_ids"]
    assert model(input_ids=ids).logits.shape == (1, 6, 260)
    assert not [name for name, _ in model.named_parameters() if "lora" in name]


@pytest.mark.parametrize("method", ["lora", "prefix"])
def test_it_learns_in_fewer_bits_too(
    tiny_causal: Path, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailwise.learn.optimise.fast_bfloat16", lambda: True)  # else it says that it is slow here
    loop = LOOP.model_copy(update={"precision": "bfloat16", "epochs": 6})
    config = config_of(tiny_causal, train=loop, tuning=Tuning(method=method, rank=4))

    notes = fit_causal(shop(), tmp_path / "tuned", config)

    assert notes["log-probability after"] > notes["log-probability before"]


def test_the_folder_says_what_was_judged(tiny_causal: Path, tmp_path: Path) -> None:
    config = config_of(tiny_causal)
    notes = fit_causal(shop(), tmp_path / "tuned", config)

    from concurrent.futures import ThreadPoolExecutor

    from tailwise.data.catalogue import Catalogue
    from tailwise.data.interactions import Interactions

    nothing = np.zeros(2, np.float32)
    catalogue = Catalogue(shop().items, popularity=nothing, recent=nothing, vectors=nothing[:, None], tail_cut=0.2)
    _, judging = _choices(Interactions.of(shop().events, catalogue), ["aaa", "zzz"], config, 0)
    model, tokenizer = open_backbone(str(tmp_path / "tuned"), causal=True)
    with ThreadPoolExecutor(1) as pool:
        said = _likelihood(model, [_tokens(tokenizer, *pair) for pair in judging], 0, pool)
    assert said == pytest.approx(notes["log-probability after"], abs=1e-3)
    assert judging[0] == ('Someone liked, newest first: "aaa"\nNext they like:', ' "zzz"')


def test_the_same_seed_writes_the_same_weights(tiny_causal: Path, tmp_path: Path) -> None:
    short = config_of(tiny_causal, train=LOOP.model_copy(update={"epochs": 1}))
    for name, threads in (("one", 1), ("two", 2)):
        fit_causal(shop(), tmp_path / name, short, threads=threads)

    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two


def test_only_what_was_taken_counts_and_padding_does_not(tiny_causal: Path) -> None:
    model, tokenizer = open_backbone(str(tiny_causal), causal=True)
    told = [_tokens(tokenizer, "abc", " xy"), _tokens(tokenizer, "a much longer history", " z")]

    with torch.no_grad():
        together, alone = _loss(model, told, 0), torch.cat([_loss(model, [own], 0) for own in told])
        tokens, own = told[0]
        chances = model(input_ids=torch.tensor([tokens])).logits[0].log_softmax(-1)
    expected = -np.mean([float(chances[n - 1, tokens[n]]) for n in range(len(tokens) - own, len(tokens))])

    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    assert float(together[0]) == pytest.approx(expected, abs=1e-5)


def test_without_texts_there_is_nothing_to_learn(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^shop has nobody who took two items with a text: nothing to learn$"):
        fit_causal(shop(titles=False), tmp_path / "tuned")
