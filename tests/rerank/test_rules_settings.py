"""What a rule and a rules file may say, and what they hear when they say something else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tailwise.errors import ConfigError
from tailwise.fakes import DictFacts
from tailwise.rerank.rules import Rules, read_rules

EXAMPLE = Path(__file__).parents[2] / "pipelines" / "rules.toml"
FACTS = DictFacts(
    {"year": {"a": 1995.0}, "country": {"a": "us"}, "genres": {"a": "Drama"}, "vector": {"a": [0.0, 1.0]}}
)


def open_rules(*rules: dict[str, Any], file: str | None = None) -> Rules:
    return Rules.open(Rules.Config(rule=rules, file=file), FACTS, Path())  # type: ignore[arg-type]  # as from TOML


def test_rules_of_the_file_come_before_those_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text('[[rule]]\nkind = "cap"\ncolumn = "genres"\nmost = 2\n', encoding="utf-8")

    stage = open_rules({"kind": "cap", "name": "mine", "column": "country", "most": 1}, file=str(path))

    assert [rule.name for rule in stage.rules] == ["cap 1", "mine"]


def test_settings_survive_their_own_dump() -> None:
    config = Rules.Config(rule=read_rules(EXAMPLE))

    assert Rules.Config.model_validate(config.model_dump()) == config


WHERE = [{"column": "year", "op": "at_least", "value": 1990}]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"kind": "raise"}, "rule 'raise 1': kind is 'raise', but it must be one of filter, boost, bury, cap, pin"),
        (
            {"kind": "pin", "name": "top", "position": 0, "where": WHERE},
            "rule 'top': position is 0, but: Input should be greater than or equal to 1",
        ),
        (
            {"kind": "boost", "by": -1, "where": WHERE},
            "rule 'boost 1': by is -1, but: Input should be greater than 0",
        ),
        (
            {"kind": "filter", "name": "recent", "where": [{"column": "year", "op": "since"}]},
            (
                "rule 'recent': where.0.op is 'since', but: Input should be 'is', 'is_not', 'in', 'not_in', "
                "'at_least', 'at_most', 'contains' or 'missing'"
            ),
        ),
        (
            {"kind": "filter", "where": []},
            "rule 'filter 1': where is [], but: Tuple should have at least 1 item after validation, not 0",
        ),
        (
            {"kind": "cap", "column": "genres", "most": 1, "limit": 3},
            "rule 'cap 1': limit is not a setting; known: name, where, when, kind, column, most, within",
        ),
        (
            {"kind": "filter", "where": [{"column": "yeer", "op": "missing"}]},
            "rule 'filter 1': no column is called 'yeer'; did you mean year?",
        ),
        (
            {"kind": "cap", "column": "maker", "most": 1},
            "rule 'cap 1': no column is called 'maker'; known: country, genres, item_id, vector, year",
        ),
        (
            {"kind": "cap", "column": "vector", "most": 1},
            "rule 'cap 1': vector holds an array for each item, which rules cannot read",
        ),
        (
            {"kind": "filter", "where": [{"column": "country", "op": "at_least", "value": 3}]},
            "rule 'filter 1': country: at_least does not go with text; these do: is, is_not, in, not_in, missing",
        ),
        (
            {"kind": "filter", "where": [{"column": "item_id", "op": "is", "value": 12}]},
            "rule 'filter 1': item_id: text cannot be compared with 12.0",
        ),
    ],
)
def test_a_bad_rule_is_named(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        open_rules(rule)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"[[rule", "cannot be read: Expected ']]' at the end of an array declaration (at end of document)"),
        (b"\xff", "cannot be read: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, text: bytes | None, why: str) -> None:
    path = tmp_path / "rules.toml"
    if text is not None:
        path.write_bytes(text)

    with pytest.raises(ConfigError, match=f"^{re.escape(f'{path} {why}')}$"):
        open_rules(file=str(path))


def test_a_file_of_something_else_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text("[[stage]]\nname = 'mmr'\n", encoding="utf-8")
    message = f"{path}: stage is not a setting; known: rule"

    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        open_rules(file=str(path))
