"""HTTP as uvicorn speaks it, but the head of a request may be endless neither in size nor in time."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

HEAD_S = 10.0
"""How long a request's line and headers may take to arrive, and a new connection to begin one, in seconds."""
MOST_HEAD = 64 * 1024
"""Of a request's line and headers, in bytes."""
TOO_LONG = f"the request's line and headers are longer than {MOST_HEAD // 1024} KiB"
TOO_SLOW = f"the request's line and headers took longer than {HEAD_S:g} s"


class CarefulProtocol(HttpToolsProtocol):
    """
    One connection. uvicorn waits for the head of a request as long as it takes, and keeps whatever comes.

    Cost: a timer a request, some 2 µs.
    """

    _head = 0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """A client is there: it has ``HEAD_S`` to send its first head."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._head_is_there()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """The first byte of a request: of a later one on this connection, the time begins here."""
        super().on_message_begin()
        if self._timer is None:
            self._await_head()

    def on_headers_complete(self) -> None:
        """The head is there; the body is counted by ``Guard``."""
        self._head_is_there()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Some bytes: of a head while the timer runs."""
        super().data_received(data)
        if self._timer is not None:
            self._head += len(data)
            if self._head > MOST_HEAD:
                self._refuse(431, TOO_LONG)

    def _await_head(self) -> None:
        self._head = 0
        self._timer = self.loop.call_later(HEAD_S, self._refuse, 408, TOO_SLOW)

    def _head_is_there(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, status: int, why: str) -> None:
        self._head_is_there()
        if self.transport.is_closing():
            return
        head = b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(STATUS_LINE[status] + head % len(why) + why.encode())
        self.transport.close()
