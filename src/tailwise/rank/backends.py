"""Which back ends there are. A table of strings: what a pipeline does not name is never imported."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from threading import Lock
from typing import Any
from weakref import WeakValueDictionary

from tailwise.errors import ConfigError
from tailwise.nets.questions import Backend, BackendConfig, Kind

BACKENDS = {
    "openai": "tailwise.rank.served:OpenAI",
    "rerank": "tailwise.rank.served:Rerank",
    "transformers": "tailwise.nets.generate:LocalModel",
    "llama_cpp": "tailwise.rank.llama:LlamaCpp",
}
ENTRY_POINTS = "tailwise.backends"
_local: WeakValueDictionary[BackendConfig, Any] = WeakValueDictionary()
_opening = Lock()


def open_backend(config: BackendConfig, kind: Kind) -> Backend:
    """
    The back end that a configuration names; it loads or connects when it is first asked, or warmed up.

    Two that run a model in this process and are set alike are one: its weights are there once, whoever asks, and a new
    model folder that names the same finds them read.

    Raises:
        ConfigError: There is none of that name, or it cannot be asked this kind of question.
        UnavailableError: It needs a package that is not installed.
    """
    target = BACKENDS.get(config.kind)
    if target is not None:
        module, _, name = target.partition(":")
        made: Any = getattr(import_module(module), name)
    else:
        points = list(entry_points(group=ENTRY_POINTS, name=config.kind))
        if not points:
            raise ConfigError(f"no back end is called {config.kind!r}; known: {', '.join(sorted(BACKENDS))}")
        made = points[0].load()
    if kind not in made.kinds:
        can = ", ".join(sorted(made.kinds))
        raise ConfigError(f"back end {config.kind} cannot be asked {kind!r} questions, but only: {can}; see mode")
    if made.remote or target is None:
        return made(config)  # type: ignore[no-any-return]  # the table names back ends, and so should an entry point
    with _opening:
        backend: Backend | None = _local.get(config)
        if backend is None:
            backend = _local[config] = made(config)
    return backend
