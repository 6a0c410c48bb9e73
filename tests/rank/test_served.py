"""Servers as they are: the local model behind HTTP says what it says at home, and odd replies do no harm."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise.errors import UnavailableError
from tailwise.nets.questions import BackendConfig, Question
from tailwise.rank.served import OpenAI, Rerank, _likely, _scored, _spoken, _understood

HEAD = "Someone liked, newest first: Alien.\nNext they like:"
OPTIONS = (" Aliens", " Bambi", " The")
FIELDS = (
    *("choices", "message", "content", "logprobs", "top_logprobs", "token", "logprob", "results", "index"),
    *("usage", "relevance_score", "score", "text_offset", "token_logprobs", "prompt_tokens"),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(FIELDS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


def openai(server: Any) -> OpenAI:
    return OpenAI(BackendConfig(url=f"{server.url}/v1", model="smol"))


def test_the_likelihood_of_a_server_is_the_one_at_home(model_server: Any) -> None:
    from tailwise.nets.generate import LocalModel

    home = LocalModel(BackendConfig(kind="transformers", model="SmolLM2-135M-Instruct"))
    question = Question("continue", HEAD, options=OPTIONS)

    far = openai(model_server).ask(question, 120)

    assert far.scores == pytest.approx(home.ask(question, 120).scores, abs=1e-2)
    assert far.malformed == 0


def test_letters_come_with_their_chances(model_server: Any) -> None:
    text = 'A) "Aliens"\nB) "Bambi"\nAnswer with one letter, A or B:'

    reply = openai(model_server).ask(Question("choose", text, "You choose.", ("A", "B")), 120)

    assert reply.malformed == 0
    assert (reply.scores < 0).all()
    assert reply.tokens_in > 20
    body = model_server.seen()[0]["body"]
    assert body["messages"][0] == {"role": "system", "content": "You choose."}
    assert body["temperature"] == 0
    assert body["max_tokens"] == 1


def test_a_reranker_scores_documents(model_server: Any) -> None:
    rerank = Rerank(BackendConfig(kind="rerank", url=f"{model_server.url}/rerank", model="smol"))

    reply = rerank.ask(Question("relevance", "one two three four", options=("five six", "xylophone qq")), 120)

    assert reply.scores[0] > reply.scores[1]
    body = model_server.seen()[0]["body"]
    assert body == {
        "query": "one two three four",
        "documents": ["five six", "xylophone qq"],
        "model": "smol",
        "top_n": 2,
        "return_documents": False,
    }


def test_text_embeddings_inference_gets_its_own_form(server: Any) -> None:
    server.behave("form")
    config = BackendConfig(kind="rerank", url=f"{server.url}/rerank", documents_field="texts")

    with pytest.raises(UnavailableError):
        Rerank(config).ask(Question("relevance", "q", options=("a",)), 5)

    assert server.seen()[0]["body"] == {"query": "q", "texts": ["a"]}


@pytest.mark.parametrize("kind", ["order", "choose", "continue"])
def test_json_of_another_form_is_one_error(server: Any, kind: str) -> None:
    server.behave("form")

    with pytest.raises(UnavailableError, match=r"^127.0.0.1:\d+ replied in another form: \w+Error$"):
        openai(server).ask(Question(kind, "x", options=("a",)), 5)


def test_options_that_were_not_told_stand_below_all_that_were() -> None:
    top = [{"token": " A", "logprob": -0.1}, {"token": "A", "logprob": -2.0}, {"token": "x", "logprob": -3.0}]
    reply = {"choices": [{"message": {}, "logprobs": {"content": [{"top_logprobs": top}]}}]}

    read = _spoken(reply, Question("choose", "x", options=("A", "B")))

    assert read.scores == pytest.approx([-0.1, -4.0])
    assert read.malformed == 0


def test_where_no_option_was_told_there_is_no_opinion() -> None:
    top = [{"token": "Sure", "logprob": -0.1}]
    reply = {"choices": [{"logprobs": {"content": [{"top_logprobs": top}]}}], "usage": {"prompt_tokens": -5}}

    read = _spoken(reply, Question("choose", "x" * 30, options=("A", "B")))

    assert np.isnan(read.scores).all()
    assert read.malformed == 1
    assert read.tokens_in == Question("choose", "x" * 30, options=("A", "B")).tokens


def test_only_tokens_within_the_option_count() -> None:
    told = {"text_offset": [0, 2, 4, 6, 8], "token_logprobs": [None, -9.0, -1.0, -3.0, -50.0]}
    reply = {"choices": [{"index": 0, "logprobs": told}, {"index": 7, "logprobs": told}]}

    read = _likely(reply, "abcd", ("efgh", "never told"))

    assert np.array_equal(read.scores, np.array([-2, np.nan], np.float32), equal_nan=True)
    assert read.malformed == 1


def test_results_twice_out_of_range_or_without_a_number_are_left_out_and_counted() -> None:
    results = [(0, 0.5), (0, 0.9), (5, 1.0), (-1, 1.0), (1, float("nan"))]
    reply = {"results": [{"index": place, "relevance_score": score} for place, score in results]}

    read = _scored(reply, 3, 10)

    assert np.array_equal(read.scores, np.array([0.5, np.nan, np.nan], np.float32), equal_nan=True)
    assert read.malformed == 4


def test_a_bare_list_of_scores_is_read_too() -> None:
    read = _scored([{"index": 1, "score": 2.0}, {"index": 0, "score": 1.0}], 2, 10)

    assert read.scores.tolist() == [1, 2]


@given(JSON, st.sampled_from(["order", "choose", "continue", "relevance"]))
def test_any_json_is_a_reply_or_one_error(reply: Any, kind: str) -> None:
    question = Question(kind, "x", options=("A", "B"))
    read = {
        "order": lambda: _spoken(reply, question),
        "choose": lambda: _spoken(reply, question),
        "continue": lambda: _likely(reply, "x", question.options),
        "relevance": lambda: _scored(reply, 2, 1),
    }[kind]

    try:
        found = _understood("host", read)
    except UnavailableError:
        return
    assert found.scores is None or found.scores.shape == (2,)
    assert isinstance(found.text, str)
    assert found.tokens_in >= 0
