"""``docs/benchmarks.md`` and the README's table, from the committed results."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from quality import pictures, results
from quality.goals import goals_of
from quality.measure import COLUMNS, MAIN
from quality.ours import NAME
from quality.peers import PEERS

FEWER = {peer.name for peer in PEERS if peer.elsewhere is not None}
MARKS = ("<!-- bench-quality -->", "<!-- /bench-quality -->")
HEAD = """# Benchmarks

Written by `make bench-quality`, which fits us and the peers on the same training events, asks them for the same people
and judges all lists, twenty items a person, with the same code (`tailwise.evaluate`). Nothing here is typed by hand.

**How to read it.** Every item of the catalogue is ranked, no sampling. Order is stable: time, then person, then item,
ids compared as strings. Settings are chosen on validation, which lies within training: a peer's on each person's last
training event (in baskets, the last training basket) with seed 0, ours inside `tailwise fit`, with one default
configuration for all data. Figures are means over seeds ± their standard deviation; what draws nothing has none. *p*
is a paired permutation test of NDCG@10 over people, each with the mean over the seeds, against ours, Holm-corrected;
*behind* is how far a method lies behind us. *Coverage* is the share of the items with events that anybody is shown;
*tail share*, of slots with an item outside the most popular fifth; *tail NDCG@10*, that of targets outside it.
*Seconds* are CPU seconds, all threads, of one fit: they do not depend on what else the machine did. A peer's are with
its settings known; ours include choosing them. A fit's wall time among the goals is that of these runs, beside whatever
else ran; `benchmarks/bench_fit.py` times a fit alone. *An earlier run*: a peer that was not run again with this
version of ours; its figures on the same task stay, its seconds are of that run's machine, and there is no *p*.

Protocols: **last**, each person's last event is the target; **time**, one cut at 80 % of the events, and everything
that a person did later is the target; **basket**, the same cut, and the target is all that a person took at the first
moment after it; **sparse**, the same log thinned to eight items a person, drawn by lot, each when it was first had,
and the last of them is the target.
"""
MORE = """## Run it

```bash
make bench-quality
```

It gets MovieLens 100K, makes an environment for each peer under `.venv-peers/` (RecTools needs about 1.3 GB) and keeps
lists and fits under `benchmarks/cache/`, so that a second run repeats only what changed. A peer that cannot be
installed, or fails, is named and left out. `ARGS` takes options:

| option | does |
| --- | --- |
| `--data NAME=FOLDER:PROTOCOL` | a data folder of yours beside it; may come several times |
| `--only NAME` | this data set alone; may come several times |
| `--seeds 0 1 2` | the seeds |
| `--skip-peers`, `--leave-out PEER` | no peers; not this one |
| `--keep PEER` | do not run this one again: its figures of the last run on the same task stay |
| `--skip-ours` | peers alone |
| `--skip-ablation`, `--skip-studies` | no ablation; no re-ranking of given lists and no cold items |
| `--skip-cold` | no cold items |

The `movies`, `retail` and `music` folders that appear here are [in the form of the data reference](reference/data.md)
and not part of the project.
"""


def write(every: Sequence[dict[str, Any]], docs: Path) -> list[Path]:
    """The page and its pictures; the files written."""
    docs.mkdir(parents=True, exist_ok=True)
    written = [docs / "benchmarks.md"]
    parts = [HEAD]
    for content in every:
        stem = f"{content['data']}-{content['protocol']}"
        picture = docs / f"benchmarks-{stem}.png"
        if content.get("methods"):
            pictures.draw(content, picture)
            written.append(picture)
        parts.append(section(content, picture.name))
    parts += [peers_section(every), MORE]
    written[0].write_text("\n".join(parts), encoding="utf-8")
    return written


def section(content: dict[str, Any], picture: str) -> str:
    """One task: what it is, its tables, its picture."""
    title = f"## {content['data']}, {content['protocol']}"
    facts = (
        f"Seeds {', '.join(map(str, content['seeds']))}; {content['machine']}; tailwise {content['tailwise']}; task "
        f"`{content['digest']}`; command: `{content['command']}`."
    )
    parts = [title, content["about"], facts]
    if content.get("methods"):
        parts += [goals(content), methods(content), f"![Accuracy against coverage and against seconds]({picture})"]
        parts.append(tail(content))
    if content.get("pasts"):
        parts += ["### People with a past, and strangers", pasts(content["pasts"])]
    if content.get("ablation"):
        parts += ["### What each part earns", ablation(content["ablation"])]
    if content.get("given"):
        parts += ["### Re-ranking lists that are given", given(content["given"])]
    if content.get("cold"):
        parts += ["### Items that nobody has had", cold(content["cold"])]
    parts += [f"Left out: {text}" for text in content.get("left_out", ())]
    return "\n\n".join(part for part in parts if part) + "\n"


def goals(content: dict[str, Any]) -> str:
    rows = [(g.what, g.asked, g.reached, "reached" if g.met else "**missed**") for g in goals_of(content)]
    return table(("goal", "asked", "reached", ""), rows) if rows else ""


def methods(content: dict[str, Any]) -> str:
    """The main table, best first."""
    keys = [key for key in COLUMNS if any(one["mean"].get(key) is not None for one in content["methods"])]
    if content["protocol"] in {"last", "sparse"}:
        keys.remove("recall@10")  # with one target it is HR
    best = {
        key: (min if key.startswith("gini") else max)(
            one["mean"][key] for one in content["methods"] if one["mean"].get(key) is not None
        )
        for key in keys
    }
    rows = []
    for one in content["methods"]:
        cells = []
        for key in keys:
            text = figure(one["mean"].get(key), one["sd"].get(key), COLUMNS[key][1], spread=key == MAIN)
            cells.append(f"**{text}**" if one["mean"].get(key) == best[key] else text)
        seconds = one.get("fit_cpu_s")
        cells += ["–" if seconds is None else f"{seconds:,.0f}" if seconds >= 10 else f"{seconds:.1f}"]
        cells += [plain(one.get("behind"), 4), p_text(one.get("p"))]
        rows.append((named(one, content), *cells))
    return table(("method", *(COLUMNS[key][0] for key in keys), "Seconds", "behind", "p"), rows)


def tail(content: dict[str, Any]) -> str:
    """Long-tail targets alone."""
    people = content["people_with_tail_targets"]
    known = [one for one in content["methods"] if one["mean"].get(results.TAIL) is not None]
    bare = next((one for one in content.get("ablation", ()) if one["name"] == "without text"), None)
    rows = [
        (label(one), figure(one["mean"][results.TAIL], one["sd"].get(results.TAIL), 4), one["mean"][results.TAIL])
        for one in known
    ]
    if bare is not None and bare["tail"] is not None:
        rows.append((f"{NAME}, without text", plain(bare["tail"], 4), bare["tail"]))
    ordered = sorted(rows, key=lambda row: -row[2])
    text = f"{people:,} people have a target outside the most popular fifth of the items; NDCG@10 on those targets:"
    return f"### Long-tail targets\n\n{text}\n\n" + table(("method", "tail NDCG@10"), [row[:2] for row in ordered])


def pasts(content: dict[str, Any]) -> str:
    """Whom a re-ranker can know something of, apart from those to whom all that it can show is the same list."""
    known, strangers = content["people"]
    text = f"NDCG@10 of the {known:,} people with a past and of the {strangers:,} without one:\n\n"
    cells = [(label(one), plain(one["known"], 4), plain(one["strangers"], 4)) for one in content["rows"]]
    return text + table(("method", "with a past", "strangers"), cells)


def ablation(rows: Sequence[dict[str, Any]]) -> str:
    text = (
        "The default pipeline, fitted anew less one part; *lost* is what the whole is better by, person by person.\n\n"
    )
    cells = [
        (
            one["name"],
            figure(one["mean"], one["sd"], 4),
            plain(one.get("lost"), 4),
            p_text(one.get("p")),
            plain(one["coverage"], 3),
            plain(one["tail"], 4),
            f"{one['fit_cpu_s']:,.0f}",
        )
        for one in rows
    ]
    return text + table(("pipeline", "NDCG@10", "lost", "p", "Coverage@10", "Tail NDCG@10", "Seconds"), cells)


def given(rows: Sequence[dict[str, Any]]) -> str:
    text = "Each source's best 100 in its order, handed to the pipeline as `candidates`; nothing else may be shown.\n\n"
    cells = [
        (
            one["source"],
            plain(one["before"], 4),
            plain(one["after"], 4),
            f"{one['ratio']:.2f} ×" if one["ratio"] else "–",
            p_text(one["p"]),
        )
        for one in rows
    ]
    return text + table(("source", "NDCG@10 as given", "re-ranked", "ratio", "p"), cells)


def cold(content: dict[str, Any]) -> str:
    people = ", ".join(f"{n:,}" for n in content["people"])
    text = (
        f"{content['items']:,} items, a tenth of those with events, drawn by the seed, held out of training with all "
        f"their events; "
        f"{people} people had some of them. Recall of those at 50, among all items:\n\n"
    )
    cells = [
        (one["name"], figure(one["mean"], one["sd"], 4)) for one in sorted(content["rows"], key=lambda r: -r["mean"])
    ]
    return text + table(("method", "Recall@50"), cells)


def peers_section(every: Iterable[dict[str, Any]]) -> str:
    """What each peer is, what it chose from and what it chose."""
    rows = []
    chosen = {
        (one["name"], content["data"], content["protocol"]): one
        for content in every
        for one in content.get("methods", ())
        if one["kind"] == "peer"
    }
    for peer in PEERS:
        tried = f"{len(peer.grid)} settings" if len(peer.grid) > 1 else "one" if peer.grid[0] else "–"
        own = [
            f"{data}, {protocol}: {settings_text(one['settings'])}"
            for (name, data, protocol), one in chosen.items()
            if name == peer.name and one.get("settings")
        ]
        packages = {
            text
            for (name, *_), one in chosen.items()
            if name == peer.name
            for text in [" ".join(f"{n} {v}" for n, v in one.get("packages", {}).items())]
        }
        rows.append((peer.name, ", ".join(sorted(packages)) or "–", tried, "; ".join(own) or "–"))
    text = "What each peer is stands in `benchmarks/peers/`, its grid in `benchmarks/quality/peers.py`.\n\n"
    return "## The peers\n\n" + text + table(("peer", "packages", "tried on validation", "chosen"), rows) + "\n"


def readme(path: Path, every: Sequence[dict[str, Any]]) -> bool:
    """Write the table of MovieLens 100K into a README, between its marks; whether there was one to write."""
    content = next((one for one in every if one["data"] == "ml-100k" and results.ours(one)), None)
    text = path.read_text(encoding="utf-8")
    if content is None or not all(mark in text for mark in MARKS):
        return False
    rows = []
    for one in content["methods"]:
        name = f"**{label(one)}**" if one["kind"] == "pipeline" else named(one, content)
        mean, sd = one["mean"], one["sd"]
        rows.append(
            (
                name,
                figure(mean[MAIN], sd.get(MAIN), 4),
                plain(mean["hr@10"], 4),
                plain(mean["coverage@10"], 3),
                plain(mean["tail_share@10"], 3),
                p_text(one.get("p")),
            )
        )
    body = table(("method", "NDCG@10", "HR@10", "coverage@10", "tail share@10", "p"), rows)
    pattern = re.compile(f"{MARKS[0]}.*?{MARKS[1]}", re.DOTALL)
    path.write_text(pattern.sub(lambda _: f"{MARKS[0]}\n{body}\n{MARKS[1]}", text), encoding="utf-8")
    return True


def named(one: dict[str, Any], content: dict[str, Any]) -> str:
    """Its label, its seed where others have more, and whether it is of an earlier run."""
    fewer = one["name"] in FEWER and one["seeds"] != content["seeds"]
    said = [f"seed {one['seeds'][0]}"] * fewer + ["an earlier run"] * ("earlier" in one)
    return label(one) + (f" ({', '.join(said)})" if said else "")


def label(one: dict[str, Any]) -> str:
    if one["kind"] == "pipeline":
        return "tailwise"
    return f"`{one['name']}`, one of our sources, alone" if one["kind"] == "source" else one["name"]


def figure(value: float | None, sd: float | None, digits: int, *, spread: bool = True) -> str:
    if value is None:
        return "–"
    return f"{value:.{digits}f} ± {sd:.{digits}f}" if spread and sd else f"{value:.{digits}f}"


def plain(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def p_text(p: float | None) -> str:
    return "–" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"


def settings_text(settings: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items() if name != "model")


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
