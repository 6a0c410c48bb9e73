"""
Known faults of everything that constraints.txt pins, by pip-audit and the OSV database; exit 1 when there is one.

Package indexes are never asked: they would be asked once a package, and one without advisories answers as if all were
well. Where OSV does not give a fault that is known to be there, nothing can be said: then it says so and exits 0.
"""
# ruff: noqa: INP001, T201  a script that prints

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[1]
KNOWN = "PYSEC-2021-66"
SOURCE = f"https://api.osv.dev/v1/vulns/{KNOWN}"


def main() -> int:
    """Audit, or say why not."""
    why = unreachable(SOURCE)
    if why is not None:
        print(f"audit: SKIPPED, because the source of advisories cannot be asked: {why}")
        return 0
    pins = ["--requirement", str(ROOT / "constraints.txt"), "--no-deps", "--disable-pip"]
    command = [sys.executable, "-m", "pip_audit", "--vulnerability-service", "osv", "--strict", *pins]
    return subprocess.run(command, check=False).returncode  # noqa: S603  our own interpreter, our own arguments


def unreachable(source: str) -> str | None:
    """Why a source cannot be believed; None when it tells the fault that we know it to have."""
    try:
        answer = httpx.get(source, timeout=5)
    except httpx.HTTPError as error:
        return f"{type(error).__name__}"
    try:
        told = answer.json()
    except ValueError:
        told = None
    known = isinstance(told, dict) and told.get("id") == KNOWN
    return None if known else f"it answers {answer.status_code} without {KNOWN}"


if __name__ == "__main__":
    sys.exit(main())
