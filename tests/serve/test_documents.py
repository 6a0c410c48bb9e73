from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from tailwise.fakes import HashEncoder
from tailwise.pipeline import Engine


def rerank(client: TestClient, **fields: Any) -> dict[str, Any]:
    response = client.post("/v1/rerank", json=fields)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def order(answer: dict[str, Any]) -> list[int]:
    return [place["index"] for place in answer["results"]]


def test_the_form_of_jina_and_cohere_is_kept(client: TestClient) -> None:
    documents = ["a love story", {"text": "war in space", "year": 1977}]

    answer = rerank(client, model="m", query="space war", documents=documents, top_n=1, return_documents=True)

    assert answer["model"] == "m"
    assert answer["method"] == "words"
    score = answer["results"][0].pop("relevance_score")
    assert 0 <= score <= 1
    assert answer["results"] == [{"index": 1, "document": {"text": "war in space", "year": 1977}}]


def test_without_an_encoder_shared_words_decide_and_ties_keep_their_order(client: TestClient) -> None:
    answer = rerank(client, query="silver moon", documents=["x", "silver spoon", "y", "moon of silver"])

    assert order(answer) == [3, 1, 0, 2]
    assert "document" not in answer["results"][0]


def test_an_encoder_of_the_engine_is_used(client: TestClient, engine: Engine) -> None:
    engine.encoder = HashEncoder(16)  # the hashing fake stands for a language model

    answer = rerank(client, query="silver moon", documents=["x", "silver moon"])

    assert answer["method"] == "meaning"
    assert order(answer) == [1, 0]
    assert answer["results"][0]["relevance_score"] == pytest.approx(1.0)
    assert answer["results"][1]["relevance_score"] == pytest.approx(0.5)


def test_taste_breaks_a_tie_that_the_query_leaves(client: TestClient) -> None:
    events = [{"user_id": "fan", "item_id": "i0", "event": "favourite"}]  # The Quiet Orbit
    client.post("/v1/events", json=events)
    documents = ["story kiss", "story orbit"]  # as near to the query as each other

    plain = rerank(client, query="story", documents=documents)
    personal = rerank(client, query="story", documents=documents, user_id="fan")
    strange = rerank(client, query="story", documents=documents, user_id="stranger")

    assert order(plain) == [0, 1]
    assert order(personal) == [1, 0]
    assert plain["results"] == strange["results"]


def test_with_an_encoder_taste_is_read_from_the_vectors_of_the_catalogue(engine: Engine, client: TestClient) -> None:
    encoder = HashEncoder(engine.catalogue.vectors.shape[1])
    engine.encoder = encoder
    row = engine.catalogue.rows(["i0"])[0]
    engine.catalogue.vectors[row] = encoder.encode(["kiss"])[0]  # not what its title says
    client.post("/v1/events", json={"user_id": "fan", "item_id": "i0"})

    answer = rerank(client, query="story", documents=["story orbit", "story kiss"], user_id="fan")

    assert order(answer) == [1, 0]


def test_items_of_the_model_go_through_the_pipeline(client: TestClient) -> None:
    ids = [f"i{n}" for n in (90, 3, 50)]

    answer = rerank(client, query="anything", documents=[{"id": name} for name in ids], user_id="u1")

    ranked = client.post("/v1/rank", json={"user_id": "u1", "query": "anything", "candidates": ids}).json()["items"]
    assert answer["method"] == "engine"
    assert [ids[index] for index in order(answer)] == [item["item_id"] for item in ranked]
    scores = [place["relevance_score"] for place in answer["results"]]
    assert scores == pytest.approx(np.linspace(1, 0, 4)[:3], abs=1e-6)


def test_the_same_item_twice_keeps_both_places(client: TestClient) -> None:
    answer = rerank(client, query="q", documents=[{"item_id": "i1"}, {"item_id": "i2"}, {"item_id": "i1"}])

    assert sorted(order(answer)) == [0, 1, 2]


def test_known_and_unknown_documents_mix_by_their_words(client: TestClient) -> None:
    documents = [{"id": "i0"}, {"title": "The orbit", "body": "of a comet"}, "nothing"]

    answer = rerank(client, query="comet orbit", documents=documents)

    assert answer["method"] == "words"
    assert order(answer) == [1, 0, 2]


def test_nothing_to_rank_is_an_empty_answer(client: TestClient) -> None:
    assert rerank(client, query="q", documents=[])["results"] == []


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({"documents": ["a"]}, "request: Object missing required field `query`"),
        ({"query": "", "documents": ["a"]}, "request.query: Expected `str` of length >= 1"),
        ({"query": "q", "documents": ["a"] * 1001}, "request.documents: Expected `array` of length <= 1000"),
        ({"query": "q", "documents": ["a", 3]}, "request.documents[1]: Expected `str | object`, got `int`"),
        (
            {"query": "q", "documents": ["a", {"id": "gone", "year": 3}]},
            "request.documents[1] has no text, and no id that the model knows; give it a text",
        ),
        ({"query": "q", "documents": ["a"], "top_n": 0}, "request.top_n: Expected `int` >= 1"),
    ],
)
def test_what_cannot_be_ranked_is_told_why(client: TestClient, fields: dict[str, Any], detail: str) -> None:
    response = client.post("/v1/rerank", json=fields)

    assert response.status_code == 422
    assert response.json()["detail"] == detail
