"""``crossvalidate``: fit and measure a pipeline once a fold, and say how much the figures vary."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tailwise.cli.progress import Progress, say
from tailwise.errors import UnavailableError, UsageError

if TYPE_CHECKING:
    from tailwise.data.load import Dataset
    from tailwise.data.split import Split
    from tailwise.evaluate.results import Report

LEGEND = "mean ± standard deviation over the folds; Seconds: of a fit"
FORMAT = 1
"""Of ``folds.json``."""


def crossvalidate_pipeline(options: argparse.Namespace) -> int:
    """Fit and measure once a fold, print mean ± standard deviation, write the report."""
    from tailwise.config import PipelineConfig
    from tailwise.data.load import load
    from tailwise.data.split import check_leak
    from tailwise.evaluate.run import evaluate
    from tailwise.learn.fit import fit

    data = load(options.folder)
    config = PipelineConfig() if options.config is None else PipelineConfig.read(options.config)
    splits, reports = folds_of(data, by=options.by, folds=options.folds, seed=options.seed), []
    with Progress() as progress:
        for split in splits:
            say(f"{split.name} of {len(splits)}: {split.test.height:,} events to be judged by")
            check_leak(split)
            engine = fit(split.train, config, seed=options.seed, report=progress)
            reports.append(evaluate(engine, split, seed=options.seed, most=options.people, report=progress))
    result = Folds(data.name, options.by, options.seed, tuple(splits), tuple(reports))
    say(result.table())
    if options.out is not None:
        for path in result.write(options.out):
            say(f"wrote {path}")
    return 0


def folds_of(data: Dataset, *, by: str, folds: int, seed: int) -> list[Split]:
    """
    What to learn from and to be judged by, once a fold.

    Args:
        data: What to split.
        by: ``people``: the last event of each fold's people, all else is learned from. ``time``: the log in
            ``folds + 1`` stretches of as many events; each but the first is the test of all before it. ``chance``: a
            share of all events, with later ones in training.
        folds: How many.
        seed: Of who is in which fold.

    Raises:
        ConfigError: Fewer than two folds.
        DataError: There are too few people, events or moments for so many folds.
    """
    from tailwise.data.split import k_fold

    if folds < 2:
        raise UsageError(f"folds is {folds}, but it must be at least 2")
    if by == "chance":
        return k_fold(data, folds=folds, seed=seed)
    return _by_people(data, folds, seed) if by == "people" else _by_time(data, folds)


def _by_people(data: Dataset, folds: int, seed: int) -> list[Split]:
    import numpy as np
    import polars as pl

    from tailwise.data.split import MOMENT, split_last
    from tailwise.errors import DataError

    last = split_last(data)
    if last.test.height < folds:
        raise DataError(f"{last.test.height} people cannot fill {folds} folds; use fewer folds or add people")
    places = pl.Series(np.random.default_rng(seed).permutation(last.test.height) % folds)
    splits = []
    for fold in range(folds):
        test = last.test.filter(places == fold)
        train = data.with_events(data.events.join(test, on=MOMENT, how="anti", maintain_order="left"))
        note = "the last event of these people; all other people's are in training"
        splits.append(replace(last, name=f"fold-{fold + 1}", train=train, test=test, note=note))
    return splits


def _by_time(data: Dataset, folds: int) -> list[Split]:
    import polars as pl

    from tailwise.data.split import split_time
    from tailwise.errors import DataError

    times = data.events["time"].to_numpy()
    cuts = [float(times[len(times) * place // (folds + 1)]) for place in range(1, folds + 1)]
    if any(later <= earlier for earlier, later in pairwise([float(times[0]), *cuts])):
        many = f"so many events have one time that {folds} folds in time cannot be cut"
        raise DataError(f"{data.name}: {many}; use fewer folds, or --by people")
    splits = []
    for fold, cut in enumerate(cuts):
        until = data.events if fold + 1 == folds else data.events.filter(pl.col("time") < cuts[fold + 1])
        splits.append(replace(split_time(data.with_events(until), at=cut), name=f"fold-{fold + 1}"))
    return splits


@dataclass(frozen=True, eq=False)
class Folds:
    """What every fold found."""

    data: str
    by: str
    seed: int
    splits: tuple[Split, ...]
    reports: tuple[Report, ...]

    def summary(self) -> dict[str, dict[str, tuple[float, float]]]:
        """Method to metric to mean and standard deviation over the folds; what some fold could not measure is out."""
        import numpy as np

        from tailwise.evaluate.results import COLUMNS

        keys = [key.format(k=self.reports[0].k) for key in COLUMNS]
        found: dict[str, dict[str, tuple[float, float]]] = {}
        for place, method in enumerate(self.reports[0].methods):
            per = {key: np.array([report.methods[place].mean(key) for report in self.reports]) for key in keys}
            known = {key: values for key, values in per.items() if not np.isnan(values).any()}
            found[method.name] = {key: (float(v.mean()), float(v.std(ddof=1))) for key, v in known.items()}
        return found

    def table(self) -> str:
        """The summary as aligned text."""
        from tailwise.evaluate.compare import aligned

        return "\n".join([aligned(self._rows(), left=(0,)), LEGEND])

    def write(self, folder: Path) -> list[Path]:
        """
        Write ``folds.json``, with every fold's figures, and ``folds.md``.

        Raises:
            UnavailableError: The folder cannot be written.
        """
        head, *rows = self._rows()
        lines = [f"# {self.data}, {len(self.reports)} folds by {self.by}", "", _row(head)]
        lines += [_row(["---", *["---:"] * (len(head) - 1)]), *map(_row, rows), "", f"{LEGEND[0].upper()}{LEGEND[1:]}."]
        texts = {"folds.json": json.dumps(self._facts(), indent=2), "folds.md": "\n".join(lines)}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in texts.items():
                (folder / name).write_text(f"{text}\n", encoding="utf-8")
        except OSError as error:
            raise UnavailableError(f"{folder} cannot be written: {error.strerror}") from error
        return [folder / name for name in texts]

    def _rows(self) -> list[list[str]]:
        from tailwise.evaluate.results import COLUMNS

        k, found = self.reports[0].k, self.summary()
        ranked = {method: figures for method, figures in found.items() if f"ndcg@{k}" in figures}
        shown = [(key.format(k=k), title.format(k=k), digits) for key, (title, digits) in COLUMNS.items()]
        shown = [column for column in shown if any(column[0] in figures for figures in ranked.values())]
        rows = [["method", *(title for _, title, _ in shown)]]
        for method, figures in ranked.items():
            cells = [(figures.get(key), digits) for key, _, digits in shown]
            rows.append([method, *("–" if c is None else f"{c[0]:.{d}f} ± {c[1]:.{d}f}" for c, d in cells)])
        return rows

    def _facts(self) -> dict[str, Any]:
        summary = {
            method: {key: {"mean": mean, "sd": sd} for key, (mean, sd) in figures.items()}
            for method, figures in self.summary().items()
        }
        folds = [
            {
                "name": split.name,
                "note": split.note,
                "training_events": split.train.events.height,
                "people": len(report.request_ids),
                "metrics": {
                    method.name: {key: method.mean(key) for key in summary[method.name]} for method in report.methods
                },
            }
            for split, report in zip(self.splits, self.reports, strict=True)
        ]
        own = {"format": FORMAT, "data": self.data, "by": self.by, "seed": self.seed}
        return {**own, "summary": summary, "folds": folds}


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"
