"""Four forms of one report agree, stand alone, and escape what they are given."""

import json
import math
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from tailwise.errors import DataError, UnavailableError
from tailwise.evaluate.compare import compare_reports, interval
from tailwise.evaluate.report import table, write_report
from tailwise.evaluate.results import Kind, MethodResult, Report

B = 30
CUTS = (1, 5, 10)


def method(name: str, kind: Kind, skill: float) -> MethodResult:
    rng = np.random.default_rng(int(100 * skill))
    per = {f"ndcg@{k}": np.round(rng.random(B) * skill * k / 10, 3) for k in CUTS}
    per["hr@10"] = np.ceil(per["ndcg@10"] - 0.3)
    per["diversity@10"] = np.where(np.arange(B) < 3, np.nan, 0.5)
    curve = np.linspace(0, 1, 11) ** (3 - skill)
    return MethodResult(name, per, {"coverage@10": 1 - skill, "gini@10": 0.5}, 1.5, kind, curve)


def report(name: str = "tailwise", data: str = "shop") -> Report:
    methods = (
        method(name, "pipeline", 0.9),
        method("sequence", "source", 0.5),
        MethodResult("Pop", {"ndcg@10": np.zeros(B)}, {"coverage@10": math.nan}, None, "baseline"),
    )
    facts: dict[str, str | int | float] = {
        "seed": 7,
        "items": 1682,
        "fit seconds": 131.4839,
        "machine": "2 cores",
        "lost": math.nan,
    }
    notes = ("Full ranking over all 1,682 items; seen items filtered.",)
    return Report(data, "last", notes, tuple(f"r{i}" for i in range(B)), 10, methods, facts)


class Page(HTMLParser):
    """The words of a page, every tag with its attributes, and whether what opens closes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "new" / "deep"
    assert write_report(report(), out) == [out / "report.json", out / "report.md", out / "report.html"]
    return out


def test_the_terminal_table_lines_up_and_shows_what_is_missing() -> None:
    lines = table(report()).splitlines()

    ours, source, pop = lines[2:5]
    assert lines[0].split() == ["method", "NDCG@10", "HR@10", "Coverage", "Gini", "Diversity", "Seconds", "p"]
    assert re.match(r"^tailwise  0\.\d{4}\* \[0\.\d{4}, 0\.\d{4}\]  ", ours)
    assert ours.endswith("  –")
    assert source.endswith("<0.001") or re.search(r" 0\.\d{3}$", source)
    assert pop.split()[:4] == ["Pop", "0.0000", "[0.0000,", "0.0000]"]
    assert pop.split()[4:9] == ["–"] * 5
    assert lines[5].startswith("* best of its column")


def test_the_json_is_strict_and_gives_every_value_back(folder: Path) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(name)

    stored = json.loads((folder / "report.json").read_text(), parse_constant=refuse)

    given = report()
    assert (stored["format"], stored["data"], stored["split"], stored["k"]) == (1, "shop", "last", 10)
    assert stored["request_ids"] == list(given.request_ids)
    assert stored["facts"] == {**given.facts, "lost": None}
    for ours, theirs in zip(given.methods, stored["methods"], strict=True):
        for key, values in ours.per_request.items():
            np.testing.assert_allclose(np.array(theirs["per_request"][key], np.float64), values)
    assert stored["methods"][0]["per_request"]["diversity@10"][0] is None
    assert stored["methods"][2]["overall"] == {"coverage@10": None}
    around = interval(given.methods[0].per_request["ndcg@10"], seed=0)
    assert stored["methods"][0]["intervals"]["ndcg@10"] == {"mean": around.mean, "low": around.low, "high": around.high}
    assert set(stored["methods"][0]["intervals"]) == {"ndcg@10", "hr@10", "diversity@10"}


def test_compare_reads_what_was_written(folder: Path) -> None:
    rows = compare_reports([folder, folder])

    assert [row.metric for row in rows] == [*report().methods[0].per_request, "coverage@10", "gini@10"]
    assert all(row.paired.p_value == 1 for row in rows if row.paired)
    assert {row.paired.n for row in rows if row.paired} == {B, B - 3}


def test_the_same_report_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    for path in write_report(report(), tmp_path):
        assert path.read_bytes() == (folder / path.name).read_bytes()


def test_markdown_and_page_show_the_figures_of_the_terminal(folder: Path) -> None:
    figures = re.findall(r"\d\.\d{3,4}", "\n".join(table(report()).splitlines()[2:5]))
    markdown = (folder / "report.md").read_text()
    page = " ".join(Page((folder / "report.html").read_text()).words)

    assert len(figures) > 12
    assert all(figure in markdown for figure in figures)
    assert all(figure in page for figure in figures)
    assert "| tailwise | **" in markdown
    assert "- Full ranking over all 1,682 items; seen items filtered.\n" in markdown
    assert "| fit seconds | 131.5 |\n| machine | 2 cores |\n| lost | – |\n" in markdown


def test_the_page_stands_alone(folder: Path) -> None:
    page = Page((folder / "report.html").read_text())

    assert page.open == []
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in page.tags}
    pointers = [
        value for _, attrs in page.tags for name, value in attrs.items() if name in {"src", "href", "xlink:href"}
    ]
    assert all(value is not None and value.startswith("#") for value in pointers)
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_the_page_has_a_plot_of_each_kind_a_verdict_and_the_notes(folder: Path) -> None:
    page = Page((folder / "report.html").read_text())
    words = " ".join(page.words)

    assert [tag for tag, _ in page.tags].count("svg") == 4
    assert re.search(
        r"tailwise ranks \d+% above sequence, the best other method, in NDCG@10 \(p\s*[<=]\s*0\.\d+\)\.", words
    )
    assert "Full ranking over all 1,682 items; seen items filtered." in words
    assert "131.5" in words


def test_a_page_of_plain_figures_leaves_out_what_there_is_nothing_for(tmp_path: Path) -> None:
    bare = Report("shop", "last", (), ("r",), 10, (MethodResult("means", {}, {"mae": 0.5}, None, "baseline"),), {})

    page = Page(write_report(bare, tmp_path)[2].read_text())

    assert not {"svg", "dl"} & {tag for tag, _ in page.tags}
    assert "0.500" in page.words


def test_a_difference_within_chance_is_called_so(tmp_path: Path) -> None:
    values = np.tile([0.0, 1.0], 10)
    methods = (
        MethodResult("new", {"ndcg@10": values}, {}, None, "pipeline"),
        MethodResult("old", {"ndcg@10": np.roll(values, 1) * 0.9}, {}, None, "baseline"),
    )
    even = Report("shop", "last", (), tuple(map(str, range(20))), 10, methods, {})

    words = " ".join(Page(write_report(even, tmp_path)[2].read_text()).words)

    assert re.search(r"new is within chance of old, the best other method, in NDCG@10 \(\+11%, p\s=\s0\.\d+\)\.", words)


def test_names_are_text_and_never_markup(tmp_path: Path) -> None:
    given = report(name="<b>a|b</b>", data="<script>alert(1)</script>")

    _, markdown, html = write_report(given, tmp_path)

    page = Page(html.read_text())
    assert not {"script", "b"} & {tag for tag, _ in page.tags}
    assert "<script>alert(1)</script>" in " ".join(page.words)
    rows = [line for line in markdown.read_text().splitlines() if line.startswith("| <b>")]
    assert [row.count("|") for row in rows] == [9]


def test_a_number_of_numpy_is_a_number_and_anything_else_has_no_place(tmp_path: Path) -> None:
    given = report()
    given.methods[0].overall["gini@10"] = np.float32(0.25)  # type: ignore[assignment]  # what a caller may well pass

    written = json.loads(write_report(given, tmp_path)[0].read_text())

    assert written["methods"][0]["overall"]["gini@10"] == 0.25
    given.facts["path"] = Path("x")  # type: ignore[assignment]  # on purpose
    with pytest.raises(DataError, match=r"^PosixPath has no place in a report; give text or a number$"):
        write_report(given, tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(
        UnavailableError, match=rf"^{re.escape(str(tmp_path / 'file'))} cannot be written: File exists$"
    ):
        write_report(report(), tmp_path / "file")


def test_without_jinja_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)

    with pytest.raises(UnavailableError, match=r"^the report's page needs Jinja2: pip install 'tailwise\[train\]'$"):
        write_report(report(), tmp_path)

    assert list(tmp_path.iterdir()) == []
