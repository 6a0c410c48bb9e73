"""
What was decided about a canary, in a small file beside the model, so that all workers, and the next start, abide by it.

    MODEL.canary.json    {"identity": …, "share": 0.05, "why": "asked for"}

It is of one canary: another model in the canary's folder is a trial of its own.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import msgspec
from msgspec import Struct

from tailwise.errors import UnavailableError


class Trial(Struct):
    """How much of the people one canary gets, and since what."""

    identity: str
    share: float
    why: str


def file_of(model: Path) -> Path:
    """
    Where it stands.

    >>> file_of(Path("models/shop")).as_posix()
    'models/shop.canary.json'
    """
    return model.with_name(f"{model.name}.canary.json")


def read_trial(model: Path) -> Trial | None:
    """What was decided; None when nothing was, or it cannot be read."""
    try:
        return msgspec.json.decode(file_of(model).read_bytes(), type=Trial)
    except (OSError, msgspec.MsgspecError):
        return None


def why_off(model: Path) -> str:
    """Why nobody is served by the canary although there is one."""
    trial = read_trial(model)
    return "not open yet, or refused" if trial is None else trial.why


def write_trial(model: Path, trial: Trial) -> None:
    """
    Decide, in one step.

    Raises:
        UnavailableError: The disk refuses; what was decided before stands.
    """
    target = file_of(model)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.encode(trial))
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(target)
    except OSError as error:
        raise UnavailableError(f"{target} cannot be written: {error.strerror}") from error
