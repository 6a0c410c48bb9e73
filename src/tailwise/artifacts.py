"""
Model folders: written beside their place, moved there in one step, checked when they are opened.

    MODEL/
      manifest.json       version, created, seed, data hash, sha256 and size of every file, metrics, notes
      pipeline.toml
      <component>/        config.json, *.safetensors, *.onnx, *.parquet
    MODEL.previous/       the model that stood there before
"""

from __future__ import annotations

import ctypes
import glob
import hashlib
import json
import math
import mmap
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from polars.exceptions import PolarsError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from tailwise.errors import ArtifactError, UnavailableError

FORMAT = 1
"""Raised when a folder of an older format can no longer be read."""
MANIFEST = "manifest.json"
PREVIOUS = ".previous"
"""Ends the name of the folder beside a model that holds the one before it."""
UNFINISHED = ".unfinished-"
"""Stands in the name of the hidden folder in which a model is written, after that of the model."""
LEFT_S = 86_400.0
"""Age, in seconds, from which a folder that was begun and never finished is nobody's any more."""
DTYPES = {
    **{
        f"{kind}{8 * size}": np.dtype(f"<{code}{size}")
        for kind, code in zip("FIU", "fiu", strict=True)
        for size in (2, 4, 8)
    },
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
"""What a safetensors header calls the types of numpy."""


def sha256_of(path: Path) -> str:
    """Hex digest of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_arrays(path: Path, **arrays: NDArray[Any]) -> None:
    """Write named arrays to one safetensors file; who has an older one of that name open keeps it as it was."""
    fresh = path.with_name(f".{path.name}.new")
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, fresh)
    fresh.replace(path)


def load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """
    Named arrays from a safetensors file, mapped and not read: processes that open the same model share its pages.

    Who changes an array changes a copy of the page. A file that is replaced, as ``writing`` does, stays as it was for
    whoever has it open.

    Raises:
        ArtifactError: The file is missing or damaged.
    """
    try:
        with safe_open(path, "np"):  # looks at the whole header: forms, sizes, no gaps
            pass
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
            pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); fit the model again") from error
    header.pop("__metadata__", None)
    return {name: _mapped(pages, 8 + size, **told) for name, told in header.items()}


def _mapped(
    pages: mmap.mmap, begin: int, *, dtype: str, shape: list[int], data_offsets: tuple[int, int]
) -> NDArray[Any]:
    """One array of a file, from what the header tells of it."""
    array: NDArray[Any] = np.frombuffer(pages, DTYPES[dtype], math.prod(shape), begin + data_offsets[0])
    return array.reshape(shape)


@contextmanager
def writing(target: Path, manifest: Mapping[str, Any], *, keep: bool = False) -> Iterator[Path]:
    """
    A fresh folder to fill; it replaces ``target`` in one step when the block ends well, and goes when it does not.

    ``manifest`` gets the format and a checksum of every file added. A crash at any moment leaves the old model whole;
    the hidden folder that it may leave beside it goes when the next one is written a day later or more.

    Args:
        target: Where the model is to stand.
        manifest: What to say of it.
        keep: Whether the model that stood there stays, as ``previous_of`` names it; an older one there goes.

    Raises:
        ArtifactError: Something else than a model stands there; it is left alone.
        UnavailableError: The disk is full, read-only or otherwise refuses; the old model stands.
    """
    target = target.resolve()  # what a link points to is replaced, not the link
    fresh = _begun(target)
    try:
        yield fresh
        (fresh / MANIFEST).unlink(missing_ok=True)  # that of a copy; one in a part is a file like any
        files = {
            str(path.relative_to(fresh)): {"sha256": sha256_of(path), "bytes": path.stat().st_size}
            for path in sorted(fresh.rglob("*"))
            if path.is_file()
        }
        text = json.dumps({**manifest, "format": FORMAT, "files": files}, indent=2, sort_keys=True)
        (fresh / MANIFEST).write_text(text, encoding="utf-8")
        fresh.chmod(0o755)
        _sync(fresh)
        _swap(fresh, target)
        if keep and fresh.exists():
            shutil.rmtree(previous_of(target), ignore_errors=True)
            fresh.rename(previous_of(target))
    except (OSError, SafetensorError, PolarsError) as error:  # polars wraps what the disk answers
        why = getattr(error, "strerror", None) or str(error)
        raise UnavailableError(f"{target} was not saved: {why}; the old model, if any, still stands") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def check_place(target: Path) -> None:
    """Raise what ``writing`` would, for who works for minutes before it does."""
    _begun(target.resolve()).rmdir()


def _begun(target: Path) -> Path:
    """A fresh folder beside a place."""
    try:
        _refuse_other(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        return Path(tempfile.mkdtemp(prefix=f".{target.name}{UNFINISHED}", dir=target.parent))
    except OSError as error:
        raise UnavailableError(f"cannot write beside {target}: {error.strerror}") from error


def previous_of(target: Path) -> Path:
    """
    Where the model before this one stays.

    >>> previous_of(Path("/models/shop")).name
    'shop.previous'
    """
    target = target.resolve()
    return target.with_name(target.name + PREVIOUS)


def identity_of(manifest: Mapping[str, Any]) -> str:
    """Hex digest of a manifest, which names every file's checksum: two folders that share it hold the same model."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True, default=str).encode()).hexdigest()


def identity(folder: Path) -> str | None:
    """
    Which model a folder says that it holds; None when there is none. Its files are not looked at.

    Raises:
        ArtifactError: The manifest cannot be read.
    """
    path = folder / MANIFEST
    try:
        return identity_of(json.loads(path.read_bytes()))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is damaged ({error}); fit the model again") from error


def put(source: Path, target: Path) -> None:
    """
    Have ``target`` hold a copy of the model in ``source``, in one step; the one that stood there stays beside it.

    Raises:
        ArtifactError: ``source`` is damaged, or something else than a model stands in ``target``.
        UnavailableError: The disk refuses; the old model stands.
    """
    with writing(target, check(source), keep=True) as fresh:
        shutil.copytree(source, fresh, dirs_exist_ok=True)


def roll_back(target: Path) -> None:
    """
    Exchange a model and the one before it, in one step; once more undoes it.

    Raises:
        ArtifactError: There is none before it.
        UnavailableError: The disk refuses; nothing changed.
    """
    target, before = target.resolve(), previous_of(target)
    if not (before / MANIFEST).is_file():
        raise ArtifactError(f"there is no model before {target.name}: {before.name} is not there")
    try:
        _swap(before, target)
    except OSError as error:
        raise UnavailableError(f"{target} was not rolled back: {error.strerror}") from error


def check(folder: Path) -> dict[str, Any]:
    """
    The manifest of a model folder, after every file was compared with its checksum.

    Raises:
        ArtifactError: No such folder, another format, or a file that is missing, short or changed; says which.

    Cost: reads every file once.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise ArtifactError(f"{folder} is not a model folder: it has no {MANIFEST}; make one with: tailwise fit")
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found = manifest["format"]
        if found != FORMAT:
            raise ArtifactError(f"{folder} has format {found}, but this version reads {FORMAT}; fit the model again")
        files = {str(name): (facts["bytes"], facts["sha256"]) for name, facts in manifest["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path} is damaged ({error}); fit the model again") from error
    for name, (size, digest) in files.items():
        _check_file(folder / name, size, digest)
    return manifest


def _check_file(path: Path, size: int, digest: str) -> None:
    if not path.is_file():
        raise ArtifactError(f"{path} is missing; copy the whole folder, or fit the model again")
    if path.stat().st_size != size:
        raise ArtifactError(f"{path} has {path.stat().st_size} bytes, but the manifest says {size}; copy it again")
    try:
        same = sha256_of(path) == digest
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}; copy it again") from error
    if not same:
        raise ArtifactError(f"{path} does not match its checksum; copy it again, or fit the model again")


def _sweep(target: Path) -> None:
    """
    Remove what writers of this model that were killed left beside it; a younger folder may be somebody's work.

    Its age is that of its name, too (ctime): a model that is being exchanged for another stands there for a moment.
    """
    for left in target.parent.glob(f".{glob.escape(target.name)}{UNFINISHED}*"):
        if not left.is_symlink() and left.is_dir() and time.time() - left.stat().st_ctime > LEFT_S:
            shutil.rmtree(left, ignore_errors=True)


def _refuse_other(target: Path) -> None:
    """Replacing deletes what was there, so only a model folder or an empty one is ever replaced."""
    if target.exists() and not (target / MANIFEST).is_file() and not (target.is_dir() and not any(target.iterdir())):
        raise ArtifactError(f"{target} is there and is no model folder; choose another place, or remove it first")


def _sync(folder: Path) -> None:
    """Flush files and folders to the disk, so that the swap never shows a half-written model."""
    for path in [*folder.rglob("*"), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _swap(fresh: Path, target: Path) -> None:
    """Put ``fresh`` in the place of ``target``; what was there ends up under the name ``fresh``."""
    if not target.exists():
        fresh.rename(target)
        return
    # One system call exchanges both names (Linux 3.15+); elsewhere two renames are as near as one gets.
    exchange = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    at_cwd, flag = -100, 2
    if exchange and exchange(at_cwd, os.fsencode(fresh), at_cwd, os.fsencode(target), flag) == 0:
        return
    old = fresh.with_name(f"{fresh.name}.old")
    target.rename(old)
    fresh.rename(target)
    old.rename(fresh)
