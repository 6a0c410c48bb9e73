"""
The collector and the allocator: memory that stays within bounds, and no pauses that a request would notice.

    a model came or went ─▶ unfreeze ─▶ collect ─▶ freeze ─▶ trim
                             what was     circles    all that      pages that the allocator
                             set aside    go         is left       holds for nobody

Python's collector looks at every object that it may, again and again, while requests wait. Objects that live as long as
a model are therefore set aside (frozen). What is set aside is never looked at again, so a model that went has to be
brought back first, or the circles in it stay for ever. What a request still holds then is set aside once more; so this
is done again, until every model that was let go has gone.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import weakref

from starlette.concurrency import run_in_threadpool

log = logging.getLogger(__name__)

M_ARENA_MAX, ARENAS = -8, 2
"""An option in glibc's malloc.h, and its value."""
TIDY_S = 60.0
"""Between two trims."""
LONG = 64
"""Looks after which a model that was let go, and is still held, is worth a warning."""


def few_arenas() -> None:
    """
    Have threads share two arenas of the allocator; glibc gives each its own, up to eight a core. Holds for the process.

    An arena keeps what its threads once needed, a megabyte or two each, while threads come and go; threads that wait
    for the interpreter's lock gain nothing by arenas of their own. Those that libraries made before stay, and are
    shared too. Where ``MALLOC_ARENA_MAX`` is set, or the C library is another one, nothing happens.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None and "MALLOC_ARENA_MAX" not in os.environ:
        set_option(M_ARENA_MAX, ARENAS)


def settle() -> None:
    """
    Let go of what nobody needs any more, and set aside what is left.

    Call it beside the event loop, after a model was opened and after the last one went, as ``Leaving`` does. A circle
    that a running request still holds goes with the next call.

    Cost: one pass over all objects, during which nobody else runs: some 0.1 s for 100,000, as often as models change.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    trim()


def trim() -> None:
    """
    Give pages that the allocator holds for nobody back to the system; some milliseconds, beside whoever else runs.

    Requests leave gaps between what stays, and a heap that only grows at its end grows with every busy minute.
    """
    give_back = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if give_back is not None:  # glibc; others give memory back by themselves, or have no such call
        give_back(0)


async def tidy() -> None:
    """Trim every ``TIDY_S`` for ever."""
    while True:
        await asyncio.sleep(TIDY_S)
        await run_in_threadpool(trim)


class Leaving:
    """Models that were let go: memory is put in order until nobody holds them. Belongs to one event loop."""

    def __init__(self) -> None:
        self._models: list[weakref.ref[object]] = []
        self._looks = -1  # since the last change; -1: all is in order

    def changed(self, *gone: object) -> None:
        """Take note that a model was opened, or which were let go."""
        self._models += map(weakref.ref, gone)
        self._looks = 0

    async def look(self) -> None:
        """
        Put memory in order after a change; again at the second look, the fourth, the eighth … while one is held.

        Cost: ``settle``'s, or nothing.
        """
        if self._looks < 0:
            return
        self._looks += 1
        if self._looks & (self._looks - 1):
            return
        asked, self._models = self._models, []
        await run_in_threadpool(settle)
        held = [model for model in asked if model() is not None]
        if held and self._looks == LONG:
            log.warning("models that were let go are still held: models=%d", len(held))
        if not (held or self._models):  # nobody holds one, and none was let go meanwhile
            self._looks = -1
        self._models += held
