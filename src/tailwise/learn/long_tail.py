"""Choose how much of the list goes to the long tail: as much as held-out people pay little for."""

from __future__ import annotations

from dataclasses import replace

from tailwise.data.interactions import Training
from tailwise.learn.crossfit import LEAST_CASES
from tailwise.learn.slates import earned, gather
from tailwise.pipeline import Engine
from tailwise.rerank.long_tail import LongTail, LongTailConfig
from tailwise.types import Request, Slate

DEPTH = 200
"""Of a slate, what could come into the first ten under some penalty."""
PENALTIES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)
"""What a fit chooses from."""


def fit_long_tail(
    config: LongTailConfig, training: Training, engine: Engine
) -> tuple[LongTail, dict[str, float | str]]:
    """
    The largest penalty that stays within ``cost`` of the best one's NDCG@10 on held-out cases.

    Args:
        config: Settings; a ``penalty`` that is set stays.
        training: With held-out cases.
        engine: With the sources, and the stages before this one.

    Returns:
        The stage with its penalty, and notes for the model card: NDCG@10 and the share of the catalogue's items that
        stand in some first ten, without the penalty and with it.
    """
    if config.penalty is not None:
        return LongTail(config), {"decision": f"a penalty of {config.penalty:g}, as set"}
    examples = gather(training, engine, depth=DEPTH)
    if len(examples) < LEAST_CASES:
        why = f"no penalty: {len(examples)} cases could choose one, fewer than {LEAST_CASES}"
        return LongTail(config.model_copy(update={"penalty": 0.0})), {"decision": why}
    slates = [
        (
            e.request,
            replace(e.slate, columns={"row": rows, "hit": e.relevant, **training.catalogue.at(rows, ["popularity"])}),
        )
        for e in examples
        for rows in [e.slate.columns["row"]]
    ]
    targets = [example.targets for example in examples]
    worth = {penalty: _worth(config, slates, targets, penalty) for penalty in PENALTIES}
    most = max(ndcg for ndcg, _ in worth.values())
    chosen = max(penalty for penalty, (ndcg, _) in worth.items() if ndcg >= (1 - config.cost) * most)
    items = max(int((training.catalogue.popularity > 0).sum()), 1)
    notes: dict[str, float | str] = {
        "ndcg@10 without": round(worth[0.0][0], 4),
        "ndcg@10 with": round(worth[chosen][0], 4),
        "coverage without": round(worth[0.0][1] / items, 4),
        "coverage with": round(worth[chosen][1] / items, 4),
        "decision": f"a penalty of {chosen:g}",
    }
    return LongTail(config.model_copy(update={"penalty": chosen})), notes


def _worth(
    config: LongTailConfig, slates: list[tuple[Request, Slate]], targets: list[int], penalty: float
) -> tuple[float, int]:
    """Mean NDCG@10 at a penalty, and the number of items in some first ten."""
    stage, total, shown = LongTail(config.model_copy(update={"penalty": penalty})), 0.0, set[int]()
    for (request, slate), n in zip(slates, targets, strict=True):
        after = stage(request, slate)
        total += earned(after.scores, after.columns["hit"], n)
        shown.update(after.columns["row"][:10].tolist())
    return total / len(slates), len(shown)
