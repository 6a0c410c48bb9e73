"""What arrived since a model was made: events of a log that it has not learned from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from tailwise.data.catalogue import Catalogue
from tailwise.data.files import BROKEN, SEGMENTS, find_tables
from tailwise.data.interactions import KIND_NAMES, Interactions
from tailwise.data.load import Dataset, load, ordered
from tailwise.data.schema import Finding
from tailwise.errors import DataError
from tailwise.types import EVENT_KINDS

SAME = ("user_id", "item_id", "time", "event")
"""What makes two events one."""
FRESH = "fresh"
"""Column, and context of interactions: whether the model has not learned from an event."""

FEEDBACK: Mapping[str, type[pl.DataType]] = {"request_id": pl.String, "position": pl.Int64, "propensity": pl.Float64}
"""What ties an event to the list that it answers."""


@dataclass
class Log:
    """A folder of events that grows: the service's log, or any data folder."""

    folder: Path
    _seen: dict[str, tuple[int, int]] = field(default_factory=dict)  # size and time of change of what was read

    def read(self) -> Dataset | None:
        """
        What the files hold that are new, or have changed, since the last time; None when there are none.

        Whatever else changed, segments of a log are read alone: they are written once.

        Raises:
            DataError: The folder is not there, a file cannot be read, or a row breaks a check.
        """
        if not self.folder.is_dir():
            raise DataError(f"{self.folder} is no folder; give the one that tailwise serve --log writes")
        there = {path: path.stat() for path in sorted(self.folder.iterdir()) if not path.name.startswith(".")}
        now = {path.name: (stat.st_size, stat.st_mtime_ns) for path, stat in there.items() if path.is_file()}
        changed = {name for name, state in now.items() if self._seen.get(name) != state}
        segments = {path.name for path in self.folder.glob(SEGMENTS)}
        if not changed or (not segments and isinstance(find_tables(self.folder), Finding)):
            return None
        if self._seen and changed <= segments:
            found = Dataset.of(self.folder.name, events=pl.concat([self._part(n) for n in sorted(changed)]))
        else:
            found = load(self.folder)
        self._seen = now
        return found

    def again(self) -> None:
        """Read everything once more, the next time."""
        self._seen = {}

    def _part(self, name: str) -> pl.DataFrame:
        try:
            return pl.read_parquet(self.folder / name)
        except BROKEN as error:
            raise DataError(f"{self.folder / name} cannot be read ({str(error).splitlines()[0][:120]})") from error


def events_of(people: Interactions, catalogue: Catalogue) -> pl.DataFrame:
    """What a model keeps of people, in the form of a data folder."""
    return pl.DataFrame(
        {
            "user_id": people.user_ids[people.users].tolist(),
            "item_id": catalogue.item_ids[people.rows].tolist(),
            "time": people.times,
            "event": KIND_NAMES[people.kinds].tolist(),
            "value": pl.Series(people.values, dtype=pl.Float32).fill_nan(None),
        },
        schema={
            "user_id": pl.String,
            "item_id": pl.String,
            "time": pl.Float64,
            "event": pl.String,
            "value": pl.Float32,
        },
    )


def plain_events(events: pl.DataFrame) -> pl.DataFrame:
    """The columns that are learned from, of events in the data room's form; kinds that are not known are views."""
    known = pl.col("event").is_in(EVENT_KINDS)
    kind = pl.when(known).then("event").otherwise(pl.lit("view")).alias("event")
    feedback = [pl.col(n).cast(t) if n in events.columns else pl.lit(None, t).alias(n) for n, t in FEEDBACK.items()]
    return events.select("user_id", "item_id", "time", kind, pl.col("value").cast(pl.Float32), *feedback)


def arrived(events: pl.DataFrame, known: pl.DataFrame, most: int) -> pl.DataFrame:
    """
    The events that are not known, each once.

    Args:
        events: Of ``plain_events``.
        known: ``events_of`` what the model keeps.
        most: Events of a person that a model keeps; what is older than the oldest of as many was known once.

    Returns:
        Rows of ``events``, in their order.
    """
    new = events.unique(SAME, keep="first", maintain_order=True).join(known, on=SAME, how="anti", maintain_order="left")
    full = known.group_by("user_id").agg(pl.len(), oldest=pl.col("time").min()).filter(pl.col("len") >= most)
    new = new.join(full.select("user_id", "oldest"), on="user_id", how="left", maintain_order="left")
    return new.filter(pl.col("oldest").is_null() | (pl.col("time") >= pl.col("oldest"))).drop("oldest")


def together(known: pl.DataFrame, fresh: pl.DataFrame, catalogue: Catalogue) -> Interactions:
    """All events as a fit would see them; their context tells which are fresh."""
    parts = [known.with_columns(pl.lit(value=False).alias(FRESH))]
    parts.append(fresh.select(known.columns).with_columns(pl.lit(value=True).alias(FRESH)))
    return Interactions.of(ordered(pl.concat(parts)), catalogue, (FRESH,))
