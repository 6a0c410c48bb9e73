"""The engine: retrieve, hydrate, run the stages, answer."""

from tailwise.pipeline.asking import Answer
from tailwise.pipeline.engine import Engine

__all__ = ["Answer", "Engine"]
