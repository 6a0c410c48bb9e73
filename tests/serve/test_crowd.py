"""Many clients at once, through a real server: nobody gets an error, and nothing that was answered is lost."""

import asyncio
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tailwise.state.sqlite import SqliteStore

PEOPLE = 200


class Caller:
    """One connection that is kept; a full client would take ten times as long as the service."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def post(self, path: str, value: Any) -> tuple[int, Any]:
        body = json.dumps(value).encode()
        self._writer.write(f"POST {path} HTTP/1.1\r\nHost: here\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.split("content-length: ")[1].split("\r\n")[0])
        return int(head.split()[1]), json.loads(await self._reader.readexactly(length))


async def visit(address: str, number: int) -> tuple[int, int, int]:
    reader, writer = await asyncio.open_connection(urlsplit(address).hostname, urlsplit(address).port)
    caller, user = Caller(reader, writer), f"guest-{number}"
    event = {"user_id": user, "item_id": f"i{number % 96}", "event": "click", "event_id": f"e{number}"}
    told, stored = await caller.post("/v1/events", event)
    ranked, answer = await caller.post("/v1/rank", {"request_id": user, "user_id": user, "explain": True})
    writer.close()
    await writer.wait_closed()
    assert answer["request_id"] == user
    assert [past["item_id"] for past in answer["history"]] == [event["item_id"]]
    return told, ranked, stored["new"]


async def crowd(address: str) -> list[tuple[int, int, int]]:
    return await asyncio.gather(*(visit(address, number) for number in range(PEOPLE)))


def test_two_hundred_clients_at_once_get_no_error_and_read_their_own_writes(served: str, tmp_path: Path) -> None:
    answers = asyncio.run(crowd(served))

    assert answers == [(200, 200, 1)] * PEOPLE
    store = SqliteStore(tmp_path / "state.sqlite")
    stored = store.size()
    store.close()
    assert stored == PEOPLE
