from __future__ import annotations

import logging
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.encode.cache import BLOCK, EmbeddingCache, encode_cached, fingerprint_of, key_of
from tailwise.fakes import HashEncoder
from tailwise.types import Floats


@dataclass
class Counting:
    """A hashing encoder that remembers what it was asked."""

    fingerprint: str = "counting"
    dim: int = 16
    asked: list[str] = field(default_factory=list)

    def encode(self, texts: Sequence[str]) -> Floats:
        self.asked += texts
        return HashEncoder(self.dim).encode(texts)


@pytest.fixture
def cache(tmp_path: Path) -> EmbeddingCache:
    return EmbeddingCache(tmp_path / "deep" / "embeddings.sqlite")


def file_of(cache: EmbeddingCache) -> Path:
    return cache._path


def test_a_second_run_embeds_only_what_changed(cache: EmbeddingCache) -> None:
    encode_cached(Counting(), ["a", "b", "c"], cache)
    encoder = Counting()

    vectors, fresh = encode_cached(encoder, ["c", "new", "a"], cache)

    assert (encoder.asked, fresh) == (["new"], 1)
    np.testing.assert_array_equal(vectors, HashEncoder(16).encode(["c", "new", "a"]))


def test_the_same_text_is_embedded_once(cache: EmbeddingCache) -> None:
    encoder = Counting()

    vectors, fresh = encode_cached(encoder, ["x y", "", "x y", ""], cache)

    assert (encoder.asked, fresh) == (["x y", ""], 2)
    np.testing.assert_array_equal(vectors, HashEncoder(16).encode(["x y", "", "x y", ""]))


@settings(max_examples=25, deadline=None)
@given(runs=st.lists(st.lists(st.text(max_size=3), max_size=8), min_size=1, max_size=4))
def test_cached_vectors_are_those_of_the_encoder(
    tmp_path_factory: pytest.TempPathFactory, runs: list[list[str]]
) -> None:
    cache = EmbeddingCache(tmp_path_factory.mktemp("cache") / "e.sqlite")
    known: set[str] = set()
    for texts in runs:
        vectors, fresh = encode_cached(Counting(), texts, cache)

        np.testing.assert_array_equal(vectors, HashEncoder(16).encode(texts))
        assert fresh == len(set(texts) - known)
        known |= set(texts)


def test_encoders_do_not_share_vectors(cache: EmbeddingCache) -> None:
    encode_cached(Counting("one"), ["a"], cache)

    _, fresh = encode_cached(Counting("other"), ["a"], cache)

    assert fresh == 1
    assert fingerprint_of(HashEncoder(8)) != fingerprint_of(HashEncoder(16))
    assert key_of("ab", "c") != key_of("a", "bc")


def test_progress_counts_what_is_known_and_an_interrupted_run_keeps_its_blocks(cache: EmbeddingCache) -> None:
    texts = [f"text {n}" for n in range(BLOCK + 5)]
    encode_cached(Counting(), texts[:3], cache)
    seen: list[tuple[int, int]] = []

    def stop_after_one(done: int, total: int) -> None:
        seen.append((done, total))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_cached(Counting(), texts, cache, report=stop_after_one)

    assert seen == [(BLOCK + 3, BLOCK + 5)]
    assert encode_cached(Counting(), texts, cache)[1] == 2


def test_without_a_cache_everything_is_fresh() -> None:
    vectors, fresh = encode_cached(Counting(), ["a", "a", "b"], None)

    assert (vectors.shape, fresh) == ((3, 16), 2)


def test_no_texts_give_no_rows(cache: EmbeddingCache) -> None:
    vectors, fresh = encode_cached(Counting(), [], cache)

    assert (vectors.shape, fresh) == ((0, 16), 0)


def test_a_damaged_file_is_thrown_away_and_made_again(cache: EmbeddingCache, caplog: pytest.LogCaptureFixture) -> None:
    encode_cached(Counting(), ["a"], cache)
    file_of(cache).write_bytes(b"not a database, but long enough to look like one" * 100)

    _, fresh = encode_cached(Counting(), ["a"], cache)

    assert fresh == 1
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert caplog.messages[0].startswith("embedding cache is damaged and thrown away: path=")
    assert encode_cached(Counting(), ["a"], cache)[1] == 0


def test_a_vector_of_another_width_is_made_again(cache: EmbeddingCache) -> None:
    encode_cached(Counting(dim=16), ["a"], cache)

    vectors, fresh = encode_cached(Counting(dim=8), ["a"], cache)

    assert (vectors.shape, fresh) == ((1, 8), 1)


def test_a_folder_that_cannot_be_made_goes_on_without_a_cache(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")

    vectors, fresh = encode_cached(Counting(), ["a"], EmbeddingCache(tmp_path / "file" / "embeddings.sqlite"))

    assert (vectors.shape, fresh) == ((1, 16), 1)
    assert all(message.startswith("embeddings are not cached: path=") for message in caplog.messages)
    assert len(caplog.messages) == 2


def test_a_full_disk_goes_on_without_a_cache_and_loses_nothing(
    cache: EmbeddingCache, caplog: pytest.LogCaptureFixture
) -> None:
    encode_cached(Counting(), ["kept"], cache)
    texts = [f"text {n}" for n in range(BLOCK)]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_of(cache).stat().st_size, hard))
    try:
        vectors, fresh = encode_cached(Counting(), texts, cache)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    np.testing.assert_array_equal(vectors, HashEncoder(16).encode(texts))
    assert fresh == BLOCK
    assert caplog.messages[0].startswith("embeddings are not cached: path=")
    assert encode_cached(Counting(), ["kept"], cache)[1] == 0


FILL = """
import sys
from pathlib import Path
from tailwise.encode.cache import EmbeddingCache, encode_cached
from tailwise.fakes import HashEncoder

for start in range(0, 1200, 300):
    encode_cached(HashEncoder(16), [f"text {n}" for n in range(start, start + 450)], EmbeddingCache(Path(sys.argv[1])))
"""


def test_processes_share_a_cache(cache: EmbeddingCache) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", FILL, str(file_of(cache))]

    both = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(2)]

    assert [process.communicate()[1] for process in both] == ["", ""]
    assert encode_cached(HashEncoder(16), [f"text {n}" for n in range(1350)], cache)[1] == 0
