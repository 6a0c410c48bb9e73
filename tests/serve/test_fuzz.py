"""Requests made from the description of the routes by schemathesis: none may be a fault of ours."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tailwise.pipeline import Engine

EXAMPLES = os.environ.get("TAILWISE_FUZZ", "20")
"""A route; ``make fuzz`` asks for many more, and for every boundary of every field."""
PHASES = "examples,coverage,fuzzing" if "TAILWISE_FUZZ" in os.environ else "examples,fuzzing"
CHECKS = "not_a_server_error,content_type_conformance,response_schema_conformance"


def test_no_request_of_the_description_makes_the_service_fail(site: tuple[str, Engine], tmp_path: Path) -> None:
    command = [Path(sys.executable).with_name("schemathesis"), "run", f"{site[0]}/openapi.json", "--checks", CHECKS]
    options = ["--max-examples", EXAMPLES, "--seed", "5", "--phases", PHASES, "--no-color"]

    done = subprocess.run([*command, *options], capture_output=True, text=True, cwd=tmp_path, check=False)

    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert re.search(r"\b(\d{3,}) generated, \1 passed\b", done.stdout), done.stdout[-3000:]  # and none was skipped
