import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient
from starlette.types import Message

from tailwise.data.catalogue import Catalogue
from tailwise.pipeline import Engine
from tailwise.pipeline.binding import Bound
from tailwise.serve.app import create_app
from tailwise.serve.problems import HINTS
from tailwise.types import Request, Slate


def problem(response: Any, status: int) -> str:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    found = response.json()
    assert found["status"] == status
    assert set(found) == {"type", "title", "status", "detail"}
    return str(found["detail"])


def ids(response: Any) -> list[str]:
    assert response.status_code == 200, response.text
    return [item["item_id"] for item in response.json()["items"]]


def test_candidates_come_back_ranked_and_only_they(client: TestClient) -> None:
    candidates = [f"i{n}" for n in range(0, 90, 7)]

    response = client.post("/v1/rank", json={"request_id": "r1", "user_id": "u1", "candidates": candidates, "k": 5})

    assert response.json()["request_id"] == "r1"
    assert len(ids(response)) == 5
    assert set(ids(response)) <= set(candidates)


def test_an_answer_is_on_its_way_before_notes_are_taken_of_it(app: FastAPI) -> None:
    noted = lambda: b'tailwise_stage_seconds_count{stage="hydrate"} 1.0' in app.state.context.monitor.text()  # noqa: E731  a word for this test
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", "method": "POST"}
    scope |= {"path": "/v1/rank", "raw_path": b"/v1/rank", "query_string": b"", "root_path": "", "headers": []}
    when: dict[str, bool] = {}

    async def receive() -> Message:
        return {"type": "http.request", "body": b'{"candidates": ["i1", "i2"]}', "more_body": False}

    async def send(message: Message) -> None:
        when[message["type"]] = noted()

    asyncio.run(app(scope, receive, send))

    assert when == {"http.response.start": False, "http.response.body": False}
    assert noted()


def test_recommending_finds_unseen_items(client: TestClient) -> None:
    seen = {event["item_id"] for event in client.get("/v1/users/u1").json()["events"]}

    found = ids(client.post("/v1/recommend", json={"request_id": "r1", "user_id": "u1"}))

    assert len(found) == 10
    assert not seen & set(found)


def test_recommending_refuses_candidates(client: TestClient) -> None:
    response = client.post("/v1/recommend", json={"user_id": "u1", "candidates": ["i1"]})

    assert problem(response, 422) == "recommend finds the candidates itself; send yours to POST /v1/rank"


@pytest.mark.parametrize(("n", "expected"), [(0, 0), (1, 1), (5000, 10)])
def test_lists_of_any_allowed_length_are_ranked(client: TestClient, n: int, expected: int) -> None:
    found = ids(client.post("/v1/rank", json={"request_id": "r", "candidates": [f"i{place}" for place in range(n)]}))

    assert len(found) == expected


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        (
            {"candidates": [f"i{place}" for place in range(5001)]},
            "candidates holds 5001 items, but at most 5000 are ranked at once",
        ),
        ({"user_id": "u1", "k": 0}, "k is 0, but it must be between 1 and 1000"),
        ({"user_id": "u1", "k": 10**19}, "k is 10000000000000000000, but it must be between 1 and 1000"),
        ({}, "a request needs one of: user_id, history, candidates, query"),
        ({"user_id": 7}, "request.user_id: Expected `str | null`, got `int`"),
    ],
)
def test_what_cannot_be_ranked_is_told_why(client: TestClient, fields: dict[str, Any], detail: str) -> None:
    response = client.post("/v1/rank", json={"request_id": "r", **fields})

    assert problem(response, 422) == detail


def test_a_stranger_gets_what_is_popular(client: TestClient, engine: Engine) -> None:
    found = ids(client.post("/v1/rank", json={"request_id": "r", "user_id": "nobody", "k": 3}))

    rows = engine.catalogue.rows(found)
    assert (engine.catalogue.popularity[rows] > np.median(engine.catalogue.popularity)).all()


def test_broken_json_is_a_bad_request(client: TestClient) -> None:
    for path in ("/v1/rank", "/v1/recommend", "/v1/rerank", "/v1/events"):
        assert "is not JSON" in problem(client.post(path, content=b'{"user_id": NaN'), 400)


def test_unknown_paths_methods_and_parameters_are_problems(client: TestClient) -> None:
    assert problem(client.get("/v2/rank"), 404) == "nothing is served here; GET /docs lists the routes"
    assert problem(client.get("/static/../app.py"), 404)
    response = client.get("/v1/rank")
    assert problem(response, 405) == "this route does not answer that method; GET /docs lists the routes"
    assert response.headers["allow"] == "POST"
    detail = problem(client.get("/v1/people?limit=many"), 422)
    assert detail == "limit is 'many', but: Input should be a valid integer, unable to parse string as an integer"


def test_a_fault_of_ours_is_a_500_that_shows_nothing(client: TestClient, engine: Engine) -> None:
    engine.catalogue = None  # type: ignore[assignment]  # breaks what no caller can break

    response = client.post("/v1/rank", json={"user_id": "u1"})

    detail = problem(response, 500)
    assert detail == "something failed here that is not the request's fault; the service's log has the details"


def test_a_closed_store_makes_the_service_unready_but_not_dead(served: str, engine: Engine) -> None:
    assert httpx.get(f"{served}/ready", timeout=60).json() == {"status": "ready", "version": "c1ne3a00", "store": "ok"}
    engine.store.close()

    response = httpx.get(f"{served}/ready", timeout=60)

    assert problem(response, 503) == HINTS[503]
    assert response.headers["retry-after"] == "1"
    assert httpx.get(f"{served}/health", timeout=60).json() == {"status": "ok"}


def test_neighbours_have_titles_and_scores(client: TestClient) -> None:
    found = client.get("/v1/items/i3/similar?k=4").json()

    assert found["item_id"] == "i3"
    assert len(found["items"]) == 4
    assert "i3" not in [item["item_id"] for item in found["items"]]
    assert set(found["items"][0]) == {"item_id", "title", "score"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/items/i3/similar"),
        ("GET", "/v1/items"),
        ("GET", "/v1/people"),
        ("GET", "/v1/insights"),
        ("POST", "/v1/rerank"),
        ("POST", "/v1/rank"),
        ("POST", "/v1/recommend"),
        ("POST", "/v1/explain"),
        ("GET", "/v1/model"),
        ("GET", "/ready"),
    ],
)
def test_what_comes_from_the_model_says_which_one_it_was(client: TestClient, method: str, path: str) -> None:
    body = {"user_id": "u1", "query": "war", "documents": ["a", "b"]}

    answer = client.request(method, path, json=body if method == "POST" else None)

    assert (answer.status_code, answer.json()["version"]) == (200, "c1ne3a00")


def test_fewer_neighbours_than_asked_for_are_all_there_are(client: TestClient) -> None:
    found = client.get("/v1/items/i3/similar?k=1000").json()["items"]

    assert len({item["item_id"] for item in found}) == len(found) <= 95


def test_neighbours_of_an_unknown_item_are_a_404_that_helps(client: TestClient) -> None:
    detail = problem(client.get("/v1/items/a%2Fb/similar"), 404)

    assert detail == "item 'a/b' is unknown to the model; GET /v1/items?search= finds items"


def test_people_are_found_by_the_whole_id_first(client: TestClient) -> None:
    found = client.get("/v1/people", params={"search": "U1", "limit": 3}).json()["people"]

    assert found == [{"user_id": name, "events": 14} for name in ("u1", "u10", "u11")]


def test_items_are_found_and_called_by_their_titles_in_any_language(engine: Engine) -> None:
    frame = engine.catalogue.frame.with_columns(title_zh=pl.when(pl.col("item_id") == "i3").then(pl.lit("安静的轨道")))
    own, nothing = engine.catalogue, np.zeros((len(engine.catalogue), 1), np.float32)
    named = Catalogue(frame, popularity=own.popularity, recent=own.decayed, vectors=nothing, tail_cut=own.tail_cut)
    asked, chinese = {"search": "轨道"}, {"Accept-Language": "zh-CN,en;q=0.5"}
    engine.catalogue = named

    with TestClient(create_app(engine)) as client:
        here, there = (
            client.get("/v1/items", params=asked, headers=own).json()["items"]
            for own in (chinese, {"Accept-Language": "de"})
        )

        body = {"history": [{"item_id": "i5"}], "candidates": ["i3"], "context": {"locale": ""}}
        told, plain = (
            client.post("/v1/rank", json=body, headers=own).json()["items"][0]["title"]
            for own in (chinese, {"Accept-Language": "de"})
        )

    assert (told, plain) == ("安静的轨道", named.title(3))
    assert [(item["item_id"], item["title"]) for item in here] == [("i3", "安静的轨道")]
    assert [(item["item_id"], item["title"]) for item in there] == [("i3", named.title(3))]
    assert named.title(3) != "安静的轨道"


def test_items_are_found_by_a_part_of_the_title_taken_literally(client: TestClient) -> None:
    assert client.get("/v1/items", params={"search": "orbit"}).json()["items"][0]["title"] == "The Quiet Orbit"
    assert client.get("/v1/items", params={"search": "i0"}).json()["items"][0]["item_id"] == "i0"
    assert client.get("/v1/items", params={"search": ".*"}).json()["items"] == []
    popularities = client.get("/v1/items", params={"limit": 2}).json()["items"]
    assert [item["tail"] for item in popularities] == [False, False]


def test_the_model_card_has_no_hashes(client: TestClient) -> None:
    card = client.get("/v1/model").json()

    assert "files" not in card
    assert card["version"] == "c1ne3a00"
    assert card["counts"] == {"items": 96, "people": 24, "events": 336}
    assert [step["name"] for step in card["pipeline"]["stage"]] == ["blend", "mmr", "exposure", "because"]
    assert card["metrics"]["validation"]["ndcg@10"] == 0.1234


def test_the_description_names_every_body_and_every_reference_exists(client: TestClient) -> None:
    description = client.get("/openapi.json").json()

    forms = description["components"]["schemas"]
    for path in ("/v1/rank", "/v1/recommend", "/v1/rerank", "/v1/events"):
        content = description["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        assert content["example"]
        assert content["schema"]
    named = set(str(description).split("#/components/schemas/")[1:])
    assert {name.split("'")[0] for name in named} <= set(forms)
    assert "candidates" in forms["RequestForm"]["properties"]


def test_the_examples_of_the_description_work(client: TestClient) -> None:
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        if "requestBody" in methods.get("post", {}) and path != "/v1/model/canary":  # there is none here
            example = methods["post"]["requestBody"]["content"]["application/json"]["example"]
            assert client.post(path, json=example).status_code == 200


def test_pages_and_their_files_are_served_with_strict_headers(client: TestClient) -> None:
    for path in ("/", "/docs", "/static/app.js", "/static/style.css"):
        response = client.get(path)
        assert response.status_code == 200
        assert response.headers["content-security-policy"].startswith("default-src 'self'")
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["cache-control"] == "no-cache"
    assert "access-control-allow-origin" not in client.get("/health", headers={"Origin": "https://elsewhere"}).headers


def test_a_stage_that_breaks_is_skipped_and_the_trace_says_so(app: FastAPI, engine: Engine) -> None:
    class Broken:
        needs: frozenset[str] = frozenset()
        gives: frozenset[str] = frozenset({"reasons"})

        def __call__(self, request: Request, slate: Slate) -> Slate:
            raise ZeroDivisionError("oops")

    engine.stages = (Bound("broken", engine.stages[0].step, Broken()),)
    with TestClient(app) as client:
        answer = client.post("/v1/rank", json={"user_id": "u1"}).json()
        metrics = client.get("/metrics").text

    assert answer["trace"][-1]["skipped"] == "failed: ZeroDivisionError: oops"
    assert [item["reasons"] for item in answer["items"]] == [[]] * 10
    assert 'tailwise_stage_skipped_total{stage="broken",why="failed"} 1.0' in metrics


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = "request_id user_id time k candidates history context query exclude_seen diversity tail_share seed explain"
FIELDS += " item_id event value position propensity event_id documents top_n return_documents model"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(FIELDS.split()), anything))
def test_no_body_makes_the_service_fail(client: TestClient, fields: dict[str, Any]) -> None:
    for path in ("/v1/rank", "/v1/recommend", "/v1/rerank", "/v1/events"):
        assert client.post(path, json=fields).status_code in {200, 400, 422}


def test_names_in_addresses_of_any_spelling_are_answered(client: TestClient) -> None:
    paths: list[Callable[[str], str]] = [lambda name: f"/v1/users/{name}", lambda name: f"/v1/items/{name}/similar"]
    for name in ("%00", "a%2Fb", "..%2F..", "%F0%9F%8E%AC", "%FF", "x" * 600):
        for path in paths:
            assert client.get(path(name)).status_code in {200, 404, 422}
