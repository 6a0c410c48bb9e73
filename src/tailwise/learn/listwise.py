"""Ask a language model about held-out cases, and learn for whom its opinion counts; nobody: it sleeps."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import numpy as np

from tailwise.config import Settings
from tailwise.data.interactions import Training
from tailwise.errors import Abstain, UnavailableError
from tailwise.learn.gate import LEAST_CASES, cases_by_length, fit_gate
from tailwise.learn.slates import Example
from tailwise.pipeline import Engine
from tailwise.rank.breaker import BreakerConfig
from tailwise.rank.gate import Gate
from tailwise.rank.listwise import Listwise, ListwiseConfig, set_gate
from tailwise.rank.opinions import Opinions
from tailwise.types import Floats

log = logging.getLogger(__name__)
Notes = dict[str, float | str]

PATIENCE = 3
"""Cases in a row without an answer, at the start, after which there is no model."""
LEAST_TIMEOUT = 60.0
"""Seconds that one opinion may take at least: in a fit nobody waits."""


def fit_listwise(config: ListwiseConfig, training: Training, engine: Engine) -> tuple[Listwise, Notes]:
    """
    Learn who is asked about, and how much the answer counts.

    What the model says is kept in the cache folder by (profile, item, model), so that another fit of the same asks
    nothing again. Without a model that answers, the stage sleeps, and a warning says so. Where the settings fix the
    gate (``always``, ``few_events``) nothing is asked.

    Args:
        config: Settings; at most ``cases`` cases are asked about.
        training: With held-out cases.
        engine: With the sources, and the stages before this one.

    Returns:
        The stage, and notes for the model card.

    Cost: ``cases`` opinions, one after another.
    """
    fixed = set_gate(config)
    if fixed is not None:
        return Listwise(config, training.catalogue, fixed), {"decision": f"used as set: gate = {config.gate!r}"}
    asleep = Listwise(config, training.catalogue, None)
    examples = cases_by_length(training, engine, most=config.cases, depth=config.depth)
    telling = sum(bool(example.relevant.any()) for example in examples)
    if telling < LEAST_CASES:
        asked = f"{len(examples)} cases were drawn (cases = {config.cases}), and {telling} of them could teach it"
        return asleep, {"decision": f"not used: {asked}, fewer than {LEAST_CASES}"}
    try:
        cache = training.cache or Settings.from_environment().cache
        opinions, notes = opinions_of(config, training, examples, cache=cache)
    except UnavailableError as error:
        log.warning("listwise_llm is not used: %s", error)
        return asleep, {"decision": f"not used: {error}"}
    gate, learned = fit_gate(
        examples,
        opinions,
        depth=config.depth,
        seed=training.seed,
        facts=training.catalogue,
        query=config.query_weight,
    )
    notes |= learned
    if not any(gate.weights):
        return asleep, {**notes, "decision": f"not used: {learned['decision']}"}
    return Listwise(config, training.catalogue, gate), notes


def opinions_of(
    config: ListwiseConfig, training: Training, examples: list[Example], *, cache: Path
) -> tuple[list[Floats], Notes]:
    """
    What the model thinks of each example, (≤ depth,) NaN where it said nothing, and what that cost.

    Raises:
        UnavailableError: It answers none of the first, or nothing at all.
    """
    patient = config.model_copy(
        update={
            "backend": config.backend.model_copy(update={"timeout_s": max(config.backend.timeout_s, LEAST_TIMEOUT)}),
            "breaker": BreakerConfig(failures=len(examples) + 1),  # one case that fails must not cost the next ones
            "budget": config.budget.model_copy(update={"tokens_per_minute": None}),  # one question at a time
        }
    )
    kept = Opinions(config.cache, path=cache / "opinions.sqlite")
    stage = Listwise(patient, training.catalogue, Gate.always(1.0, config.depth), kept)
    opinions: list[Floats] = []
    answered, problem, start = 0, "it answered nothing", time.perf_counter()
    for place, example in enumerate(examples):
        training.report("opinions of the language model", place, len(examples))
        values = np.full(min(config.depth, len(example.slate)), np.nan, np.float32)
        try:
            found = stage.opinion(example.request, example.slate, patient.backend.timeout_s * 1000)
            values, answered = found.values, answered + 1
        except Abstain as reason:
            problem = str(reason)
        except (UnavailableError, TimeoutError) as error:
            problem = str(error)
            if not answered and place + 1 >= PATIENCE:
                break
        opinions.append(values)
    if not answered:
        raise UnavailableError(f"the language model gave no opinion: {problem}")
    counts = stage.counts
    notes: Notes = {
        "cases asked about": answered,
        "questions": counts["questions"],
        "tokens": counts["tokens_in"] + counts["tokens_out"],
        "malformed": counts["malformed"],
        "seconds": round(time.perf_counter() - start, 1),
    }
    if counts["checked"]:
        notes["agreement in another order"] = round(counts["agreement"] / counts["checked"], 3)
    return opinions, notes
