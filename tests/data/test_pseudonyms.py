import hashlib
import hmac
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise.data.load import load
from tailwise.data.pseudonyms import Pseudonyms, copy_folder
from tailwise.errors import ConfigError, DataError, UnavailableError

SECRET = b"s" * 32


def test_a_name_is_the_hmac_by_hand() -> None:
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in SECRET.ljust(64, b"\0")) + b"ann").digest()
    outer = hashlib.sha256(bytes(b ^ 0x5C for b in SECRET.ljust(64, b"\0")) + inner).hexdigest()

    assert Pseudonyms(SECRET).of("ann") == outer[:32]


@given(st.text(), st.text())
def test_different_people_have_different_names_and_another_secret_tells_nothing(one: str, other: str) -> None:
    names = Pseudonyms(SECRET)

    assert (names.of(one) == names.of(other)) == (one == other)
    assert names.of(one) != Pseudonyms(b"t" * 32).of(one)
    assert hmac.compare_digest(names.of(one), names.of(one))


def test_the_secret_is_in_no_representation() -> None:
    assert "sss" not in repr(Pseudonyms(SECRET))


def test_a_folder_is_copied_with_its_people_renamed(tmp_path: Path) -> None:
    source, target, names = tmp_path / "shop", tmp_path / "hidden", Pseudonyms(SECRET)
    source.mkdir()
    (source / "events.csv").write_text("user_id,item_id,time\n007,i1,1\n007,i2,2\nbob,i1,3\n")
    (source / "users.csv").write_text("user_id,age\n007,40\n")
    (source / "social.csv").write_text("user_id,friend_id\n007,bob\n")
    (source / "items.csv").write_text("item_id,title\ni1,007\ni2,b\n")
    (source / "images").mkdir()
    (source / "images" / "events.csv").write_text("a picture, as it were")

    copy_folder(source, target, names)

    events = load(target).events
    assert set(events["user_id"]) == {names.of("007"), names.of("bob")}
    assert pl.read_parquet(target / "social.parquet").row(0) == (names.of("007"), names.of("bob"))
    assert (target / "items.csv").read_text() == (source / "items.csv").read_text()
    assert (target / "images" / "events.csv").exists()
    assert not (target / "events.csv").exists()
    with pytest.raises(UnavailableError, match=r"^.*hidden is there already; name a folder that is not$"):
        copy_folder(source, target, names)


def test_what_is_no_data_or_no_secret_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^FAIL .* has no events; add one of .*$"):
        copy_folder(tmp_path, tmp_path / "x", Pseudonyms(SECRET))
    (tmp_path / "short").write_text("abc")
    message = r"^the secret in .*short has 3 bytes, but it needs 32; make one with: openssl rand -hex 32$"
    with pytest.raises(ConfigError, match=message):
        Pseudonyms.read(tmp_path / "short")
    with pytest.raises(
        UnavailableError,
        match=r"^.*nowhere cannot be read: No such file or directory; make one with: openssl rand -hex 32 > .*nowhere$",
    ):
        Pseudonyms.read(tmp_path / "nowhere")
