"""What nobody means well: every route through a real socket, and no answer is a fault of ours."""

import gzip
import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest

from tailwise.cli import main
from tailwise.pipeline import Engine
from tailwise.serve.auth import SCOPES

POSTS = [operation.split()[1] for operation in SCOPES if operation.startswith("POST")]
WITH_IDS = [operation.split() for operation in SCOPES if "{" in operation]
DEEP = 100_000

IDS = [
    "../../../etc/passwd",
    "..\\..\\windows",
    "/etc/passwd",
    "a/../../b",
    "a\x00b",
    "\x00",
    "%00",
    "%2e%2e%2f",
    "a\nb: c\r\n\r\nHTTP/1.1 200 OK",
    "é" * 500,
    "x" * 512,
    "x" * 513,
    "x" * 7000,
    "\u202egnp.exe",
    "\U0001f3ac",
    "' OR 1=1 --",
    "{{7*7}}${7*7}<script>alert(1)</script>",
    "__proto__",
    "nan",
    "-1",
    " ",
    "\ufeff",
    "con",
    "*",
    "?",
    "#",
    "~1",
]

BODIES: dict[str, bytes] = {
    "nothing": b"",
    "null": b"null",
    "a number": b"7",
    "a string": b'"x"',
    "an empty list": b"[]",
    "deep lists": b"[" * DEEP + b"]" * DEEP,
    "deep lists without an end": b"[" * DEEP,
    "deep objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "a deep context": b'{"user_id":"u","context":' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}",
    "a deep unknown field": b'{"user_id":"u","other":' + b"[" * DEEP + b"]" * DEEP + b"}",
    "a deep document": b'{"query":"q","documents":[' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"]}",
    "a wide context": json.dumps({"user_id": "u", "context": {f"k{n}": n for n in range(50_000)}}).encode(),
    "huge integers": b'{"user_id":"u","item_id":"i","k":' + b"9" * 5000 + b',"time":1' + b"0" * 400 + b"}",
    "a huge seed": b'{"user_id":"u","seed":99999999999999999999999}',
    "a huge exponent": b'{"user_id":"u","item_id":"i","time":1e999,"value":1e999}',
    "NaN": b'{"user_id":"u","item_id":"i","value":NaN}',
    "Infinity": b'{"user_id":"u","item_id":"i","value":Infinity,"time":-Infinity}',
    "a lone surrogate": b'{"user_id":"\\ud800","item_id":"\\udfff","query":"\\ud800","documents":["\\ud800"]}',
    "NULs": b'{"user_id":"\\u0000","item_id":"a\\u0000b","query":"\\u0000","documents":["\\u0000"]}',
    "a raw NUL": b'{"user_id":"a\x00b"}',
    "invalid UTF-8": b'{"user_id":"\xff\xfe","item_id":"\xc0\x80"}',
    "UTF-16": '{"user_id":"u"}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"user_id":"u","item_id":"i"}',
    "duplicated keys": b'{"user_id":"u","user_id":["v"],"item_id":"i","item_id":"j"}',
    "a trailing comma": b'{"user_id":"u",}',
    "two values": b'{"user_id":"u"}{"user_id":"v"}',
    "a comment": b'/* */{"user_id":"u"}',
    "a gzip bomb": gzip.compress(b"[" + b"0," * 5_000_000 + b"0]"),
    "XML": b'<!DOCTYPE x [<!ENTITY y SYSTEM "file:///etc/passwd">]><x>&y;</x>',
    "a form": b"user_id=u&item_id=i",
    "prototype pollution": b'{"__proto__":{"admin":true},"constructor":{"prototype":{}},"user_id":"u","item_id":"i"}',
    "wrong types everywhere": b'{"user_id":{},"item_id":[],"k":"1","candidates":{},"history":[1],"documents":"x"}',
    "many events": json.dumps([{"user_id": "u", "item_id": "i"}] * 10_001).encode(),
    "many documents": json.dumps({"query": "q", "documents": ["x"] * 1001}).encode(),
    "a path as a model": b'{"query":"q","documents":["x"],"model":"../../../../etc/passwd"}',
    "an enormous number of candidates": json.dumps({"candidates": ["x"] * 200_000}).encode(),
    "a blend of strange numbers": b'{"user_id":"u","blend":{"score":1e308,"":-1e308}}',
    "times before and after all": b'{"user_id":"u","item_id":"i","time":"0001-01-01T00:00:00+14:00"}',
    "a strange time": b'{"user_id":"u","item_id":"i","time":"2026-13-45T99:99:99Z"}',
}
TYPES = ["application/json", "text/plain", "multipart/form-data; boundary=x", "application/xml", "\u00e9", "a" * 4000]


@pytest.fixture(scope="module")
def connection(site: tuple[str, Engine]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=site[0], timeout=30) as client:
        yield client


def unharmed(response: httpx.Response) -> None:
    assert response.status_code < 500, response.text
    told = response.text
    assert "Traceback" not in told
    assert ".py" not in told
    if response.status_code >= 400:
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["status"] == response.status_code


@pytest.mark.parametrize("name", BODIES)
def test_no_body_makes_a_route_fail(connection: httpx.Client, name: str) -> None:
    for path in POSTS:
        unharmed(connection.post(path, content=BODIES[name]))


@pytest.mark.parametrize("kind", TYPES)
def test_no_content_type_makes_a_route_fail(connection: httpx.Client, kind: str) -> None:
    for path in POSTS:
        headers = {
            "Content-Type": kind.encode("latin-1"),
            "Content-Encoding": "gzip",
            "Accept": "\u00e9".encode("latin-1"),
        }
        unharmed(connection.post(path, content=b'{"user_id":"u"}', headers=headers))


@pytest.mark.parametrize(("field", "value"), [("context", {}), ("blend", {})])
def test_tables_have_an_end(connection: httpx.Client, field: str, value: dict[str, float]) -> None:
    many = {f"k{n}": 0.0 for n in range(101)}

    answer = connection.post("/v1/rank", json={"user_id": "u1", field: many | value})

    assert answer.status_code == 422
    assert answer.json()["detail"] == f"request.{field}: Expected `object` of length <= 100"


def test_a_compressed_body_is_not_unpacked(connection: httpx.Client) -> None:
    bomb = gzip.compress(b" " * 50_000_000 + b'{"user_id":"u1"}')

    answer = connection.post("/v1/rank", content=bomb, headers={"Content-Encoding": "gzip"})

    assert answer.status_code == 400


@pytest.mark.parametrize("name", IDS, ids=range(len(IDS)))
def test_no_name_in_an_address_makes_a_route_fail(connection: httpx.Client, name: str) -> None:
    spelled = quote(name, safe="", errors="surrogatepass")
    for method, path in WITH_IDS:
        asked = path.replace("{user_id}", spelled).replace("{item_id}", spelled)
        answer = connection.request(method, asked)
        unharmed(answer)
        assert "root:" not in answer.text
    for path in ("/v1/items", "/v1/people"):
        unharmed(connection.get(f"{path}?search={spelled}&limit={spelled}"))
        unharmed(connection.get(f"{path}?{spelled}={spelled}"))


@pytest.mark.parametrize("name", IDS, ids=range(len(IDS)))
def test_no_name_in_a_body_makes_a_route_fail_and_it_is_given_back_as_it_is(
    connection: httpx.Client, name: str
) -> None:
    event = {"user_id": name, "item_id": name, "event_id": f"{len(name)}-{name[:200]}", "request_id": name}
    request = {"user_id": name, "query": name, "candidates": [name], "request_id": name, "context": {name: name}}
    documents = {"query": name, "documents": [name, {"id": name}], "user_id": name, "model": name}
    for path, body in (
        ("/v1/events", event),
        ("/v1/rank", request),
        ("/v1/explain", request),
        ("/v1/rerank", documents),
    ):
        answer = connection.post(path, content=json.dumps(body).encode())
        unharmed(answer)
        if path == "/v1/rank" and answer.status_code == 200:
            assert answer.json()["request_id"] == name
    if len(name) <= 512 and "\n" not in name:
        found = connection.get(f"/v1/users/{quote(name, safe='', errors='surrogatepass')}").json()
        assert [event["item_id"] for event in found["events"]] == [name]


def raw(site: tuple[str, Engine], data: bytes, *, most: int = 65_536, ends: bool = True) -> bytes:
    """What the service says to these bytes until it hangs up, or has said all of one answer."""
    address = urlsplit(site[0])
    with socket.create_connection((str(address.hostname), address.port), timeout=20) as opened:
        said = b""
        with suppress(ConnectionError):
            opened.sendall(data)
        with suppress(OSError):  # it may have hung up already
            if ends:
                opened.shutdown(socket.SHUT_WR)
        with suppress(ConnectionError):
            while len(said) < most and (part := opened.recv(65_536)):
                said += part
        return said


@pytest.mark.parametrize(
    "data",
    [
        b"POST /v1/rank HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n{}",
        b"POST /v1/rank HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"POST /v1/rank HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/rank HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
        b"POST /v1/rank HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        b"POST /v1/rank HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"POST /v1/rank HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\n{}",
        b"POST /v1/rank HTTP/1.1\r\nHost: x\r\nContent-Length: 0x5\r\n\r\n{}",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"\x00" * 4096,
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 200_000,
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X%d: y\r\n" % n for n in range(5000)) + b"\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://elsewhere.example/v1/model HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT elsewhere.example:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"TRACE / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n\r\n",
        b"POST /v1/rank HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
        b"GET /health HTTP/1.1\r\nHost: x\r\nX-Bad: a\rb\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET /health HTTP/1.1\n\n",
    ],
    ids=range(26),
)
def test_no_bytes_make_the_service_fail(site: tuple[str, Engine], data: bytes) -> None:
    said = raw(site, data)

    assert b" 500 " not in said
    assert b"Traceback" not in said
    assert httpx.get(f"{site[0]}/health").status_code == 200


def test_pipelined_requests_are_answered_in_order(site: tuple[str, Engine]) -> None:
    one = b"GET /v1/items/i%d/similar?k=1 HTTP/1.1\r\nHost: x\r\n\r\n"
    ends = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

    said = raw(site, b"".join(one % n for n in range(20)) + ends, most=10**6, ends=False)

    asked = [part.split(b'"')[3] for part in said.split(b"\r\n\r\n") if part.startswith(b'{"item_id"')]
    assert asked == [b"i%d" % n for n in range(20)]
    assert said.endswith(b'{"status":"ok"}')


def test_a_request_hidden_in_anothers_body_is_not_answered(site: tuple[str, Engine]) -> None:
    hidden = b"DELETE /v1/users/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    data = b"POST /v1/rank HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n%s"

    said = raw(site, data % (len(hidden) + 5, hidden))

    assert b"smuggled" not in said
    assert not site[1].store.erased("smuggled")


def test_more_headers_than_anybody_needs_are_refused(site: tuple[str, Engine]) -> None:
    connection = http.client.HTTPConnection(urlsplit(site[0]).netloc)
    connection.request("GET", "/health", headers={f"X-{n}": "y" for n in range(99)})

    answer = connection.getresponse()

    assert answer.status == 431
    assert json.loads(answer.read())["detail"] == "the request has more than 100 headers"
    connection.close()


@pytest.mark.parametrize("name", ["../../../etc/passwd", "\u202e", "a" * 5000, "-", "/dev/null", "x\ny"], ids=range(6))
def test_names_on_the_command_line_lead_nowhere_else(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["serve", "--port", "0", "--", name])

    said = capsys.readouterr()
    assert status == 1
    assert said.out == ""
    assert said.err.startswith("tailwise: ")
    assert said.err.count("\n") == 1


def test_everything_at_once_leaves_the_service_well(site: tuple[str, Engine]) -> None:
    for body in BODIES.values():
        raw(site, b"POST /v1/rank HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (len(body) + 1) + body)

    answer: Any = httpx.post(f"{site[0]}/v1/rank", json={"user_id": "u1", "k": 3}).json()

    assert len(answer["items"]) == 3
