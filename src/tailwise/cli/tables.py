"""``data`` and ``validate``: what goes in."""

from __future__ import annotations

import argparse

from tailwise.cli.progress import say


def get_data(options: argparse.Namespace) -> int:
    """Fetch a public data set."""
    from tailwise.data import sources

    source = sources.get(options.name, options.folder, report=say)
    say(f"{source.name} is in {options.folder}")
    say(f"source: {source.origin}")
    say(f"licence: {source.licence}")
    return 0


def validate_folder(options: argparse.Namespace) -> int:
    """Print one line a check; 1 when any fails."""
    from tailwise.data.load import validate

    findings = validate(options.folder)
    for finding in findings:
        say(str(finding))
    return int(any(finding.level == "FAIL" for finding in findings))
