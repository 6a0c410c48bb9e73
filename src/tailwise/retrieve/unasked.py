"""An honest order for a request of which nothing is known: nobody has to look at an empty list."""

from __future__ import annotations

import numpy as np

from tailwise.data.catalogue import Catalogue
from tailwise.types import Floats, Rows


def unasked_order(catalogue: Catalogue, excluded: Rows, k: int) -> tuple[Rows, str]:
    """
    Items in the order that says least: what is popular first; without any events the newest; else as they stand.

    Args:
        catalogue: Its column ``time``, in seconds since epoch, says when an item appeared; what has none comes last.
        excluded: Rows that must not be shown.
        k: At most so many.

    Returns:
        (≤ k,) rows, and the order's name for the trace: ``popular``, ``newest`` or ``item order``.

    Cost: O(M log M).
    """
    keys: list[Floats] = []
    name = "item order"
    if "time" in catalogue.names:
        times = catalogue.at(np.arange(len(catalogue)), {"time"})["time"]
        if times.dtype.kind == "f" and np.isfinite(times).any():
            keys, name = [-np.nan_to_num(times, nan=-np.inf)], "newest"
    if catalogue.popularity.any():
        keys, name = [*keys, -catalogue.popularity], "popular"
    rows = np.lexsort(keys) if keys else np.arange(len(catalogue))  # stable: what ties keeps its place
    return rows[~np.isin(rows, excluded)][:k], name
