"""What a model said before, kept by (profile, item, model): bounded, for a time, and on disk where a fit asks."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Annotated

import numpy as np
from pydantic import Field

from tailwise.config import Closed
from tailwise.encode.cache import EmbeddingCache, key_of
from tailwise.types import Floats


class CacheConfig(Closed):
    """How much of what a model said is kept, and for how long."""

    most: Annotated[int, Field(ge=0)] = 100_000
    """Opinions of one item for one profile; the ones unused for longest go first. Some 250 bytes each."""
    ttl_s: Annotated[float, Field(gt=0)] = 86_400.0
    """An older opinion is asked for again."""
    enough: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Share of the candidates from which the known opinions do, where all are judged in one list; the others keep their
    places."""


class Opinions:
    """
    Opinions by key: a value, and how much it is to be trusted. Threads may share it.

    Args:
        config: Bounds.
        clock: Seconds, never going back.
        path: Of a file that outlives the process; what a fit asks. None keeps none.
    """

    def __init__(
        self, config: CacheConfig, *, clock: Callable[[], float] = time.monotonic, path: Path | None = None
    ) -> None:
        self._config = config
        self._clock = clock
        self._disk = None if path is None else EmbeddingCache(path)
        self._known: OrderedDict[str, tuple[float, float, float]] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._known)

    def read(self, keys: Sequence[str]) -> Floats:
        """(N, 2) value and trust of each key; NaN where nothing is known."""
        out: Floats = np.full((len(keys), 2), np.nan, np.float32)
        now = self._clock()
        with self._lock:
            for place, key in enumerate(keys):
                found = self._known.get(key)
                if found is None:
                    continue
                if now - found[0] > self._config.ttl_s:
                    del self._known[key]
                    continue
                self._known.move_to_end(key)
                out[place] = found[1:]
        unknown = [key for key, known in zip(keys, ~np.isnan(out[:, 1]), strict=True) if not known]
        if self._disk is not None and unknown:
            stored = self._disk.read(unknown, 2)
            for place, key in enumerate(keys):
                if key in stored:
                    out[place] = stored[key]
        return out

    def write(self, keys: Sequence[str], values: Floats, trust: float) -> None:
        """
        Keep opinions. One that the model did not give, NaN, is kept too: asking again would give no more.

        Args:
            keys: N.
            values: (N,).
            trust: Of all, in [0, 1].
        """
        now = self._clock()
        with self._lock:
            for key, value in zip(keys, values.tolist(), strict=True):
                self._known[key] = (now, value, trust)
                self._known.move_to_end(key)
            while len(self._known) > self._config.most:
                self._known.popitem(last=False)
        if self._disk is not None:
            self._disk.write({key: np.array([v, trust], np.float32) for key, v in zip(keys, values, strict=True)})


def opinion_key(fingerprint: str, profile: str, item_id: str) -> str:
    """The name of what a model says of an item for a profile; it gives neither away."""
    return key_of(fingerprint, f"{profile}\0{item_id}")
