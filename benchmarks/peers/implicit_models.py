"""Matrix factorisation of the ``implicit`` package: ALS and BPR."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from common import Part, run
from implicit.cpu.als import AlternatingLeastSquares
from implicit.cpu.bpr import BayesianPersonalizedRanking
from scipy.sparse import csr_matrix

KINDS = {"als": AlternatingLeastSquares, "bpr": BayesianPersonalizedRanking}


def fit(part: Part, settings: dict[str, Any], seed: int) -> Callable[[np.ndarray], np.ndarray]:
    own = {name: value for name, value in settings.items() if name != "model"}
    shape = (part.job.n_users, part.job.n_items)
    matrix = csr_matrix((np.ones(len(part.user), np.float32), (part.user, part.item)), shape=shape)
    matrix.data[:] = 1.0  # an item liked twice counts once
    model = KINDS[settings["model"]](random_state=seed, num_threads=1, **own)
    model.fit(matrix, show_progress=False)
    return lambda people: np.asarray(model.user_factors[people] @ model.item_factors.T)


if __name__ == "__main__":
    run(fit, packages=("implicit",))
