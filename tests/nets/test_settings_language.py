"""Settings of fine-tuning: what is refused, and that they load no torch."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from tailwise.config import settings_of
from tailwise.errors import ConfigError
from tailwise.nets.settings_language import CausalConfig, TextLoop, Tuning


@pytest.mark.parametrize(
    ("kind", "raw", "message"),
    [
        (Tuning, {"method": "magic"}, r"^tuning: method is 'magic', but: Input should be 'full', .*$"),
        (Tuning, {"rank": 0}, r"^tuning: rank is 0, but: Input should be greater than or equal to 1$"),
        (TextLoop, {"minutes": 0}, r"^tuning: minutes is 0, but: Input should be greater than 0$"),
        (CausalConfig, {"modell": "x"}, r"^tuning: modell is not a setting; known: model, tuning, train, .*$"),
    ],
)
def test_what_is_wrong_is_named(kind: Any, raw: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings_of(kind, raw, where="tuning")


def test_fine_tuning_is_gentler_than_learning_from_nothing() -> None:
    assert TextLoop().epochs == 3
    assert TextLoop().precision == "auto"
    assert TextLoop(precision="bfloat16").model_dump()["precision"] == "bfloat16"


def test_the_settings_load_no_torch() -> None:
    code = "import sys, tailwise.nets.settings_language; print('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "False\n"
