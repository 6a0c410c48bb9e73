"""The same list for everybody: items by how many events speak for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from common import Part, run


def fit(part: Part, settings: dict[str, Any], seed: int) -> Callable[[np.ndarray], np.ndarray]:  # noqa: ARG001  one form
    counts = part.counts()
    return lambda people: np.repeat(counts[None], len(people), 0)


if __name__ == "__main__":
    run(fit, packages=("numpy",))
