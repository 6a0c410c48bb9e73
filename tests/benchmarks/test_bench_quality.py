from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import bench_quality
import pytest
from quality.ours import WHOLE
from quality.peers import PEERS
from quality.studies import variants

from tailwise.data.load import Dataset, write

SCRIPT = Path(bench_quality.__file__)
OTHERS = [peer.name for peer in PEERS if peer.environment is not None]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *words], capture_output=True, text=True, check=False)


def test_the_command_runs_peers_on_a_folder_writes_a_page_and_repeats_nothing(shop: Dataset, tmp_path: Path) -> None:
    write(shop, tmp_path / "shop")
    left_out = [word for name in OTHERS for word in ("--leave-out", name)]
    words = [
        "--data", f"shop={tmp_path / 'shop'}:last", "--only", "shop", "--skip-ours", "--out", str(tmp_path / "out"),
        *left_out,
    ]  # fmt: skip

    first, second = run(*words), run(*words)

    assert first.returncode == 0, first.stderr
    assert "] EASE, seed 0" in first.stdout
    assert "] EASE, seed 0" not in second.stdout
    found = json.loads((tmp_path / "out" / "results" / "shop-last.json").read_text())
    assert {one["name"] for one in found["methods"]} == {"popularity", "EASE", "recency-weighted EASE"}
    page = (tmp_path / "out" / "benchmarks.md").read_text()
    assert "## shop, last" in page
    assert str(tmp_path) not in page


@pytest.mark.parametrize("text", ["shop", "shop=there", "shop=there:first", "=there:last", "shop=:last"])
def test_a_data_option_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as refused:
        bench_quality.data_option(text)

    assert str(refused.value) == f"{text!r} is not NAME=FOLDER:PROTOCOL with one of: last, time, basket, sparse"


def test_every_variant_of_the_ablation_is_another_pipeline() -> None:
    found = list(variants(WHOLE.config))

    assert {"without text", "without EASE", "without fusion"} <= {variant.name for variant in found}
    assert all((variant.config, variant.text) != (WHOLE.config, True) for variant in found)


def test_a_loss_is_tried_where_it_is_off_and_turned_off_where_it_is_on() -> None:
    by_name = {variant.name: variant.config for variant in variants(WHOLE.config)}
    found = by_name["with alignment"]

    again = {variant.name: variant.config for variant in variants(found)}

    sequence, back = (
        next(step for step in config.retrieve if step.name == "sequence")
        for config in (found, again["without alignment"])
    )
    assert (sequence.settings["align"], back.settings["align"]) == (0.1, 0.0)
    assert "with self-distillation" in again
