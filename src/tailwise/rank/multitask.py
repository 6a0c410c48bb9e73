"""Several things told of each candidate at once: click, purchase, rating, dwell time, favourite and dislike."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from tailwise.artifacts import load_arrays, save_arrays
from tailwise.config import Closed
from tailwise.data.episodes import CHANCES, TASKS
from tailwise.errors import ArtifactError
from tailwise.nets.session import open_session
from tailwise.nets.settings import LoopConfig, MultiTaskShape
from tailwise.rank.calibration import Curve, chance_of
from tailwise.rank.fusion import standardised
from tailwise.types import EVENT_KINDS, MOST_WEIGHT, ORDER, Column, Facts, Floats, Request, Rows, Slate

COLUMNS = {task: f"p_{task}" if task in CHANCES else task for task in TASKS}
"""What each head's column is called."""
CONTEXT = "context_vector"
"""Key of ``Request.cache`` under which somebody may leave what is known of the moment, (F,); zeros when absent."""
DAMPING = 10.0
"""Ratings worth of no offset mixed into a person's, as in ``evaluate.ratings``."""
PASSED_BY = frozenset({"view", "skip"})
"""Kinds that are no part of a past where the log shows what people did not take: they would crowd out what they did."""
_CODE = {kind: code for code, kind in enumerate(EVENT_KINDS)}
_FAR = 30.0
"""Deviations that no value is away from what is usual; keeps one absurd value from filling a person's past."""


class MultiTaskConfig(Closed):
    """Settings of the heads."""

    shape: MultiTaskShape = MultiTaskShape()
    """Of the network."""
    train: LoopConfig = LoopConfig(epochs=20, patience=3, warm_up_steps=50, weight_decay=1.0)
    """How it learns."""
    text: bool = True
    """Whether an item's vector starts from its text."""
    batch_rows: Annotated[int, Field(ge=2)] = 512
    """Episodes of a batch, each with its counter-examples."""
    epoch_rows: Annotated[int, Field(ge=1)] = 50_000
    """Of a log with more episodes, an epoch takes so many, drawn afresh."""
    negatives: Annotated[int, Field(ge=1)] = 4
    """Counter-examples for each act, drawn by popularity to the power of three quarters, where the log does not show
    what people passed over. Chances are then those among an act and so many counter-examples."""
    window_days: Annotated[float, Field(gt=0)] = 1.0
    """Within how many days a click or a purchase is taken to come of what was before."""
    loss_weights: dict[str, Annotated[float, Field(ge=0)]] = Field(default={})
    """Of each head's loss; empty lets them be learned, and a head without a weight then has 1."""
    calibration: Literal["temperature", "isotonic", "none"] = "temperature"
    """How chances are mended on held-out episodes: a line in log-odds, or isotonic regression (many thousand rows)."""
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of each person's newest episodes that training does not see: they stop it and calibrate."""
    held_out_most: Annotated[int, Field(ge=1)] = 10_000
    """At most so many episodes are held out."""
    blend: dict[str, Annotated[float, Field(ge=-MOST_WEIGHT, le=MOST_WEIGHT, allow_inf_nan=False)]] = Field(default={})
    """What each head weighs in the order, by name; empty leaves the order as it came. A request may say otherwise."""

    @field_validator("blend", "loss_weights")
    @classmethod
    def _known_heads(cls, weights: dict[str, float], info: ValidationInfo) -> dict[str, float]:
        known = (*TASKS, ORDER) if info.field_name == "blend" else TASKS  # the order that came in is not learned
        for name in weights:
            if name not in known:
                raise ValueError(f"{name} is no head; heads: {', '.join(known)}")
        return weights


@dataclass(frozen=True)
class Usual:
    """What ratings and dwell times are like, so that a network need only tell how much more or less one is."""

    rating: Floats  # (4,) mean, deviation from the damped means, lowest, highest
    dwell: Floats  # (4,) the same of log(1 + seconds)
    item_offset: Floats  # (M,) damped mean rating of each item, above the mean of all

    def surplus(self, kinds: Column, rows: Rows, values: Floats) -> Floats:
        """
        How many deviations above what is usual each event's value is, (E,); 0 for events without a value.

        Args:
            kinds: (E,) places in ``EVENT_KINDS``.
            rows: (E,) catalogue rows, known ones.
            values: (E,) NaN where there is none.
        """
        stars = (values - self.rating[0] - self.item_offset[rows]) / self.rating[1]
        seconds = (np.log1p(np.maximum(values, 0)) - self.dwell[0]) / self.dwell[1]
        more = np.select([kinds == _CODE["rating"], kinds == _CODE["dwell"]], [stars, seconds], 0.0)
        surplus: Floats = np.clip(np.nan_to_num(more, posinf=0, neginf=0), -_FAR, _FAR).astype(np.float32)
        return surplus

    def person_offset(self, kinds: Column, rows: Rows, values: Floats) -> float:
        """A person's damped mean rating above what the items get."""
        known = (kinds == _CODE["rating"]) & np.isfinite(values)
        above = values[known] - self.rating[0] - self.item_offset[rows[known]]
        return float(above.sum() / (len(above) + DAMPING))


@dataclass(frozen=True)
class Heads:
    """What was learned; with no task it tells nothing."""

    tasks: tuple[str, ...]
    onnx: bytes
    """``past`` (1, T, D), ``marks`` (1, T, ·), ``items`` (1, N, D), ``facts`` (1, N, ·), ``context`` (1, F) to
    (1, N, K)."""
    table: Floats  # (M, D)
    facts: Floats  # (M, ·) of each item, at the end of training
    usual: Usual
    curves: tuple[Curve, ...]  # (K,) from what the network says to what it means
    context: int = 0
    """Width F of what is known of the moment."""
    drawn: int = 0
    """Counter-examples that were drawn for each act."""
    shows: bool = False
    """Whether the log shows what people passed over."""


NO_HEADS = Heads(
    (), b"", np.empty((0, 0), np.float32), np.empty((0, 0), np.float32), Usual(*(np.zeros(0, np.float32),) * 3), ()
)


def marks_of(kinds: Column, surplus: Floats, there: Column, lately: int) -> Floats:
    """
    What the network is told of each event of a past beside its item.

    Args:
        kinds: (…, T) places in ``EVENT_KINDS``, the newest event last.
        surplus: (…, T) deviations above what is usual.
        there: (…, T) bool; what is not there gets zeros.
        lately: Newest events that are the short-term past.

    Returns:
        (…, T, 3 + kinds) float32.
    """
    marks = np.zeros((*kinds.shape, 3 + len(EVENT_KINDS)), np.float32)
    marks[..., 0] = 1
    marks[..., -lately:, 1] = 1
    marks[..., 2] = surplus
    np.put_along_axis(marks, 3 + np.asarray(kinds, np.int64)[..., None], 1, axis=-1)
    return marks * np.asarray(there, np.float32)[..., None]


def times_had(past: Rows, there: Column, items: Rows) -> Floats:
    """(…, T) past rows and (…, C) items to (…, C): log(1 + how often each item is in the past)."""
    same = (past[..., None, :] == items[..., :, None]) & there[..., None, :]
    had: Floats = np.log1p(same.sum(-1)).astype(np.float32)
    return had


class MultiTask:
    """
    Tells several heads of each candidate, calibrated, and may blend them into the order.

    Columns: ``p_click``, ``p_purchase``, ``p_favourite`` and ``p_dislike`` are chances; ``rating`` is in the scale of
    the ratings, ``dwell`` in seconds. An item that the catalogue does not know gets NaN. A head without labels is not
    there.

    Args:
        config: Settings.
        learned: What was learned.
    """

    Config = MultiTaskConfig
    needs: frozenset[str] = frozenset({"row"})

    def __init__(self, config: MultiTaskConfig, learned: Heads = NO_HEADS) -> None:
        self.config = config
        self.learned = learned
        self.heads = {task: COLUMNS[task] for task in learned.tasks}
        """Names that a blend may use beside ``score``, and their columns."""
        self.gives = frozenset(self.heads.values())
        self._session = open_session(learned.onnx, "the multi-task network") if learned.tasks else None

    @classmethod
    def open(cls, config: MultiTaskConfig, facts: Facts, folder: Path) -> Self:  # noqa: ARG003  it has its own
        """
        Read what ``save`` wrote.

        Raises:
            ArtifactError: A file is missing or damaged.
        """
        path = folder / "multitask.json"
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
            tasks = tuple(str(task) for task in about["tasks"] if task in TASKS)
            if not tasks:
                return cls(config)
            onnx, numbers = (
                (folder / "multitask.onnx").read_bytes(),
                (int(about["context"]), int(about["drawn"]), bool(about["shows"])),
            )
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ArtifactError(f"{folder / 'multitask'} cannot be read ({error}); fit the model again") from error
        arrays = load_arrays(folder / "multitask.safetensors")
        usual = Usual(arrays["rating"], arrays["dwell"], arrays["item_offset"])
        curves = tuple(Curve(arrays[f"{task}.x"], arrays[f"{task}.y"]) for task in tasks)
        return cls(config, Heads(tasks, onnx, arrays["table"], arrays["facts"], usual, curves, *numbers))

    def save(self, folder: Path) -> None:
        """Write the network, the item table and the curves."""
        own = self.learned
        folder.mkdir(parents=True, exist_ok=True)
        about = {"tasks": own.tasks, "context": own.context, "drawn": own.drawn, "shows": own.shows}
        (folder / "multitask.json").write_text(json.dumps(about), encoding="utf-8")
        if not own.tasks:
            return
        (folder / "multitask.onnx").write_bytes(own.onnx)
        knots = {f"{t}.{axis}": getattr(c, axis) for t, c in zip(own.tasks, own.curves, strict=True) for axis in "xy"}
        save_arrays(folder / "multitask.safetensors", table=own.table, facts=own.facts, **vars(own.usual), **knots)

    def __call__(self, request: Request, slate: Slate) -> Slate:
        told = self.predict(request, slate.columns["row"])
        slate = slate.add(**{COLUMNS[task]: values for task, values in told.items()})
        weights = self.config.blend if request.blend is None else request.blend
        weights = {name: weight for name, weight in weights.items() if name in (*told, ORDER)}
        if not weights.keys() & told.keys() or not len(slate):
            return slate
        weights = {ORDER: 1.0, **weights}
        values = {**told, ORDER: slate.scores}
        # An item of which a head says nothing is worst in it, whether the head speaks for items or against them.
        columns = [math.copysign(1.0, weight) * values[name] for name, weight in weights.items()]
        return slate.score(standardised(columns) @ np.abs(np.array(list(weights.values()), np.float32)))

    def predict(self, request: Request, rows: Rows) -> Mapping[str, Floats]:
        """
        What each head says of some items for a person, by the head's name.

        Args:
            request: With the person's past.
            rows: (N,) catalogue rows; -1 gets NaN.

        Returns:
            Heads to (N,): chances, ratings in their scale, seconds.

        Cost: one small product a row; a millisecond for 200 rows.
        """
        if self._session is None or not len(rows):  # an exported network cannot do with nothing
            return {task: np.empty(0, np.float32) for task in self.heads}
        past = request.past.take(request.past.rows >= 0)
        if self.learned.shows:
            past = past.take(np.fromiter((kind not in PASSED_BY for kind in past.events), bool, len(past)))
        codes = np.fromiter((_CODE[kind] for kind in past.events), np.int64, len(past))
        own, usual = self.learned, self.learned.usual
        some = slice(-self.config.shape.history, None)
        there = np.ones(len(past.rows[some]), bool)
        marks = marks_of(
            codes[some],
            usual.surplus(codes[some], past.rows[some], past.values[some]),
            there,
            self.config.shape.lately,
        )
        facts = np.column_stack([own.facts[rows], times_had(past.rows[some], there, rows)])
        context = np.asarray(request.cache.get(CONTEXT, np.zeros(own.context)), np.float32)
        given = {
            "past": own.table[past.rows[some]],
            "marks": marks,
            "items": own.table[rows],
            "facts": facts,
            "context": context,
        }
        (out,) = self._session.run(None, {name: np.asarray(array, np.float32)[None] for name, array in given.items()})
        said = {
            task: curve(out[0, :, place]) for place, (task, curve) in enumerate(zip(own.tasks, own.curves, strict=True))
        }
        offset = usual.person_offset(codes, past.rows, past.values) if "rating" in said else 0.0
        meant = {task: self._meaning(task, values, rows, offset) for task, values in said.items()}
        if {"click", "purchase"} <= meant.keys():
            meant["purchase"] = np.minimum(meant["purchase"], meant["click"])
        return {task: np.where(rows >= 0, values, np.float32("nan")) for task, values in meant.items()}

    def _meaning(self, task: str, said: Floats, rows: Rows, offset: float) -> Floats:
        """What a head says, (N,), in the unit of its column."""
        if task in CHANCES:
            return chance_of(said)
        usual = self.learned.usual
        mean, deviation, lowest, highest = usual.rating if task == "rating" else usual.dwell
        if task == "rating":
            stars: Floats = np.clip(mean + usual.item_offset[rows] + offset + deviation * said, lowest, highest)
            return stars
        seconds: Floats = np.expm1(np.clip(mean + deviation * said, lowest, highest))
        return seconds
