"""
What never stands in a log: secrets, wherever they turn up, and who did what, in fields that say so.

Masking is the last step before a line is written, because a secret may come in through any error's text.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from typing import Any

SECRETS = re.compile(
    r"(?P<key>\btw_[0-9a-f]{8}_)[\w-]+"  # an API key: its id may stay
    r"|(?P<kind>\b(?:bearer|basic)\s+)[\w.~+/=-]{8,}"  # what an Authorization header holds
    r"|\beyJ[\w-]{5,}\.[\w-]+\.[\w-]*"  # a token by itself
    r"|(?P<scheme>\b[a-z][a-z0-9+]*://[^\s:/@]*:)[^\s/@]+(?=@)",  # a password in an address, as of Redis
    re.IGNORECASE,
)
HIDDEN = "***"
PERSONAL = frozenset({"user_id", "friend_id", "query", "history", "context", "address", "profile"})
"""Fields of a log line that tell of a person."""
_salt = secrets.token_bytes(16)


def masked(text: str) -> str:
    """
    A line without the secrets in it.

    >>> masked("refused Bearer tw_0123abcd_Zm9vYmFy, see redis://me:pass@host/0")
    'refused Bearer ***, see redis://me:***@host/0'
    """
    return SECRETS.sub(_hidden, text)


def depersonalised(fields: Mapping[str, Any]) -> dict[str, Any]:
    """
    Fields of a log line with personal values replaced by short names that are alike only within one process.

    Two lines about one person can be told to be so while the service runs; afterwards nobody can tell whose they were.

    >>> told = depersonalised({"user_id": "ann", "ms": 3})
    >>> told["ms"], told["user_id"] == depersonalised({"user_id": "ann"})["user_id"], "ann" in told["user_id"]
    (3, True, False)
    """
    return {name: _alias(value) if name in PERSONAL else value for name, value in fields.items()}


def _alias(value: Any) -> str:
    return f"~{hashlib.blake2b(str(value).encode(errors='replace'), key=_salt, digest_size=6).hexdigest()}"


def _hidden(found: re.Match[str]) -> str:
    kept = next((group for group in found.group("key", "kind", "scheme") if group), "")
    return f"{kept}{HIDDEN}"
