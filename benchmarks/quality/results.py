"""What a run found, as plain data: a small JSON file a task, from which the page and the pictures are made."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from quality.measure import COLUMNS, MAIN, K, Result, compared
from quality.ours import NAME
from quality.peers import ROOT
from quality.studies import Cold, Given
from quality.tasks import Task

FOLDER = ROOT / "benchmarks" / "results"
TAIL = f"tail_ndcg@{K}"


def methods_of(results: Sequence[Result]) -> list[dict[str, Any]]:
    """One entry a method, the best first; p and difference are against our pipeline, where it ran."""
    ours = next((one for one in results if one.kind == "pipeline"), None)
    others = [one for one in results if one is not ours]
    against = compared(ours, others) if ours is not None and others else {}
    entries = []
    for one in sorted(results, key=lambda r: -r.mean(MAIN)):
        facts = one.runs[0].facts
        entry: dict[str, Any] = {
            "name": one.method,
            "kind": one.kind,
            "seeds": [run.seed for run in one.runs],
            "mean": {key: number(one.mean(key)) for key in (*COLUMNS, TAIL)},
            "sd": {key: number(one.spread(key)) for key in (*COLUMNS, TAIL)},
            "fit_cpu_s": number(one.cpu_seconds(), 1),
            "fit_wall_s": number(float(np.mean([run.facts.get("fit_wall_s", math.nan) for run in one.runs])), 1),
            "tune_cpu_s": facts.get("tune_cpu_s"),
            "settings": facts.get("settings"),
            "packages": facts.get("packages"),
        }
        if one.method in against:
            difference, p = against[one.method]
            entry |= {"behind": number(difference), "p": number(p)}
        entries.append({key: value for key, value in entry.items() if value is not None})
    return entries


def pasts_of(task: Task, results: Sequence[Result]) -> dict[str, Any] | None:
    """NDCG@10 of people with a past and of strangers, by method, the best for the former first; None without both."""
    known = np.array([len(request.past) > 0 for request in task.cases.requests])
    if known.all() or not known.any():
        return None
    rows = [
        {
            "name": one.method,
            "kind": one.kind,
            "known": number(float(np.nanmean(one.people(MAIN)[known]))),
            "strangers": number(float(np.nanmean(one.people(MAIN)[~known]))),
        }
        for one in results
    ]
    return {"people": [int(known.sum()), int((~known).sum())], "rows": sorted(rows, key=lambda row: -row["known"])}


def variants_of(results: Sequence[Result]) -> list[dict[str, Any]]:
    """The ablation: the whole first, then what each part less costs."""
    whole, *rest = results
    against = compared(whole, rest) if rest else {}
    rows = [
        {
            "name": whole.method,
            "mean": number(whole.mean(MAIN)),
            "sd": number(whole.spread(MAIN)),
            "coverage": number(whole.mean(f"coverage@{K}")),
            "tail": number(whole.mean(TAIL)),
            "fit_cpu_s": number(whole.cpu_seconds(), 1),
        }
    ]
    for one in rest:
        lost, p = against[one.method]
        rows.append(
            {
                "name": one.method,
                "mean": number(one.mean(MAIN)),
                "sd": number(one.spread(MAIN)),
                "coverage": number(one.mean(f"coverage@{K}")),
                "tail": number(one.mean(TAIL)),
                "fit_cpu_s": number(one.cpu_seconds(), 1),
                "lost": number(lost),
                "p": number(p),
            }
        )
    return rows


def given_of(found: Sequence[Given]) -> list[dict[str, Any]]:
    return [
        {
            "source": one.source,
            "before": number(float(one.before.mean())),
            "after": number(float(one.after.mean())),
            "ratio": number(one.ratio, 3),
            "p": number(one.p_value),
        }
        for one in found
    ]


def cold_of(found: Cold) -> dict[str, Any]:
    rows = [
        {"name": name, "mean": number(float(np.mean(values))), "sd": number(spread(values))}
        for name, values in found.recalls.items()
    ]
    return {"items": found.items, "people": found.people, "rows": rows}


def kept(path: Path, digest: str, names: Sequence[str], methods: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """
    Methods with those of an earlier run beside them, which a change of ours does not touch; the best first.

    Args:
        path: What the earlier run wrote; other data, another split or no file have nothing to keep.
        digest: Of the task.
        names: Of the methods that are kept.
        methods: Of this run. What is kept is compared with ours anew, but for *p*, which takes each person's figures.
    """
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    known = {one["name"]: one for one in before.get("methods", ()) if before.get("digest") == digest}
    there = {one["name"]: one for one in methods}
    mine = there.get(NAME)
    every = list(methods)
    for name in names:
        if name in known and name not in there:
            one = {key: value for key, value in known[name].items() if key not in {"behind", "p"}}
            one.setdefault("earlier", before["machine"])
            if mine is not None:
                one["behind"] = number(mine["mean"][MAIN] - one["mean"][MAIN])
            every.append(one)
    return sorted(every, key=lambda one: -one["mean"][MAIN])


def write(
    task: Task,
    sections: dict[str, Any],
    *,
    command: str,
    seeds: Sequence[int],
    folder: Path,
    keep: Sequence[str] = (),
) -> Path:
    """One file a task; what did not run is not in it, but for methods to ``keep`` from the file that was there."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{task.name}-{task.protocol}.json"
    if keep:
        every = kept(path, task.digest, keep, sections.get("methods", ()))
        lacking = set(keep) - {one["name"] for one in every}
        said = [f"{name}: no earlier run on this task that could be kept" for name in sorted(lacking)]
        sections = {**sections, "methods": every, "left_out": [*sections.get("left_out", ()), *said]}
    rare = (task.cases.targets >= 0) & task.catalogue.tail[task.cases.targets]
    content = {
        "data": task.name,
        "protocol": task.protocol,
        "about": task.about,
        "digest": task.digest,
        "people_with_tail_targets": int(rare.any(axis=1).sum()),
        "command": command,
        "seeds": list(seeds),
        "machine": machine(),
        "tailwise": version("tailwise"),
        **sections,
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return path


def read(folder: Path) -> list[dict[str, Any]]:
    """Every task's results, MovieLens 100K first; without methods that found nothing for anybody."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*-*.json"))]
    for one in found:
        one["methods"] = [method for method in one.get("methods", ()) if method["mean"].get("coverage@10") != 0]
    return sorted(found, key=lambda one: (one["data"] != "ml-100k", one["data"], one["protocol"]))


def ours(content: dict[str, Any]) -> dict[str, Any] | None:
    return next((one for one in content.get("methods", ()) if one["name"] == NAME), None)


def machine() -> str:
    """Processor, cores, memory, Python: what seconds depend on."""
    model = "unknown processor"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = [line for line in cpuinfo.read_text(encoding="utf-8").splitlines() if line.startswith("model name")]
        model = lines[0].partition(":")[2].strip() if lines else model
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GB, Python {platform.python_version()}"


def spread(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def number(value: float, digits: int = 5) -> float | None:
    """Rounded, None where there is none: JSON has no NaN."""
    return None if value is None or math.isnan(value) else round(value, digits)
