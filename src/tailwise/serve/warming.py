"""
What happens before a model says that it is ready: language models in this process are read, and its people are asked.

    open ─▶ warm_up: weights of language models ─▶ unsound: some of its people, and a stranger ─▶ ready

A language model that cannot be had is no reason not to serve: the fast order stands without it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from weakref import WeakKeyDictionary

import numpy as np

from tailwise.nets.questions import Backend
from tailwise.pipeline import Engine
from tailwise.rank.backends import open_backend
from tailwise.rerank.reasons import Reasons
from tailwise.types import NO_HISTORY, Encoder, Patient, Request

log = logging.getLogger(__name__)

WARM = 8
"""People of a model that it must answer before anybody else is served by it."""
_speakers: WeakKeyDictionary[Reasons, Backend] = WeakKeyDictionary()


def speaker_of(stage: Reasons) -> Backend:
    """
    Who phrases the reasons of a stage that names somebody; opened once, and gone with its model.

    Raises:
        ConfigError: There is no such back end.
        UnavailableError: It needs a package that is not installed.
    """
    assert stage.config.phrase is not None, "it was looked at before"
    if stage not in _speakers:
        _speakers[stage] = open_backend(stage.config.phrase, "order")
    return _speakers[stage]


def warm_up(engine: Engine) -> None:
    """
    Read what language models in this process need; one that cannot be had is said, and left to its stage.

    Cost: seconds for each model that is not read yet; nothing for one on a server, which is not asked.
    """
    for key, warm in _to_warm(engine):
        try:
            warm()
        except Exception as error:  # noqa: BLE001  whatever it is, lists can do without
            log.warning("%s has no language model, lists go without it: %s: %s", key, type(error).__name__, error)


def _to_warm(engine: Engine) -> Iterator[tuple[str, Callable[[], None]]]:
    if engine.encoder is not None:
        yield "encode", partial(_warm_encoder, engine.encoder)
    for bound in engine.stages:
        if hasattr(bound.run, "warm"):
            yield bound.key, bound.run.warm
        if isinstance(bound.run, Reasons) and bound.run.config.phrase is not None:
            yield bound.key, partial(_warm_speaker, bound.run)


def _warm_encoder(encoder: Encoder) -> None:
    encoder.encode(["warm-up"])  # nobody's first query waits for its weights


def _warm_speaker(stage: Reasons) -> None:
    speaker = speaker_of(stage)
    if hasattr(speaker, "warm"):
        speaker.warm()


def unsound(engine: Engine) -> str | None:
    """
    Why an engine should not be served: a warm-up request that it does not answer as it should; None when it may be.

    Asked are some of its own people and a stranger. The first answers read every matrix from the disk and take a
    hundred times as long: nobody should wait for them. A stage that is late is therefore no reason. Nobody else is
    asked: what people did is told to no language model, and paid for, before somebody wants their list.
    """
    asks = frozenset(bound.key for bound in engine.stages if isinstance(bound.run, Patient))
    ids = engine.people.user_ids
    some = ids[np.linspace(0, len(ids) - 1, min(WARM, len(ids))).astype(np.int64)].tolist()
    requests = [Request("warm-up", user_id=str(user_id), exclude_seen=False) for user_id in some]
    for request in (*requests, Request("warm-up", history=NO_HISTORY)):
        try:
            answer = engine.answer(request, spare=asks)
        except Exception as error:  # noqa: BLE001  whatever it is, people would meet it
            return f"it does not answer: {type(error).__name__}: {error}"
        for step in answer.trace:
            if step.skipped is not None and step.skipped.startswith("failed"):
                return f"{step.name} {step.skipped}"
        if not len(answer.slate):
            return "its list for somebody is empty"
        if not np.isfinite(answer.slate.scores).all():
            return "its scores are not numbers"
    return None
