import asyncio
import http.client
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from tailwise.serve.guard import STRICT, Guard

TOO_LARGE = "the body is larger than 2 MiB; send it in parts"


def test_a_body_of_ten_megabytes_is_refused_by_its_length(served: str) -> None:
    response = httpx.post(f"{served}/v1/events", content=b"[" + b" " * 10_000_000 + b"]")

    assert response.status_code == 413
    assert response.json()["detail"] == TOO_LARGE
    assert response.headers["content-type"] == "application/problem+json"


def test_a_length_that_is_announced_is_enough_to_refuse(served: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(served).netloc)
    connection.putrequest("POST", "/v1/rank")
    connection.putheader("Content-Length", "3000000")
    connection.endheaders()  # and not a byte of the body

    status = connection.getresponse().status

    connection.close()
    assert status == 413


def test_a_body_without_a_length_is_counted_as_it_comes(served: str) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(48):
            yield b" " * 65536

    response = httpx.post(f"{served}/v1/rank", content=endless())

    assert response.status_code == 413
    assert response.json()["detail"] == TOO_LARGE


def test_two_mebibytes_are_not_too_large(client: TestClient) -> None:
    body = b'{"user_id": "u1", "k": 1' + b" " * (2 * 1024 * 1024 - 25) + b"}"

    assert len(body) == 2 * 1024 * 1024
    assert client.post("/v1/rank", content=body).status_code == 200


@pytest.mark.parametrize(
    ("site", "status"), [("same-origin", 200), ("none", 200), ("cross-site", 403), ("same-site", 403)]
)
def test_pages_of_other_sites_change_nothing(client: TestClient, site: str, status: int) -> None:
    event = {"user_id": "u", "item_id": "i1"}

    response = client.post("/v1/events", json=event, headers={"Sec-Fetch-Site": site})

    assert response.status_code == status
    assert len(client.get("/v1/users/u", headers={"Sec-Fetch-Site": site}).json()["events"]) == (status == 200)


def test_a_caller_that_hangs_up_halfway_is_no_fault_of_ours(served: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(served).netloc)
    connection.putrequest("POST", "/v1/rank")
    connection.putheader("Content-Length", "100")
    connection.endheaders(b"{")

    connection.close()

    def counted() -> list[str]:
        return [line for line in httpx.get(f"{served}/metrics").text.splitlines() if '="/v1/rank",status' in line]

    lines = next(lines for lines in (counted() for _ in range(500)) if lines)
    assert 'status="400"' in lines[0]


def test_an_address_longer_than_any_is_refused(client: TestClient) -> None:
    long, fits = client.get(f"/v1/items?search={'x' * 8192}"), client.get(f"/v1/users/{'%C3%A9' * 512}")

    assert long.status_code == 414
    assert long.json()["detail"] == "the address is longer than 8 KiB; send long texts in a body"
    assert fits.status_code == 200  # the longest id, in the longest spelling


@pytest.mark.parametrize(("length", "status"), [("-1", 400), ("+5", 400), ("1e3", 400), ("9" * 400, 413)])
def test_a_length_that_is_none_is_refused(client: TestClient, length: str, status: int) -> None:
    assert client.post("/v1/rank", content=b"{}", headers={"Content-Length": length}).status_code == status


def test_headers_are_strict_and_each_is_there_once(client: TestClient) -> None:
    for path in ("/", "/v1/model", "/nowhere", "/static/app.js"):
        headers = client.get(path).headers
        for name, value in STRICT.items():
            assert headers.get_list(name) == [value]


def test_more_requests_at_once_than_allowed_are_told_to_come_back() -> None:
    async def run() -> tuple[list[int], list[int]]:
        may_end = asyncio.Event()

        async def slow(scope: Scope, receive: Receive, send: Send) -> None:
            await may_end.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        async def ask() -> Message:
            said: list[Message] = []

            async def send(message: Message) -> None:
                said.append(message)

            scope = {"type": "http", "method": "GET", "scheme": "http", "query_string": b"", "headers": []}
            await guard(scope, nothing, send)
            return said[0]

        guard = Guard(slow, at_once=2)
        asked = [asyncio.create_task(ask()) for _ in range(4)]
        await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        may_end.set()
        crowd = [await one for one in asked]
        assert (b"retry-after", b"1") in crowd[3]["headers"]
        return [one["status"] for one in crowd], [(await ask())["status"]]

    async def nothing() -> Message:
        return {"type": "http.request"}

    crowd, later = asyncio.run(run())

    assert crowd == [200, 200, 503, 503]
    assert later == [200]
