"""JSON over HTTP to a model's server: connections kept, time and size bounded, the key from the environment."""

from __future__ import annotations

import json
import os
import time
import weakref
from typing import Any
from urllib.parse import urlsplit

from tailwise.errors import UnavailableError

CONNECT_S = 2.0
"""For a connection at most: a server that takes longer is not there."""


class Line:
    """
    Posts JSON to one server and reads JSON, from any thread.

    Redirects are not followed: they would carry the key elsewhere. Nothing that is raised quotes the key, a question or
    more of a reply than its status.

    Args:
        url: Where to.
        key_env: Variable of the environment that holds the key; empty sends none.
        most_bytes: A longer reply is given up.
    """

    def __init__(self, url: str, *, key_env: str = "", most_bytes: int = 2_000_000) -> None:
        import httpx

        self.url = url.rstrip("/")
        self._key_env = key_env
        self._most = most_bytes
        # Here and not at the first question, which has no time to read certificates.
        self._client = httpx.Client(follow_redirects=False)
        weakref.finalize(self, self._client.close)  # its connections end with it
        parts = urlsplit(url)
        self.host = parts.hostname + (f":{parts.port}" if parts.port else "") if parts.hostname else url

    def post(self, path: str, body: dict[str, Any], timeout_s: float) -> Any:
        """
        What the server replies.

        Raises:
            UnavailableError: It is not reached, refuses, or replies with what is no JSON, or too long.
            TimeoutError: It took longer than ``timeout_s``; after that no further byte is waited for.
        """
        import httpx

        until = time.monotonic() + timeout_s
        limits = httpx.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s))
        try:
            with self._client.stream(
                "POST", f"{self.url}{path}", json=body, headers=self._headers(), timeout=limits
            ) as reply:
                if reply.status_code != 200:
                    raise UnavailableError(f"{self.host} answered with status {reply.status_code}")
                return self._read(reply.iter_raw(), until, timeout_s)
        except httpx.TimeoutException as error:
            raise TimeoutError(f"{self.host} took longer than {timeout_s:g} s") from error
        except httpx.HTTPError as error:
            raise UnavailableError(f"{self.host} cannot be asked: {type(error).__name__}") from error

    def _read(self, blocks: Any, until: float, timeout_s: float) -> Any:
        body = bytearray()
        for block in blocks:
            body += block
            if len(body) > self._most:
                raise UnavailableError(f"{self.host} replied with more than {self._most} bytes")
            if time.monotonic() > until:
                raise TimeoutError(f"{self.host} took longer than {timeout_s:g} s")
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise UnavailableError(f"{self.host} replied with what is no JSON") from error

    def _headers(self) -> dict[str, str]:
        headers = {"Accept-Encoding": "identity"}  # what is compressed may be any size
        if self._key_env:
            key = os.environ.get(self._key_env, "").strip()
            if not key:
                raise UnavailableError(f"the environment has no {self._key_env}, which holds the key of {self.host}")
            headers["Authorization"] = f"Bearer {key}"
        return headers
