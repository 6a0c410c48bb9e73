"""
People's ids replaced by keyed hashes: the same person is always the same name, and only the secret tells whose.

A plain hash would not do: whoever can list all customer numbers can hash them all. The secret is what stops that, so
it lies elsewhere than the data. What the service stores under pseudonyms, a model must have learned under them too.
"""

from __future__ import annotations

import hmac
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import polars as pl

from tailwise.data.files import SEGMENTS, find_tables, read_all
from tailwise.data.schema import Finding
from tailwise.errors import ConfigError, DataError, UnavailableError

LEAST_BYTES = 32
PEOPLE = {"events": ("user_id",), "users": ("user_id",), "social": ("user_id", "friend_id")}
"""Columns of a data folder that name people."""


@dataclass(frozen=True)
class Pseudonyms:
    """
    Names for people, by a secret.

    Cost: 1 µs an id.

    >>> Pseudonyms(bytes(32)).of("ann") == Pseudonyms(bytes(32)).of("ann") != Pseudonyms(bytes(32)).of("bob")
    True
    """

    secret: bytes = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> Self:
        """
        From a file with the secret: at least 32 bytes, whatever they are.

        Raises:
            UnavailableError: It cannot be read.
            ConfigError: It is too short to be a secret.
        """
        try:
            secret = path.read_bytes().strip()
        except OSError as error:
            why = f"{path} cannot be read: {error.strerror}"
            raise UnavailableError(f"{why}; make one with: openssl rand -hex 32 > {path}") from error
        if len(secret) < LEAST_BYTES:
            short = f"the secret in {path} has {len(secret)} bytes, but it needs {LEAST_BYTES}"
            raise ConfigError(f"{short}; make one with: openssl rand -hex 32")
        return cls(secret)

    def of(self, user_id: str) -> str:
        """
        128 bits of HMAC-SHA256, in hexadecimal digits.

        Source: RFC 2104; 128 bits, because two of a billion people then share a name once in 10^20 services.
        """
        return hmac.digest(self.secret, user_id.encode("utf-8", "surrogatepass"), "sha256").hex()[:32]

    def table(self, kind: str, frame: pl.DataFrame) -> pl.DataFrame:
        """A table of a data folder with its people renamed; each different id is hashed once."""
        for column in PEOPLE.get(kind, ()):
            ids = frame[column].cast(pl.String)
            different = ids.unique().drop_nulls().to_list()
            names = pl.Series([self.of(user_id) for user_id in different], dtype=pl.String)
            frame = frame.with_columns(ids.replace_strict(pl.Series(different), names, default=None).alias(column))
        return frame


def copy_folder(source: Path, target: Path, names: Pseudonyms) -> None:
    """
    A copy of a data folder with its people renamed: their tables as Parquet, all else as it is.

    Raises:
        DataError: A table cannot be read.
        UnavailableError: ``target`` is there already, or cannot be written.
    """
    files = find_tables(source)
    if isinstance(files, Finding):
        raise DataError(str(files))
    tables, findings = read_all({kind: path for kind, path in files.items() if kind in PEOPLE})
    if findings:
        raise DataError(str(findings[0]))
    try:
        renamed = {files[kind].name for kind in tables} | {path.name for path in source.glob(SEGMENTS)}
        shutil.copytree(source, target, ignore=lambda folder, _: renamed if Path(folder) == source else set())
        for kind, frame in tables.items():
            names.table(kind, frame).write_parquet(target / f"{kind}.parquet")
    except FileExistsError as error:
        raise UnavailableError(f"{target} is there already; name a folder that is not") from error
    except (OSError, shutil.Error) as error:
        raise UnavailableError(f"{target} cannot be written: {error}") from error
