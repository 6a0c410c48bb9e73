"""Spans as a collector gets them: a real one on loopback that reads OTLP."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tailwise.pipeline import Engine
from tailwise.serve.app import create_app
from tailwise.serve.service import Service

trace_service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@contextmanager
def collector() -> Iterator[tuple[str, list[Any]]]:
    spans: list[Any] = []

    class Reads(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
            for resource in trace_service.ExportTraceServiceRequest.FromString(body).resource_spans:
                spans.extend(span for scope in resource.scope_spans for span in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_request(self, code: object = "-", size: object = "-") -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Reads)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/traces", spans
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def told(engine: Engine, **headers: str) -> list[Any]:
    with collector() as (address, spans):
        with TestClient(create_app(engine, Service(model=Path(), traces=address))) as client:
            assert client.post("/v1/rank", json={"user_id": "u1"}, headers=headers).status_code == 200
        return spans  # all are sent when the service has ended


def test_a_request_is_a_span_and_each_step_one_inside_it(engine: Engine) -> None:
    spans = {span.name: span for span in told(engine)}

    whole = spans.pop("POST /v1/rank")
    assert {"person", "retrieve", "hydrate", "blend", "mmr", "exposure", "because"} == set(spans)
    assert all(span.parent_span_id == whole.span_id and span.trace_id == whole.trace_id for span in spans.values())
    facts = {fact.key: fact.value for fact in whole.attributes}
    assert facts["http.response.status_code"].int_value == 200
    assert spans["retrieve"].end_time_unix_nano <= spans["mmr"].start_time_unix_nano + 1000


def test_a_span_continues_the_trace_of_the_caller(engine: Engine) -> None:
    whole = next(span for span in told(engine, traceparent=PARENT) if span.name == "POST /v1/rank")

    assert whole.trace_id.hex() == PARENT.split("-")[1]
    assert whole.parent_span_id.hex() == PARENT.split("-")[2]


def test_no_id_of_a_person_is_in_any_span(engine: Engine) -> None:
    with collector() as (address, spans):
        with TestClient(create_app(engine, Service(model=Path(), traces=address))) as client:
            client.get("/v1/users/very-private-id")

        assert [span.name for span in spans] == ["GET /v1/users/{user_id:path}"]
        assert "very-private-id" not in "".join(str(span) for span in spans)


def test_a_collector_that_is_away_costs_no_answer(engine: Engine) -> None:
    with TestClient(create_app(engine, Service(model=Path(), traces="http://127.0.0.1:9/v1/traces"))) as client:
        statuses = [client.post("/v1/rank", json={"user_id": "u1"}).status_code for _ in range(3)]

    assert statuses == [200] * 3
