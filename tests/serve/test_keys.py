import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise.errors import ConfigError, UnavailableError
from tailwise.serve.keys import KeyRing, create_key, read_keys, revoke_key, rotate_key

NOW = 1_800_000_000.0


class Hands:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_a_secret_opens_and_is_nowhere_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"

    key, secret = create_key(path, now=NOW, scopes=("read", "write"), name="shop", rate=5.0)

    caller = KeyRing(path).find(secret, NOW)
    assert caller is not None
    assert (caller.name, caller.tenant, caller.scopes, caller.limit.rate) == (key.id, "", {"read", "write"}, 5.0)
    written = path.read_text()
    assert secret not in written
    assert secret.split("_", 2)[2] not in written
    assert secret not in repr(KeyRing(path)) + repr(caller) + repr(key)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_secrets_have_256_bits_and_are_never_alike(tmp_path: Path) -> None:
    secrets = {create_key(tmp_path / "keys.toml", now=NOW, scopes=("read",))[1] for _ in range(20)}

    assert len(secrets) == 20
    assert {len(secret.split("_", 2)[2]) for secret in secrets} == {43}  # 32 bytes as base64


@given(st.text(max_size=60))
def test_no_other_text_opens(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("keys") / "keys.toml"
    key, secret = create_key(path, now=NOW, scopes=("read",))
    ring = KeyRing(path)

    tried = [text, f"tw_{text}", f"tw_{key.id}_{text}", f"{secret}{text}x", secret[:-1]]

    assert [ring.find(token, NOW) for token in tried] == [None] * 5
    assert ring.find(secret, NOW) is not None


def test_a_key_expires_to_the_second(tmp_path: Path) -> None:
    _, secret = create_key(tmp_path / "keys.toml", now=NOW, scopes=("read",), expires=NOW + 60)
    ring = KeyRing(tmp_path / "keys.toml")

    assert ring.find(secret, NOW + 59.9) is not None
    assert ring.find(secret, NOW + 60) is None


def test_a_revoked_key_stops_within_a_second_without_a_restart(tmp_path: Path) -> None:
    path, hands = tmp_path / "keys.toml", Hands()
    key, secret = create_key(path, now=NOW, scopes=("read",))
    ring = KeyRing(path, clock=hands)

    revoke_key(path, key.id, now=NOW)

    hands.seconds = 0.9
    assert ring.find(secret, NOW) is not None  # else the file is read at every request
    hands.seconds = 1.0
    assert ring.find(secret, NOW) is None


def test_a_rotated_key_and_its_heir_open_side_by_side_for_a_while(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    old, before = create_key(path, now=NOW, scopes=("write",), tenant="shop", daily=7, name="till")

    new, after = rotate_key(path, old.id, now=NOW, grace=100)

    ring = KeyRing(path)
    assert new.id != old.id
    assert (new.scopes, new.tenant, new.daily, new.name) == (("write",), "shop", 7, "till")
    assert [ring.find(secret, NOW + 99) is None for secret in (before, after)] == [False, False]
    assert [ring.find(secret, NOW + 100) is None for secret in (before, after)] == [True, False]


def test_rotating_never_makes_a_key_live_longer(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    old, secret = create_key(path, now=NOW, scopes=("read",), expires=NOW + 10)

    rotate_key(path, old.id, now=NOW, grace=1000)

    assert KeyRing(path).find(secret, NOW + 11) is None
    with pytest.raises(ConfigError, match=r"^key '.*' has expired; make a new one with: tailwise keys create$"):
        rotate_key(path, old.id, now=NOW + 11, grace=1000)


def test_a_file_that_is_broken_later_locks_nobody_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, hands = tmp_path / "keys.toml", Hands()
    _, secret = create_key(path, now=NOW, scopes=("read",))
    ring = KeyRing(path, clock=hands)

    path.write_text("no toml at all")
    hands.seconds = 2
    found = ring.find(secret, NOW)
    path.unlink()
    hands.seconds = 4
    still = ring.find(secret, NOW)

    assert found is not None
    assert still is not None
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]


def test_a_file_that_is_broken_at_the_start_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    with pytest.raises(UnavailableError, match=r"^.*keys\.toml cannot be read: No such file or directory$"):
        KeyRing(path)
    path.write_text("[[key]]\nid = 'x'\n")
    with pytest.raises(ConfigError, match=r"^.*keys\.toml: key\.0\.id is 'x', but: String should match pattern .*$"):
        KeyRing(path)
    path.write_text("key = 3 4")
    with pytest.raises(ConfigError, match=r"^.*keys\.toml is not TOML: .*$"):
        read_keys(path)


def test_two_keys_of_one_id_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    key, _ = create_key(path, now=NOW, scopes=("read",))
    path.write_text(path.read_text() * 2)

    with pytest.raises(ConfigError, match=rf"^.*: two keys have the id '{key.id}'; delete one of them$"):
        read_keys(path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scopes": ("root",)}, r"^the key: scopes\.0 is 'root', but: Input should be 'read', 'write' or 'admin'$"),
        (
            {"scopes": ("read",), "tenant": "../x"},
            r"^the key: tenant is '\.\./x', but: String should match pattern .*$",
        ),
        ({"scopes": ("read",), "rate": 0.0}, r"^the key: rate is 0\.0, but: Input should be greater than 0$"),
    ],
)
def test_a_key_that_makes_no_sense_is_not_made(tmp_path: Path, fields: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_key(tmp_path / "keys.toml", now=NOW, **fields)

    assert not (tmp_path / "keys.toml").exists()


def test_a_key_that_is_not_there_cannot_be_revoked(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    create_key(path, now=NOW, scopes=("read",))

    with pytest.raises(ConfigError, match=r"^.*keys\.toml has no key 'ffffffff'; see: tailwise keys list --keys .*$"):
        revoke_key(path, "ffffffff", now=NOW)


def test_keys_made_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    made = [
        threading.Thread(target=create_key, args=(path,), kwargs={"now": NOW, "scopes": ("read",)}) for _ in "123456"
    ]
    for thread in made:
        thread.start()
    for thread in made:
        thread.join()

    assert len(read_keys(path).key) == 6


def test_a_file_that_others_can_read_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "keys.toml"
    create_key(path, now=NOW, scopes=("read",))
    path.chmod(0o644)

    KeyRing(path)

    assert caplog.messages == [f"{path} can be read by other accounts of this machine: chmod 600 it"]
