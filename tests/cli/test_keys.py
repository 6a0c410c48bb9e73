import time
from pathlib import Path

import pytest

from tailwise.cli import main
from tailwise.serve.keys import KeyRing, read_keys


def keys(file: Path, *words: str) -> int:
    return main(["keys", *words, "--keys", str(file)])


def test_a_key_lives_from_create_to_revoke(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "keys.toml"

    made = keys(file, "create", "--name", "shop", "--scopes", "read,write", "--rate", "50", "--daily", "1000")
    secret = capsys.readouterr().out.splitlines()[-1]
    key_id = secret.split("_")[1]
    listed = keys(file, "list")
    table = capsys.readouterr().out
    opened = KeyRing(file).find(secret, time.time())
    rotated = keys(file, "rotate", key_id, "--hours", "1")
    heir = capsys.readouterr().out.splitlines()[-1]
    revoked = keys(file, "revoke", key_id)

    assert [made, listed, rotated, revoked] == [0, 0, 0, 0]
    assert opened is not None
    assert table.split()[:7] == ["id", "name", "scopes", "tenant", "limits", "created", "expires"]
    assert f"{key_id}  shop  read,write  -       50/s, 1000/day" in table
    assert secret.split("_", 2)[2] not in table
    assert KeyRing(file).find(secret, time.time()) is None
    assert KeyRing(file).find(heir, time.time()) is not None


def test_an_ended_key_is_listed_as_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "keys.toml"
    keys(file, "create")
    keys(file, "revoke", read_keys(file).key[0].id)
    capsys.readouterr()

    keys(file, "list")

    assert capsys.readouterr().out.splitlines()[1].endswith("(over)")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["revoke"], "revoke needs the id of a key; see: tailwise keys list --keys {}"),
        (["list"], "{} cannot be read: No such file or directory; make it with: tailwise keys create"),
        (
            ["create", "--scopes", "root"],
            "the key: scopes.0 is 'root', but: Input should be 'read', 'write' or 'admin'",
        ),
        (["create", "--days", "0"], "days is 0, but it must be above 0"),
        (["create", "--days", "nan"], "days is nan, but it must be above 0"),
        (["create", "--burst", "5"], "burst is given without rate; how fast do requests come back? add --rate"),
        (["rotate", "ffffffff", "--hours", "-1"], "hours is -1, but it must be at least 0"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    file = tmp_path / "keys.toml"

    status = keys(file, *words)

    assert status == (1 if "cannot be read" in said or "the key:" in said else 2)  # 2: the command was asked wrongly
    assert capsys.readouterr().err == f"tailwise: {said.format(file)}\n"
