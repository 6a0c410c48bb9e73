"""Where a model comes from: what went into it, as facts and as a version."""

from __future__ import annotations

import hashlib
import json
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from tailwise.config import PipelineConfig
from tailwise.data.load import Dataset


def provenance(data: Dataset, config: PipelineConfig, *, seed: int, threads: int, **facts: Any) -> dict[str, Any]:
    """
    Facts of one fit. The version is a digest of exactly these and the pipeline, so equal fits have equal versions.

    Args:
        data: The part that was learned from.
        config: The pipeline.
        seed: Of everything that draws.
        threads: Cores used.
        facts: What else made the model what it is, such as where the data was cut.
    """
    known = {
        "data": data.name,
        "data_sha256": data.digest(),
        "seed": seed,
        **facts,
        "tailwise": version("tailwise"),
        "machine": f"{platform.machine()}, {threads} threads, Python {platform.python_version()}",
    }
    text = json.dumps([known, config.model_dump(mode="json")], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return {**known, "version": digest, "created": datetime.now(UTC).isoformat(timespec="seconds")}
