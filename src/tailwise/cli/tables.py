"""``data`` and ``validate``: what goes in."""

from __future__ import annotations

import argparse
from pathlib import Path

from tailwise.cli.progress import say
from tailwise.errors import UsageError


def get_data(options: argparse.Namespace) -> int:
    """Fetch a public data set, or copy one with its people renamed."""
    from tailwise.data import sources

    if options.what == "pseudonymise":
        return _pseudonymise(options)
    source = sources.get(options.name, options.folder, report=say)
    say(f"{source.name} is in {options.folder}")
    say(f"source: {source.origin}")
    say(f"licence: {source.licence}")
    return 0


def _pseudonymise(options: argparse.Namespace) -> int:
    """What the service stores under pseudonyms, a model must have learned under them too."""
    from tailwise.data.pseudonyms import Pseudonyms, copy_folder

    if options.secret is None:
        raise UsageError("pseudonymise needs a secret: --secret FILE; make one with: openssl rand -hex 32")
    copy_folder(Path(options.name), options.folder, Pseudonyms.read(options.secret))
    say(f"{options.folder} holds the same with people renamed; other columns of theirs are as they were")
    return 0


def validate_folder(options: argparse.Namespace) -> int:
    """Print one line a check; 1 when any fails."""
    from tailwise.data.load import validate

    findings = validate(options.folder)
    for finding in findings:
        say(str(finding))
    return int(any(finding.level == "FAIL" for finding in findings))
