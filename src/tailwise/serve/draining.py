"""An end without a lost request: ``/ready`` says no first, so that balancers send nobody any more, and then it ends."""

from __future__ import annotations

import asyncio
import signal
import threading
from types import FrameType


class Drain:
    """
    Puts a pause between the order to stop (SIGTERM) and the end; ctrl-c still ends at once.

    Args:
        seconds: Of the pause; 0 changes nothing.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.begun = False

    def install(self, loop: asyncio.AbstractEventLoop) -> None:
        """Stand before whoever handles SIGTERM now. Only the main thread may; elsewhere nothing happens."""
        if not self._seconds or threading.current_thread() is not threading.main_thread():
            return
        end = signal.getsignal(signal.SIGTERM)

        def begin(number: int, frame: FrameType | None) -> None:
            if self.begun or not callable(end):
                return
            self.begun = True
            loop.call_soon_threadsafe(loop.call_later, self._seconds, end, number, frame)

        signal.signal(signal.SIGTERM, begin)
