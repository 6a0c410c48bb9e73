"""
Learn for whom an item is that nobody has had: from what those take who like items with such texts, labels and ages.

    people × items ─▶ each person's mean attributes ─▶ each item's likers, by the attributes of what they take
                                                    ─▶ ridge: attributes that tell them apart ─▶ D directions

With X the people's items (rows and columns scaled), F the attributes less their mean, S = XᵀX says which items have the
same likers. The ridge regression of S on F is ``(FᵀF + λI)⁻¹ (XF)ᵀ X``: nothing of the size of items × items is made.

Source: regression from content to collaborative similarity, after Gantner et al., ICDM 2010,
doi:10.1109/ICDM.2010.129; the closed form is our own arrangement of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailwise.data.attributes import Attributes
from tailwise.data.interactions import Interactions, Training
from tailwise.data.scores import unit_rows
from tailwise.pipeline import Engine
from tailwise.rerank.newcomers import Newcomers, NewcomersConfig, Tastes
from tailwise.types import Floats

HELD = 10
"""One in so many items plays the newcomer when it is seen whether newcomers are worth a place."""
LEAST_ITEMS = 50
"""With fewer that somebody had, nothing is learned."""
JUDGES = 1_000
"""People who had one of those; at most so many are looked at."""
FIRST = 5
"""A person's best fifth of those is what would be shown."""


def fit_newcomers(
    config: NewcomersConfig, training: Training, engine: Engine
) -> tuple[Newcomers, dict[str, float | str]]:
    """
    Learn what attributes say of who will like an item, and use it only when it finds items that it did not learn from.

    A tenth of the items is taken out with all their events; the people who had some of them judge: of those, how many
    are in the best fifth of the order that the others teach?

    Args:
        config: Settings.
        training: With the events that may be learned from.
        engine: Not needed; as every trainer of a stage gets it.

    Returns:
        The stage, and notes for the model card: that share, by chance, by what is usual, and with what a person did.

    Cost: O(E F + M F²) time twice, O((U + M) F) memory for at most ``config.people`` people.
    """
    del engine
    facts = training.catalogue
    attributes = Attributes.of(facts)
    known = attributes.rows(facts, facts.item_ids)
    had = matrix_of(training.interactions, config.people, training.seed)
    touched = np.asarray(had.sum(axis=0)).ravel() > 0
    if not known.any() or int(touched.sum()) < LEAST_ITEMS:
        lack = f"fewer than {LEAST_ITEMS} items have events" if known.any() else "the items have no text, label or age"
        return Newcomers(config, facts, None), {"decision": f"not used: {lack}"}
    drawn = np.random.default_rng((training.seed, 2)).permutation(np.flatnonzero(touched))
    out = np.zeros(len(touched), bool)
    out[drawn[: len(drawn) // HELD]] = True
    found, usual, chance = judged(tastes_of(config, attributes, known, had, touched & ~out), known, had, out)
    error = float((found - chance).std() / np.sqrt(max(len(found), 1)))
    notes: dict[str, float | str] = {
        "recall of held-out items by chance": round(chance, 4),
        "the same by what is usual": round(float(usual.mean()), 4),
        "the same for the person": round(float(found.mean()), 4),
        "standard error": round(error, 4),
    }
    if not found.mean() - chance > error:  # false too where nobody judged
        return Newcomers(config, facts, None), {**notes, "decision": "not used: it finds no more than chance"}
    tastes = tastes_of(config, attributes, known, had, touched)
    return Newcomers(config, facts, tastes), {**notes, "decision": "used"}


def matrix_of(interactions: Interactions, most: int, seed: int) -> Any:
    """(U, M) sparse, 1 where a person did something for an item; at most so many people, drawn by the seed."""
    from scipy.sparse import csr_matrix

    likes, people = interactions.likes, len(interactions.user_ids)
    places = (interactions.users[likes], interactions.rows[likes])
    had = csr_matrix((np.ones(len(places[0]), np.float32), places), shape=(people, interactions.n_items))
    had.sum_duplicates()
    had.data[:] = 1
    if people > most:
        had = had[np.sort(np.random.default_rng(seed).choice(people, most, replace=False))]
    return had


def tastes_of(
    config: NewcomersConfig, attributes: Attributes, known: Floats, had: Any, taught: NDArray[np.bool_]
) -> Tastes:
    """
    The space of tastes.

    Args:
        config: Settings.
        attributes: What tells of an item.
        known: (M, F) that, of all items.
        had: (U, M) sparse, who had what.
        taught: (M,) the items to learn from; of the others not even an event is looked at.
    """
    from scipy.sparse import diags

    middle: Floats = known[taught].mean(axis=0, dtype=np.float64).astype(np.float32)
    own = np.where(taught[:, None], known - middle, np.float32(0))  # (M, F)
    had = had @ diags(taught.astype(np.float32))
    by_item, by_person = (1 / np.sqrt(np.maximum(np.asarray(had.sum(axis=axis)).ravel(), 1)) for axis in (0, 1))
    scaled = diags(by_person.astype(np.float32)) @ had @ diags(by_item.astype(np.float32))
    inner = (own.T @ own).astype(np.float64)  # (F, F)
    takes: Floats = scaled.T @ (scaled @ own)  # (M, F) SF
    ridge = config.regularisation * inner.trace() / len(inner)
    inverse = np.linalg.inv(inner + max(ridge, 1e-9) * np.eye(len(inner)))
    _, vectors = np.linalg.eigh(inverse @ (takes.T @ takes).astype(np.float64) @ inverse)
    directions = vectors[:, ::-1][:, : config.dim]  # (F, D) the widest first
    likers = unit_rows(takes @ (inverse @ directions).astype(np.float32))
    counts = np.asarray(had.sum(axis=0), np.float64).ravel()
    usual = (counts @ likers / max(counts.sum(), 1)).astype(np.float32)
    spread = directions.T @ inner @ directions / max(int(taught.sum()), 1)
    return Tastes(attributes, middle, directions.astype(np.float32), likers, usual, spread.astype(np.float32))


def judged(
    tastes: Tastes, known: Floats, had: Any, out: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """
    How well items are found that nothing was learned from.

    Returns:
        (J,) of the held-out items that a person had, the share in the best ``1 / FIRST`` of them; the same by the order
        for a stranger; and the same by chance.
    """
    held = had[:, np.flatnonzero(out)]  # (U, O)
    who = np.flatnonzero(held.getnnz(axis=1))
    who = who[np.linspace(0, len(who) - 1, min(len(who), JUDGES)).astype(np.int64)] if len(who) else who
    wanted = held[who].toarray() > 0  # (J, O)
    items = tastes.items(known[out])  # (O, D)
    people = had[who] @ tastes.likers + tastes.usual  # (J, D)
    first = max(int(out.sum()) // FIRST, 1)
    strangers = np.broadcast_to(tastes.usual, people.shape)
    found, usual = (_share_first(own @ items.T, wanted, first) for own in (people, strangers))
    return found, usual, first / max(int(out.sum()), 1)


def _share_first(scores: Floats, wanted: NDArray[np.bool_], first: int) -> NDArray[np.float64]:
    """(J,) the share of each person's wanted items among the first of an order by (J, O) scores."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :first]
    hits = np.take_along_axis(wanted, best, axis=1).sum(axis=1)
    return np.asarray(hits / np.maximum(wanted.sum(axis=1), 1), np.float64)
