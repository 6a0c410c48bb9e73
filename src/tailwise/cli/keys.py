"""``keys``: making, listing, ending and replacing the API keys of a service."""

from __future__ import annotations

import argparse
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tailwise.cli.progress import say
from tailwise.errors import UsageError

if TYPE_CHECKING:
    from tailwise.serve.keys import Key

DAY_S, HOUR_S = 86_400.0, 3_600.0
COLUMNS = ("id", "name", "scopes", "tenant", "limits", "created", "expires")


def keep_keys(options: argparse.Namespace) -> int:
    """
    Do one thing to a file of keys. A running service sees it within a second.

    Raises:
        UsageError: An option is missing or wrong, or no key has the id.
    """
    from tailwise.serve import keys

    now = time.time()
    if options.what in {"revoke", "rotate"} and options.id is None:
        raise UsageError(f"{options.what} needs the id of a key; see: tailwise keys list --keys {options.keys}")
    if options.what == "list":
        _list(keys.read_keys(options.keys).key, now)
    elif options.what == "revoke":
        key = keys.revoke_key(options.keys, options.id, now=now)
        say(f"key {key.id} is revoked; a running service stops taking it within a second")
    elif options.what == "rotate":
        if options.hours < 0:
            raise UsageError(f"hours is {options.hours:g}, but it must be at least 0")
        key, secret = keys.rotate_key(options.keys, options.id, now=now, grace=options.hours * HOUR_S)
        say(f"key {key.id} may do what {options.id} may, which goes on for {options.hours:g} hours")
        _show(secret)
    else:
        key, secret = keys.create_key(options.keys, now=now, **_chosen(options, now))
        say(f"key {key.id} may: {', '.join(key.scopes)}")
        _show(secret)
    return 0


def _chosen(options: argparse.Namespace, now: float) -> dict[str, object]:
    """The fields of a new key as the options say."""
    if options.days is not None and not options.days > 0:  # NaN is no time either
        raise UsageError(f"days is {options.days:g}, but it must be above 0")
    if options.burst is not None and options.rate is None:
        raise UsageError("burst is given without rate; how fast do requests come back? add --rate")
    scopes = tuple(dict.fromkeys(word.strip() for word in options.scopes.split(",")))
    fields = {"name": options.name, "scopes": scopes, "tenant": options.tenant, "rate": options.rate}
    fields |= {"burst": options.burst, "daily": options.daily}
    fields["expires"] = None if options.days is None else now + options.days * DAY_S
    return {name: value for name, value in fields.items() if value is not None}


def _show(secret: str) -> None:
    """The one time that it is shown; on a line of its own, so that a script can take it."""
    say("keep this, it is not shown again:")
    say(secret)


def _list(found: tuple[Key, ...], now: float) -> None:
    rows = [COLUMNS, *(_row(key, now) for key in found)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(COLUMNS))]
    for row in rows:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _row(key: Key, now: float) -> tuple[str, ...]:
    limits = [f"{key.rate:g}/s" if key.rate is not None else "", f"{key.daily}/day" if key.daily is not None else ""]
    expires = "never" if key.expires is None else _day(key.expires)
    ended = key.expires is not None and key.expires <= now
    shown = ", ".join(filter(None, limits)) or "none"
    scopes, created = ",".join(key.scopes), _day(key.created)
    return key.id, key.name or "-", scopes, key.tenant or "-", shown, created, f"{expires} (over)" if ended else expires


def _day(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}"
