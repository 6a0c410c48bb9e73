import io
import json
import logging
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from tailwise.serve.logs import HEADER, REQUEST, Lines


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What the areas of the service write, as JSON lines."""
    area, out = logging.getLogger("tailwise"), io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(Lines("json"))
    area.addHandler(handler)
    level = logging.getLogger("tailwise.serve.logs").level
    logging.getLogger("tailwise.serve.logs").setLevel(logging.INFO)
    try:
        yield out
    finally:
        area.removeHandler(handler)
        logging.getLogger("tailwise.serve.logs").setLevel(level)


def lines(out: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_every_answer_has_an_id_and_a_caller_may_name_it(client: TestClient) -> None:
    own = client.get("/health", headers={HEADER: "order-7:retry.2"})
    made = [client.get("/health").headers[HEADER] for _ in range(2)]

    assert own.headers[HEADER] == "order-7:retry.2"
    assert len(set(made)) == 2
    assert all(len(each) == 32 for each in made)


@pytest.mark.parametrize("forged", ['x" level="INFO', "a b", "x" * 129, "é", "{}"])
def test_an_id_that_could_forge_a_line_is_replaced(client: TestClient, forged: str) -> None:
    answer = client.get("/health", headers={HEADER.encode(): forged.encode("latin-1")})

    assert answer.status_code == 200
    assert answer.headers[HEADER] != forged
    assert len(answer.headers[HEADER]) == 32


def test_a_request_is_one_line_with_its_route_and_not_its_path(client: TestClient, written: io.StringIO) -> None:
    client.get("/v1/users/very-private-id", headers={HEADER: "r-1"})

    (line,) = lines(written)

    assert {name: line[name] for name in ("level", "message", "request_id", "method", "route", "status")} == {
        "level": "INFO",
        "message": "request",
        "request_id": "r-1",
        "method": "GET",
        "route": "/v1/users/{user_id:path}",
        "status": 200,
    }
    assert isinstance(line["ms"], float)
    assert "very-private-id" not in written.getvalue()


def test_what_is_logged_while_a_request_is_answered_carries_its_id() -> None:
    held = REQUEST.set("r-9")

    line = json.loads(Lines("json").format(logging.makeLogRecord({"msg": "oh %s", "args": ("no",), "name": "here"})))

    REQUEST.reset(held)
    assert (line["message"], line["request_id"], line["area"]) == ("oh no", "r-9", "here")


def test_an_error_is_one_line_too() -> None:
    error = ValueError("two\nlines")
    record = logging.makeLogRecord({"msg": "failed", "exc_info": (ValueError, error, None)})

    text = Lines("json").format(record)

    assert text.count("\n") == 0
    assert "two\nlines" in json.loads(text)["error"]
