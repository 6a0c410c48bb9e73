"""
Tailwise: a re-ranking engine for recommender systems and search.

>>> import tailwise
>>> sorted(tailwise.__all__)
['Engine', 'fit', 'load']
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tailwise.data.load import load
    from tailwise.learn.fit import fit
    from tailwise.pipeline import Engine

__all__ = ["Engine", "fit", "load"]

_HOMES = {"Engine": "tailwise.pipeline", "fit": "tailwise.learn.fit", "load": "tailwise.data.load"}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: ``import tailwise`` alone costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'tailwise' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
