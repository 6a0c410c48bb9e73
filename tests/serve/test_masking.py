import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise.serve.keys import create_key
from tailwise.serve.logs import Lines
from tailwise.serve.masking import depersonalised, masked

TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("X-API-Key: tw_0a1b2c3d_s3cr-t_x, then", "X-API-Key: tw_0a1b2c3d_***, then"),
        (f"authorization: Bearer {TOKEN}", "authorization: Bearer ***"),
        (f"got {TOKEN}!", "got ***!"),
        ("Authorization: basic dXNlcjpwYXNz", "Authorization: basic ***"),
        ("redis://:hunter2@host:6379/0 is away", "redis://:***@host:6379/0 is away"),
        ("rediss://ann:p%40ss@host/0", "rediss://ann:***@host/0"),
        ("http://127.0.0.1:8000/ (ctrl-c stops)", "http://127.0.0.1:8000/ (ctrl-c stops)"),
        ("a bearer of bad news", "a bearer of bad news"),
    ],
)
def test_secrets_go_and_the_rest_stays(text: str, wanted: str) -> None:
    assert masked(text) == wanted


@given(st.text(max_size=30), st.text(max_size=30))
def test_a_key_is_hidden_wherever_it_stands(before: str, after: str) -> None:
    secret = "tw_0a1b2c3d_" + "Ab-_9" * 8

    assert "Ab-_9" * 8 not in masked(f"{before} {secret} {after}")


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_line_of_the_log_holds_neither_secrets_nor_people(form: str, tmp_path: Path) -> None:
    key, secret = create_key(tmp_path / "keys.toml", now=0.0, scopes=("read",))
    error = ValueError(f"cannot read {secret} of Bearer {TOKEN}")
    record = logging.LogRecord("x", logging.ERROR, "x", 1, "failed: %s", (secret,), (ValueError, error, None))
    record.user_id, record.query, record.ms = "ann-of-green-gables", "how to leave", 3

    line = Lines(form).format(record)  # type: ignore[arg-type]  # one of the two forms

    assert secret not in line
    assert TOKEN not in line
    assert "ann-of" not in line
    assert "leave" not in line
    assert key.id in line
    assert "3" in line


def test_one_person_is_one_alias_and_others_are_others() -> None:
    ann, again, bob = (depersonalised({"user_id": name})["user_id"] for name in ("ann", "ann", "bob"))

    assert ann == again != bob
