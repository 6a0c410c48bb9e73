"""Model folders are replaced whole or not at all, and every damage is found and named."""

import ctypes
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tailwise import artifacts
from tailwise.artifacts import check, save_arrays, writing
from tailwise.errors import ArtifactError, UnavailableError


def model(folder: Path, text: str) -> None:
    with writing(folder, {"version": text}) as fresh:
        (fresh / "part").mkdir()
        (fresh / "part" / "weights.txt").write_text(text)
        (fresh / "pipeline.toml").write_text("")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A model that stands."""
    model(tmp_path / "model", "old")
    return tmp_path / "model"


def content(folder: Path) -> str:
    check(folder)
    return (folder / "part" / "weights.txt").read_text()


def alone(target: Path) -> bool:
    """Whether nothing was left beside the model."""
    return [path.name for path in target.parent.iterdir()] == [target.name]


def test_the_manifest_has_format_and_checksum_of_every_file(target: Path) -> None:
    manifest = check(target)

    assert manifest["version"] == "old"
    assert manifest["format"] == artifacts.FORMAT
    assert manifest["files"] == {
        "part/weights.txt": {
            "bytes": 3,
            "sha256": "cba06b5736faf67e54b07b561eae94395e774c517a7d910a54369e1263ccfbd4",
        },
        "pipeline.toml": {
            "bytes": 0,
            "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        },
    }
    assert alone(target)


def test_a_new_model_replaces_the_old_one(target: Path) -> None:
    model(target, "new")

    assert content(target) == "new"
    assert alone(target)


def kept(folder: Path, text: str) -> None:
    with writing(folder, {"version": text}, keep=True) as fresh:
        (fresh / "part").mkdir()
        (fresh / "part" / "weights.txt").write_text(text)


def test_the_model_before_stays_beside_when_it_is_asked_for_and_no_older_one(target: Path) -> None:
    kept(target, "new")
    kept(target, "newer")

    assert (content(target), content(artifacts.previous_of(target))) == ("newer", "new")
    assert sorted(path.name for path in target.parent.iterdir()) == ["model", "model.previous"]


@pytest.mark.parametrize("exchange", [True, False])
def test_rolling_back_exchanges_a_model_and_the_one_before_it(
    target: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    kept(target, "new")
    if not exchange:
        monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    artifacts.roll_back(target)
    back = (content(target), content(artifacts.previous_of(target)))
    artifacts.roll_back(target)

    assert back == ("old", "new")
    assert (content(target), content(artifacts.previous_of(target))) == ("new", "old")


def test_there_is_no_way_back_from_the_first_model(target: Path) -> None:
    with pytest.raises(ArtifactError, match=r"^there is no model before model: model\.previous is not there$"):
        artifacts.roll_back(target)


def test_a_copy_has_the_identity_of_what_was_copied_and_another_model_has_not(target: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere" / "other"
    model(other, "new")
    before = (artifacts.identity(target), artifacts.identity(other))

    artifacts.put(other, target)

    assert before[0] != before[1]
    assert artifacts.identity(target) == before[1] == artifacts.identity_of(check(target))
    assert (content(target), content(artifacts.previous_of(target))) == ("new", "old")


def test_a_copy_has_the_manifest_that_a_part_brought(target: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    with writing(other, {"version": "1"}) as folder:
        (folder / "encoder").mkdir()
        (folder / "encoder" / "manifest.json").write_text("{}")

    artifacts.put(other, target)

    assert (target / "encoder" / "manifest.json").read_text() == "{}"
    assert artifacts.identity(target) == artifacts.identity(other)
    assert list(check(target)["files"]) == ["encoder/manifest.json"]


def test_a_damaged_model_is_not_copied(target: Path, tmp_path: Path) -> None:
    model(tmp_path / "other", "new")
    (tmp_path / "other" / "part" / "weights.txt").write_text("bad")

    with pytest.raises(ArtifactError, match=r"does not match its checksum"):
        artifacts.put(tmp_path / "other", target)
    assert content(target) == "old"


def test_no_model_has_no_identity_and_a_damaged_manifest_says_so(target: Path, tmp_path: Path) -> None:
    assert artifacts.identity(tmp_path / "gone") is None
    (target / "manifest.json").write_text("[" * 100_000)
    with pytest.raises(ArtifactError, match=r"manifest\.json is damaged \(.*\); fit the model again$"):
        artifacts.identity(target)


def test_without_the_exchange_call_two_renames_do(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda *args, **keys: object())

    model(target, "new")

    assert content(target) == "new"
    assert alone(target)


def test_an_error_in_the_middle_leaves_the_old_model(target: Path) -> None:
    class Stop(BaseException):
        """As from the keyboard."""

    def interrupted() -> None:
        with writing(target, {}) as fresh:
            (fresh / "half").write_text("half")
            raise Stop

    with pytest.raises(Stop):
        interrupted()

    assert content(target) == "old"
    assert alone(target)


KILLED = """
import os, signal, sys
from pathlib import Path
from tailwise import artifacts
where, moment = Path(sys.argv[1]), sys.argv[2]
die = lambda *args, **keys: os.kill(os.getpid(), signal.SIGKILL)
if moment == "rmtree":
    artifacts.shutil.rmtree = die
elif moment != "block":
    setattr(artifacts, moment, die)
with artifacts.writing(where, {"version": "new"}) as fresh:
    (fresh / "part").mkdir()
    (fresh / "part" / "weights.txt").write_text("new")
    if moment == "block":
        die()
"""


@pytest.mark.parametrize("moment", ["block", "sha256_of", "_sync", "_swap"])
def test_a_kill_at_any_moment_leaves_the_old_model(target: Path, moment: str) -> None:
    found = subprocess.run([sys.executable, "-c", KILLED, target, moment], check=False)

    assert found.returncode == -9
    assert content(target) == "old"


def test_a_kill_while_the_old_model_is_removed_leaves_the_new_one(target: Path) -> None:
    found = subprocess.run([sys.executable, "-c", KILLED, target, "rmtree"], check=False)

    assert found.returncode == -9
    assert content(target) == "new"


def test_a_link_stays_a_link(target: Path) -> None:
    link = target.with_name("current")
    link.symlink_to(target)

    model(link, "new")

    assert link.is_symlink()
    assert content(target) == "new"
    assert sorted(path.name for path in target.parent.iterdir()) == ["current", "model"]


def test_what_is_no_model_is_never_replaced(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "events.csv").write_text("user_id")
    (tmp_path / "notes.txt").write_text("mine")

    for place in (data, tmp_path / "notes.txt"):
        with pytest.raises(
            ArtifactError, match=rf"^{place} is there and is no model folder; choose another place, .+$"
        ):
            model(place, "new")

    assert (data / "events.csv").read_text() == "user_id"
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_an_empty_folder_may_be_filled(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()

    model(tmp_path / "model", "new")

    assert content(tmp_path / "model") == "new"


def test_folders_above_are_made(tmp_path: Path) -> None:
    model(tmp_path / "a" / "b" / "model", "new")

    assert content(tmp_path / "a" / "b" / "model") == "new"


def test_a_parent_that_is_a_file_refuses(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(UnavailableError, match=r"^cannot write beside \S+/file/model: (File exists|Not a directory)$"):
        model(tmp_path / "file" / "model", "new")


def test_an_unwritable_parent_refuses() -> None:
    if not Path("/proc/self").is_dir():
        pytest.skip("needs /proc, which nobody can write to, not even root")

    with pytest.raises(UnavailableError, match=r"^cannot write beside /proc/model: .+$"):
        model(Path("/proc/model"), "new")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 200 kB with a model on it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", disk], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"may not mount a small file system: {mounted.stderr.decode().strip()}")
    try:
        model(disk / "model", "old")
        yield disk / "model"
    finally:
        subprocess.run(["umount", disk], check=True)


def large_parquet(path: Path) -> None:
    pl.DataFrame({"x": np.random.default_rng(0).random(100_000)}).write_parquet(path)


def large_arrays(path: Path) -> None:
    save_arrays(path, x=np.random.default_rng(0).random(100_000))


def large_text(path: Path) -> None:
    path.write_text("x" * 1_000_000)


@pytest.mark.parametrize("fill", [large_parquet, large_arrays, large_text])
def test_a_full_disk_leaves_the_old_model(small_disk: Path, fill: Callable[[Path], None]) -> None:
    def save() -> None:
        with writing(small_disk, {}) as fresh:
            fill(fresh / "large")

    with pytest.raises(UnavailableError) as caught:
        save()

    assert str(caught.value).startswith(f"{small_disk} was not saved: ")
    assert "No space left on device" in str(caught.value)
    assert str(caught.value).endswith("; the old model, if any, still stands")
    assert content(small_disk) == "old"
    assert alone(small_disk)


TOO_LARGE = """
import resource, signal, sys
from pathlib import Path
from tailwise.artifacts import writing
from tailwise.errors import UnavailableError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    with writing(Path(sys.argv[1]), {}) as fresh:
        (fresh / "large").write_bytes(b"x" * 100_000)
except UnavailableError as error:
    print(error)
"""


def test_a_file_over_the_limit_leaves_the_old_model(target: Path) -> None:
    found = subprocess.run([sys.executable, "-c", TOO_LARGE, target], check=True, capture_output=True, text=True)

    assert found.stdout == f"{target} was not saved: File too large; the old model, if any, still stands\n"
    assert content(target) == "old"
    assert alone(target)
