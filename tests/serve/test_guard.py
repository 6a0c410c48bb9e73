import http.client
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.testclient import TestClient

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
