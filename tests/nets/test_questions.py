"""Questions guess their tokens, and where a model runs never holds a secret."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tailwise.config import settings_of
from tailwise.errors import ConfigError
from tailwise.nets.questions import BackendConfig, Question, tokens_of


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("ftp://host/v1", "url must start with http:// or https:// and name a host"),
        ("http://", "url must start with http:// or https:// and name a host"),
        (
            "http://me:secret@host/v1",
            "url must hold no credentials and no query, since it is saved; name the key's key_env",
        ),
        (
            "http://host/v1?key=x",
            "url must hold no credentials and no query, since it is saved; name the key's key_env",
        ),
    ],
)
def test_an_address_that_is_none_or_holds_a_secret_is_refused(url: str, rule: str) -> None:
    with pytest.raises(ConfigError) as raised:
        settings_of(BackendConfig, {"url": url}, where="backend")

    assert str(raised.value) == f"backend: {rule}"


def test_there_is_no_place_for_a_key() -> None:
    with pytest.raises(ValidationError, match="key"):
        BackendConfig.model_validate({"key": "sk-1"})


def test_a_likelihood_reads_the_text_once_for_each_option() -> None:
    text, options = "x" * 30, ("y" * 6, "z" * 9)

    assert Question("continue", text, options=options).tokens == 2 * 10 + 2 + 3
    assert Question("choose", text, options=options).tokens == 10 + 2 + 3 + 1


@given(st.text(max_size=200), st.text(max_size=200))
def test_more_text_is_never_fewer_tokens(first: str, second: str) -> None:
    assert max(tokens_of(first), tokens_of(second)) <= tokens_of(first + second)
    assert tokens_of(first + second) <= tokens_of(first) + tokens_of(second)
