import socket
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import urlsplit

import pytest

from tailwise.pipeline import Engine


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that loses its patience after a twentieth of a second."""
    monkeypatch.setattr("tailwise.serve.protocol.HEAD_S", 0.05)
    monkeypatch.setattr("tailwise.serve.guard.BODY_S", 0.05)


@pytest.fixture
def opened(site: tuple[str, Engine]) -> Iterator[socket.socket]:
    address = urlsplit(site[0])
    with socket.create_connection((str(address.hostname), address.port), timeout=20) as connection:
        yield connection


def said(connection: socket.socket) -> bytes:
    """All until the service hangs up."""
    found = b""
    with suppress(ConnectionError):
        while part := connection.recv(65_536):
            found += part
    return found


@pytest.mark.parametrize("head", [b"", b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: "])
def test_who_never_ends_a_head_is_hung_up_on(quick: None, site: tuple[str, Engine], head: bytes) -> None:
    address = urlsplit(site[0])
    with socket.create_connection((str(address.hostname), address.port), timeout=20) as connection:
        connection.sendall(head)

        answer = said(connection)

    assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")


def test_the_second_request_of_a_connection_must_end_its_head_too(quick: None, opened: socket.socket) -> None:
    opened.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /health HTTP/1.1\r\nHo")

    answer = said(opened)

    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b"HTTP/1.1 408 Request Timeout" in answer


def test_a_connection_that_rests_between_requests_is_not_hung_up_on(quick: None, opened: socket.socket) -> None:
    request = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    opened.sendall(request)
    first = opened.recv(65_536)
    opened.settimeout(0.2)
    with pytest.raises(TimeoutError):
        opened.recv(1)  # four times as long as a head may take

    opened.settimeout(20)
    opened.sendall(request)

    assert first.startswith(b"HTTP/1.1 200")
    assert opened.recv(65_536).startswith(b"HTTP/1.1 200")


def test_a_body_that_never_ends_is_given_up(quick: None, opened: socket.socket) -> None:
    opened.sendall(b"POST /v1/rank HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 100\r\n\r\n{")

    answer = said(opened)

    assert answer.startswith(b"HTTP/1.1 408 Request Timeout")
    assert b"the body took longer than" in answer


@pytest.mark.parametrize("head", [b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000, b"GET /" + b"a" * 100_000])
def test_an_endless_head_is_refused_before_it_is_kept(opened: socket.socket, head: bytes) -> None:
    with suppress(ConnectionError):
        opened.sendall(head)

    answer = said(opened)

    assert answer == b"" or answer.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
