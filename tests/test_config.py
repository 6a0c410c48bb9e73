"""Pipelines as data: what is wrong is said in one line, and what is written is read back."""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.config import Closed, EncodeConfig, PipelineConfig, Settings, Step
from tailwise.errors import ConfigError

KNOWN = "encode, retrieve, stage, exclude_seen, max_history, tail_cut, context, context_dropped, track, tune"


def read(folder: Path, text: str) -> PipelineConfig:
    path = folder / "p.toml"
    path.write_text(text, encoding="utf-8")
    return PipelineConfig.read(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", f"x is not a setting; known: {KNOWN}"),
        ("tail_cut = 1.0", "tail_cut is 1.0, but: Input should be less than 1"),
        ("tail_cut = nan", "tail_cut is nan, but: Input should be less than 1"),
        ("max_history = 0", "max_history is 0, but: Input should be greater than or equal to 1"),
        ("exclude_seen = 3", "exclude_seen is 3, but: Input should be a valid boolean, unable to interpret input"),
        (
            "[encode]\nfoo = 1",
            "encode.foo is not a setting; known: model, layers, int8, columns, max_tokens, whiten_dim",
        ),
        ("[encode]\nmodel = 3", "encode.model is 3, but: Input should be a valid string"),
        ('stage = ["mmr"]', "stage.0 is 'mmr', but: Input should be a valid dictionary or instance of Step"),
        ("[[stage]]\nkeep = 3", "stage.0.name is missing"),
        (
            '[[retrieve]]\nname = "ease"\nkeep = 3',
            "retrieve: ease has keep or deadline_ms, but those are for stages",
        ),
        ('[[stage]]\nname = "a"\nkeep = 0', "stage.0.keep is 0, but: Input should be greater than or equal to 1"),
        (
            '[[stage]]\nname = "a"\ndeadline_ms = -1',
            "stage.0.deadline_ms is -1, but: Input should be greater than 0",
        ),
        (
            '[[stage]]\nname = "a"\ndeadline_ms = inf',
            "stage.0.deadline_ms is inf, but: Input should be less than or equal to 3600000",
        ),
        (
            '[[retrieve]]\nname = "a"\nk = "many"',
            "retrieve.0.k is 'many', but: Input should be a valid integer, unable to parse string as an integer",
        ),
        ('[retrieve]\nname = "a"', "retrieve is {'name': 'a'}, but: Input should be a valid tuple"),
    ],
)
def test_a_wrong_setting_is_named_with_file_value_and_rule(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)

    assert str(caught.value) == f"{tmp_path}/p.toml: {message}"


def test_a_long_value_is_cut(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, f"tail_cut = '{'x' * 500}'")

    assert len(str(caught.value)) < len(str(tmp_path)) + 200
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["= 3", "[[stage]", 'name = "a\nb"', 'a = "\\ud800"'])
def test_what_is_not_toml_is_told_in_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"^\S+/p\.toml is not TOML: .+ \(at line 1, column \d+\)$"):
        read(tmp_path, text)


def test_bytes_that_are_not_utf8_are_not_toml(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_bytes(b"\xff")

    with pytest.raises(ConfigError, match=r"^\S+/p\.toml is not TOML: 'utf-8' codec can't decode byte 0xff .+$"):
        PipelineConfig.read(tmp_path / "p.toml")


def test_a_missing_file_and_a_folder_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^\S+/none cannot be read: No such file or directory$"):
        PipelineConfig.read(tmp_path / "none")
    with pytest.raises(ConfigError, match=r"^\S+ cannot be read: Is a directory$"):
        PipelineConfig.read(tmp_path)


def test_a_step_gathers_what_is_not_its_own(tmp_path: Path) -> None:
    found = read(tmp_path, '[[stage]]\nname = "mmr"\nkeep = 5\ntrade_off = 0.5\n[stage.deep]\nx = [1]')

    (step,) = found.stage
    assert (step.name, step.keep, step.k) == ("mmr", 5, 200)
    assert step.settings == {"trade_off": 0.5, "deep": {"x": [1]}}
    assert step.table() == {"name": "mmr", "keep": 5, "trade_off": 0.5, "deep": {"x": [1]}}


def test_an_empty_file_is_the_default_pipeline(tmp_path: Path) -> None:
    assert read(tmp_path, "") == PipelineConfig()


def test_a_pipeline_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        PipelineConfig().max_history = 3


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1, max_size=5), inner, max_size=3),
    max_leaves=6,
)
OWN = set(Step.model_fields)
STEPS = st.builds(
    Step,
    name=st.text(min_size=1, max_size=8),
    keep=st.none() | st.integers(1, 50),
    deadline_ms=st.none() | st.floats(0.5, 1e6),
    k=st.integers(1, 500),
    settings=st.dictionaries(st.text(min_size=1, max_size=8).filter(lambda name: name not in OWN), VALUES, max_size=3),
)
SOURCES = STEPS.map(lambda step: step.model_copy(update={"keep": None, "deadline_ms": None}))
PIPELINES = st.builds(
    PipelineConfig,
    encode=st.builds(
        EncodeConfig,
        model=st.text(max_size=10),
        columns=st.lists(st.text(max_size=4), max_size=3).map(tuple),
        max_tokens=st.integers(8, 8192),
        whiten_dim=st.integers(1, 999),
    ),
    retrieve=st.lists(SOURCES, max_size=3).map(tuple),
    stage=st.lists(STEPS, max_size=3).map(tuple),
    exclude_seen=st.none() | st.booleans(),
    max_history=st.integers(1, 999),
    tail_cut=st.floats(0.001, 0.999),
)


@given(PIPELINES)
@settings(max_examples=60)
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, pipeline: PipelineConfig) -> None:
    path = tmp_path_factory.mktemp("round") / "p.toml"

    pipeline.write(path)

    assert PipelineConfig.read(path) == pipeline


def test_the_environment_gives_cache_and_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILWISE_CACHE", "/somewhere")
    monkeypatch.setenv("TAILWISE_THREADS", "3")

    assert Settings.from_environment() == Settings(cache=Path("/somewhere"), threads=3)


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TAILWISE_CACHE", "TAILWISE_THREADS", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, "")

    found = Settings.from_environment()

    assert found.cache == Path.home() / ".cache" / "tailwise"
    assert found.threads == len(os.sched_getaffinity(0))


def test_the_cache_lies_where_the_system_wants_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TAILWISE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")

    assert Settings.from_environment().cache == Path("/caches/tailwise")


def test_a_wrong_number_of_threads_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILWISE_THREADS", "0")

    with pytest.raises(ConfigError, match=r"^environment: threads is '0', but: Input should be greater than or equal"):
        Settings.from_environment()


def test_a_table_that_names_one_setting_leaves_the_others_of_its_owner_as_they_are() -> None:
    class Inner(Closed):
        one: int = 1
        two: int = 2
        three: int = 3

    class Outer(Closed):
        inner: Inner = Inner(two=20)

    assert Outer.model_validate({"inner": {"one": 7}}).inner == Inner(one=7, two=20)
    assert Outer.model_validate({"inner": {"two": 9}}).inner == Inner(two=9)
    assert Outer.model_validate({"inner": {}}) == Outer()
    assert Outer(inner=Inner(one=7)).inner.two == 2  # whoever gives it whole means it
    assert Outer.model_validate({"inner": {"one": 7}}).inner.model_fields_set == {"one", "two"}
