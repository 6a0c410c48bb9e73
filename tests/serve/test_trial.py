"""The small file that says what was decided about a canary."""

from pathlib import Path

import pytest

from tailwise.errors import UnavailableError
from tailwise.serve.trial import Trial, file_of, read_trial, write_trial


def test_what_was_decided_is_read_back_and_replaced(tmp_path: Path) -> None:
    model = tmp_path / "shop"

    before = read_trial(model)
    write_trial(model, Trial("a", 0.5, "asked for"))
    write_trial(model, Trial("a", 0.0, "worse"))

    assert before is None
    assert read_trial(model) == Trial("a", 0.0, "worse")
    assert [path.name for path in tmp_path.iterdir()] == ["shop.canary.json"]


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"identity": 1, "share": 0, "why": ""}', b"\xff"])
def test_a_damaged_file_decides_nothing(tmp_path: Path, text: bytes) -> None:
    file_of(tmp_path / "shop").write_bytes(text)

    assert read_trial(tmp_path / "shop") is None


def test_where_nothing_can_be_written_the_caller_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"shop\.canary\.json cannot be written: No such file or directory$"):
        write_trial(tmp_path / "gone" / "shop", Trial("a", 0.0, "worse"))
