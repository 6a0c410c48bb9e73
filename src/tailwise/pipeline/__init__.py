"""The engine: retrieve, hydrate, run the stages, answer."""

from tailwise.pipeline.engine import Answer, Engine

__all__ = ["Answer", "Engine"]
