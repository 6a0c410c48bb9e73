"""Settings of what learns: what cannot be is refused before anything is trained."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tailwise.config import settings_of
from tailwise.errors import ConfigError
from tailwise.nets.settings import LoopConfig, SequenceShape
from tailwise.rank.sequence import SequenceConfig


def test_heads_must_divide_the_width() -> None:
    message = r"^sequence: shape is .*, but: Value error, heads is 3, which does not divide dim, 64$"

    with pytest.raises(ConfigError, match=message):
        settings_of(SequenceConfig, {"shape": {"heads": 3}}, where="sequence")


@pytest.mark.parametrize("heads", [1, 2, 4, 64])
def test_any_number_of_heads_that_does_is_taken(heads: int) -> None:
    assert SequenceShape(heads=heads).heads == heads


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"epochs": 0}, r"^train: epochs is 0, but: Input should be greater than or equal to 1$"),
        ({"learning_rate": 0}, r"^train: learning_rate is 0, but: Input should be greater than 0$"),
        ({"clip": -1}, r"^train: clip is -1, but: Input should be greater than 0$"),
    ],
)
def test_a_value_out_of_range_is_named(raw: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings_of(LoopConfig, raw, where="train")


def test_reading_the_settings_needs_no_torch() -> None:
    script = "import sys, tailwise.nets.settings; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
