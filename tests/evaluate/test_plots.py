"""Every picture is one well-formed element that draws what it was given and keeps to itself."""

import itertools
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.errors import UnavailableError
from tailwise.evaluate import plots
from tailwise.evaluate.plots import Series

LABELS = ("across", "up")
TWO = [
    Series("ours", "pipeline", (0.0, 1.0), (0.2, 0.5)),
    Series("an <odd> & $old$ 名", "baseline", (0.0, 1.0), (0.1, 0.4)),
]
PICTURES: dict[str, Callable[[], str]] = {
    "bars": lambda: plots.bars(
        [Series(one.name, one.kind, (0.1, 0.2, 0.3), ()) for one in TWO], label="NDCG", alt='bars of "two"'
    ),
    "scatter": lambda: plots.scatter(
        [Series(o.name, o.kind, o.x[:1], o.y[:1]) for o in TWO], labels=LABELS, alt="dots"
    ),
    "lines": lambda: plots.lines(TWO, labels=LABELS, alt="lines"),
    "lorenz": lambda: plots.lorenz(TWO, labels=LABELS, alt="curves"),
}


@pytest.fixture(params=PICTURES, scope="module")
def svg(request: pytest.FixtureRequest) -> str:
    return PICTURES[request.param]()


def texts(svg: str) -> list[str]:
    return [node.text or "" for node in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_a_picture_is_one_element_with_a_name_for_those_who_cannot_see_it(svg: str) -> None:
    root = ET.fromstring(svg)

    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.get("role") == "img"
    assert root.get("aria-label") in {'bars of "two"', "dots", "lines", "curves"}


def test_names_are_text_whatever_they_hold(svg: str) -> None:
    assert [text for text in texts(svg) if text in {"ours", "an <odd> & $old$ 名"}] == ["ours", "an <odd> & $old$ 名"]


def test_colours_come_from_the_page(svg: str) -> None:
    assert "var(--pipeline)" in svg
    assert "var(--baseline)" in svg
    assert "#0a0b" not in svg


def test_a_picture_brings_no_style_of_its_own_and_points_nowhere(svg: str) -> None:
    assert "<style" not in svg
    assert {part.split('"')[0] for part in svg.split("http://")[1:]} == {"www.w3.org/2000/svg", "www.w3.org/1999/xlink"}


def test_no_two_pictures_share_an_id_and_every_reference_is_found() -> None:
    drawn = [PICTURES["lines"](), PICTURES["lorenz"]()]
    ids = [{node.get("id") for node in ET.fromstring(svg).iter() if node.get("id")} for svg in drawn]

    assert ids[0]
    assert not ids[0] & ids[1]
    for svg, own in zip(drawn, ids, strict=True):
        wanted = {part.split(")")[0] for part in svg.split("url(#")[1:]} | {
            p.split('"')[0] for p in svg.split('href="#')[1:]
        }
        assert wanted
        assert wanted <= own


def test_the_same_figures_give_the_same_bytes() -> None:
    assert PICTURES["lines"]() == PICTURES["lines"]()


def test_bars_say_their_value() -> None:
    assert texts(PICTURES["bars"]()).count("0.200") == 2


def test_drawing_leaves_the_settings_of_matplotlib_alone() -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    PICTURES["bars"]()

    assert dict(mpl.rcParams) == before


@settings(max_examples=80, deadline=None)
@given(st.lists(st.floats(0, 10), min_size=1, max_size=9), st.floats(0.01, 3))
def test_names_end_up_a_gap_apart_in_their_order_and_move_only_when_they_must(heights: list[float], gap: float) -> None:
    placed = plots.apart(heights, gap)

    pairs = sorted(zip(heights, placed, strict=True))
    assert all(b[1] - a[1] >= gap - 1e-9 for a, b in itertools.pairwise(pairs))
    assert min(placed) >= gap / 2 - 1e-9
    alone = min((b[0] - a[0] for a, b in itertools.pairwise(pairs)), default=gap) >= gap
    if alone and min(heights) >= gap / 2:
        assert placed == pytest.approx(heights)


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    with pytest.raises(
        UnavailableError, match=r"^the report's plots need matplotlib: pip install 'tailwise\[train\]'$"
    ):
        PICTURES["bars"]()
