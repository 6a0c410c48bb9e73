"""
The error tree: every error that Tailwise raises on purpose.

    TailwiseError
    ├── UserError             the caller can mend it (exit 1, HTTP 4xx)
    │   ├── ConfigError       a setting, a pipeline or a rules file
    │   │   └── UsageError    a command was asked wrongly (exit 2)
    │   ├── DataError         a data folder, a file, a row, a value
    │   ├── RequestError      one request: a field, a size, a value
    │   ├── ShapeError        arrays that do not fit each other
    │   └── ArtifactError     a model folder: missing, damaged, another version
    ├── UnavailableError      something outside is missing (exit 1, HTTP 503)
    └── Abstain               a stage has nothing to say of this request: no failure, and nobody but the trace sees it

Messages say what is wrong, the value, the rule and the remedy, in one line.
"""

from __future__ import annotations


class TailwiseError(Exception):
    """Root of the tree; catch it to catch everything that Tailwise raises on purpose."""


class UserError(TailwiseError):
    """Something that the caller gave is wrong, and the message says how to mend it."""


class ConfigError(UserError):
    """A setting is unknown, of the wrong type or out of range."""


class UsageError(ConfigError):
    """A command lacks an argument, or an option of it is out of range or excludes another."""


class DataError(UserError):
    """Data does not have the documented form; the message names file, row and column."""


class RequestError(UserError):
    """One request cannot be answered as it stands."""


class ShapeError(UserError):
    """Two arrays that must agree in a dimension do not."""


class ArtifactError(UserError):
    """A model folder is missing, damaged, or of a version this code does not read."""


class UnavailableError(TailwiseError):
    """An optional package, a file system or a service is not there."""


class Abstain(TailwiseError):  # noqa: N818  it is no error
    """Raised by a stage that leaves a request alone: the order that came in stands, and the trace says why."""
