"""Every damage to a model folder is found and named; arrays come back as they were."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from tailwise import artifacts
from tailwise.artifacts import check, load_arrays, save_arrays, writing
from tailwise.errors import ArtifactError


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A model that stands."""
    with writing(tmp_path / "model", {}) as fresh:
        (fresh / "part").mkdir()
        (fresh / "part" / "weights.txt").write_text("old")
    return tmp_path / "model"


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[0] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flip, "does not match its checksum; copy it again, or fit the model again"),
        (lambda path: os.truncate(path, 1), "has 1 bytes, but the manifest says 3; copy it again"),
        (Path.unlink, "is missing; copy the whole folder, or fit the model again"),
    ],
)
def test_a_damaged_file_is_named(target: Path, damage: Callable[[Path], None], message: str) -> None:
    part = target / "part" / "weights.txt"

    damage(part)

    with pytest.raises(ArtifactError) as caught:
        check(target)
    assert str(caught.value) == f"{part} {message}"


def test_a_folder_without_manifest_is_no_model(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(
            ArtifactError, match=r"^\S+ is not a model folder: it has no manifest\.json; make one with: "
        ):
            check(folder)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "3",
        '{"format": 1}',
        '{"format": 1, "files": []}',
        '{"format": 1, "files": {"a": 3}}',
        '{"format": 1, "files": {"a": {"bytes": 3}}}',
        "\udcff",
    ],
)
def test_a_damaged_manifest_is_named(target: Path, text: str) -> None:
    (target / "manifest.json").write_text(text, errors="surrogateescape")

    with pytest.raises(ArtifactError, match=r"^\S+/manifest\.json is damaged \(.*\); fit the model again$"):
        check(target)


def test_another_format_is_told_whatever_else_changed(target: Path) -> None:
    (target / "manifest.json").write_text(json.dumps({"format": 2, "parts": []}))

    with pytest.raises(ArtifactError, match=r"^\S+ has format 2, but this version reads 1; fit the model again$"):
        check(target)


def test_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    table = np.arange(12, dtype=np.float32).reshape(3, 4).T  # not contiguous

    save_arrays(tmp_path / "a.safetensors", table=table, mask=np.array([True, False]), empty=np.empty((0, 3)))

    found = load_arrays(tmp_path / "a.safetensors")
    assert (found["table"] == table).all()
    assert found["mask"].tolist() == [True, False]
    assert found["empty"].shape == (0, 3)


def test_arrays_that_are_missing_or_damaged_are_named(tmp_path: Path) -> None:
    (tmp_path / "bad").write_bytes(b"\x01\x02")

    for name in ("bad", "none"):
        with pytest.raises(ArtifactError, match=rf"^\S+/{name} cannot be read \(.+\); fit the model again$"):
            load_arrays(tmp_path / name)


@given(
    st.sampled_from(["<f2", "<f4", "<f8", "u1", "i1", "<u2", "<i4", "<u4", "<i8", "<u8", "?"]),
    st.lists(st.integers(0, 5), max_size=3),
    st.integers(0, 99),
)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_mapped_arrays_equal_read_ones(tmp_path: Path, dtype: str, shape: list[int], seed: int) -> None:
    values = (np.random.default_rng(seed).normal(size=shape) * 9).astype(np.int8).astype(dtype)
    path = tmp_path / "a.safetensors"
    save_arrays(path, odd=np.ones(3, np.int8), values=values)

    found, read = load_arrays(path), load_file(path)

    assert found.keys() == read.keys()
    for name, array in read.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()


def test_a_change_to_a_mapped_array_and_a_new_file_leave_the_others_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_arrays(path, values=np.arange(5000))
    mine, other = load_arrays(path)["values"], load_arrays(path)["values"]

    mine[:] = 7
    save_arrays(path, values=np.zeros(2))

    assert other.tolist() == list(range(5000))
    assert load_arrays(path)["values"].tolist() == [0.0, 0.0]
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_what_a_killed_writer_left_goes_a_day_later_and_nothing_else_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, old = tmp_path / ".shop.unfinished-ab12_xyz", tmp_path / ".shop.unfinished-ab12_xyz.old"
    others = [".shop.backup", ".shop.next.unfinished-ab12_xyz", ".library.unfinished-ab12_xyz", "shop.unfinished-a"]
    for folder in (left, old, *(tmp_path / name for name in others)):
        (folder / "part").mkdir(parents=True)
    (tmp_path / ".shop.unfinished-file").write_text("a file")
    (tmp_path / ".shop.unfinished-link").symlink_to(tmp_path / "shop.unfinished-a")
    before = sorted(path.name for path in tmp_path.iterdir())

    with writing(tmp_path / "shop", {}):  # on the same day it may be somebody's work
        pass
    at_once = sorted(path.name for path in tmp_path.iterdir())
    a_day_later = time.time() + 90_000
    monkeypatch.setattr(artifacts.time, "time", lambda: a_day_later)
    with writing(tmp_path / "shop", {}):
        pass
    later = sorted(path.name for path in tmp_path.iterdir())

    assert at_once == sorted([*before, "shop"])
    assert later == sorted({*at_once} - {left.name, old.name})
