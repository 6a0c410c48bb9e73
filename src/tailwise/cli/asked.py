"""A signal that asks long work to stop, heard where the work can stop."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any, Self


class Asked:
    """
    While it is open, a signal is noted instead of interrupting; calling it tells whether one came.

    Python raises ``KeyboardInterrupt`` wherever the program happens to be. Inside a destructor or a callback of the
    garbage collector it is printed and forgotten, and the work goes on as if nobody had pressed a key. What is noted
    is not lost. A second signal does interrupt: the work may be far from a place where it looks.
    """

    def __init__(self, number: signal.Signals) -> None:
        self._number = number
        self._before: Any = None
        self._came = False

    def __call__(self) -> bool:
        return self._came

    def __enter__(self) -> Self:
        self._before = signal.signal(self._number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(self._number, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._came:
            signal.default_int_handler(number, frame)
        self._came = True
