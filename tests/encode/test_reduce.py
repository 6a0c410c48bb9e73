from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.artifacts import save_arrays
from tailwise.encode.reduce import FILE, Whitening
from tailwise.errors import ArtifactError, ConfigError, DataError, ShapeError
from tailwise.types import Floats


def skewed(rows: int, width: int, seed: int = 0) -> Floats:
    """Unit rows that share a direction and vary most in a few, as texts of a language model do."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(width, width)))[0]
    vectors = (rng.normal(size=(rows, width)) * 0.8 ** np.arange(width) + 2.0 * (np.arange(width) == 0)) @ turn
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def zca(vectors: Floats, ridge: float) -> np.ndarray:
    """Whitening by the book: (X - mean) C^(-1/2), through the singular values of the data."""
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    _, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    variances = sizes**2 / len(vectors)
    variances = (1 - ridge) * variances + ridge * variances.mean()
    return centred @ (directions.T / np.sqrt(variances)) @ directions


def mean_cosine(vectors: Floats) -> float:
    cosines = vectors @ vectors.T
    return float(cosines[~np.eye(len(vectors), dtype=bool)].mean())


def test_four_points_of_a_stretched_square_become_a_square() -> None:
    points = np.array([[9, 1], [9, -1], [1, 1], [1, -1]], np.float32)  # mean (5, 0), variances 16 and 1

    whitened = Whitening.fit(points, dim=2, shrink=0).project(points)

    np.testing.assert_allclose(whitened, [[1, 1], [1, -1], [-1, 1], [-1, -1]], atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(40, 90), width=st.integers(2, 12), dim=st.integers(1, 12), seed=st.integers(0, 99))
def test_the_covariance_is_the_identity_before_rows_are_normalised(rows: int, width: int, dim: int, seed: int) -> None:
    vectors = skewed(rows, width, seed)

    whitening = Whitening.fit(vectors, dim=dim, shrink=0)

    assert whitening.dim == min(dim, width)
    covariance = np.cov(whitening.project(vectors).T, bias=True)
    np.testing.assert_allclose(covariance, np.eye(whitening.dim).squeeze(), atol=5e-3)


@pytest.mark.parametrize("shrink", [0, 0.01, 0.5])
def test_full_width_is_zca_by_the_book(shrink: float) -> None:
    vectors = skewed(200, 8)

    whitened = Whitening.fit(vectors, dim=8, shrink=shrink).project(vectors)

    np.testing.assert_allclose(whitened, zca(vectors, shrink), atol=2e-3)


def test_fewer_directions_keep_the_products_of_the_widest_ones() -> None:
    vectors = skewed(200, 8)
    centred = vectors - vectors.mean(axis=0)
    sizes, directions = np.linalg.svd(centred, full_matrices=False)[1:]
    expected = centred @ directions[:3].T / (sizes[:3] / np.sqrt(200))

    whitened = Whitening.fit(vectors, dim=3, shrink=0).project(vectors)

    np.testing.assert_allclose(whitened @ whitened.T, expected @ expected.T, atol=2e-3)


def test_texts_look_less_alike_after_whitening() -> None:
    vectors = skewed(300, 16)

    whitened = Whitening.fit(vectors, dim=16).transform(vectors)

    assert mean_cosine(vectors) > 0.3
    assert abs(mean_cosine(whitened)) < 0.02


def test_rows_have_unit_length_and_missing_ones_stay_zero_and_teach_nothing() -> None:
    vectors = skewed(50, 6)
    holes = np.insert(vectors, [0, 25, 50], 0, axis=0).astype(np.float32)

    with_holes, without = (Whitening.fit(some, dim=4) for some in (holes, vectors))

    np.testing.assert_array_equal(with_holes.matrix, without.matrix)
    whitened = with_holes.transform(holes)
    assert whitened.dtype == np.float32
    norms = np.linalg.norm(whitened, axis=1)
    np.testing.assert_allclose(norms, np.where(holes.any(axis=1), 1, 0), atol=1e-6)


def test_fewer_rows_than_columns_lower_the_width() -> None:
    vectors = skewed(5, 32)

    whitening = Whitening.fit(vectors, dim=16, shrink=0)

    assert whitening.dim == 4  # five points span four directions around their mean
    np.testing.assert_allclose(np.cov(whitening.project(vectors).T, bias=True), np.eye(4), atol=5e-3)


@pytest.mark.parametrize("rows", [0, 1, 7])
def test_vectors_that_do_not_differ_become_missing(rows: int) -> None:
    vectors = np.tile(skewed(1, 6), (rows, 1))

    whitening = Whitening.fit(vectors, dim=4)

    assert whitening.dim == 1
    assert not whitening.transform(vectors).any()


def test_rounding_errors_are_no_differences() -> None:
    vectors = np.tile(skewed(1, 6), (7, 1))
    vectors[2, 3] = np.nextafter(vectors[2, 3], np.float32(1))

    assert not Whitening.fit(vectors, dim=4, shrink=0).transform(vectors).any()


def test_items_that_are_all_missing_stay_missing() -> None:
    vectors = np.zeros((3, 5), np.float32)

    assert not Whitening.fit(vectors, dim=2).transform(vectors).any()


def test_a_new_item_is_mapped_as_it_would_have_been() -> None:
    vectors = skewed(60, 6)

    whitening = Whitening.fit(vectors, dim=4)

    np.testing.assert_allclose(whitening.transform(vectors[7:8])[0], whitening.transform(vectors)[7], atol=1e-5)


def test_a_saved_map_is_the_same_map(tmp_path: Path) -> None:
    whitening = Whitening.fit(skewed(60, 6), dim=4)

    whitening.save(tmp_path)

    opened = Whitening.open(tmp_path)
    np.testing.assert_array_equal(opened.mean, whitening.mean)
    np.testing.assert_array_equal(opened.matrix, whitening.matrix)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    save_arrays(tmp_path / FILE, mean=np.zeros(3, np.float32))

    with pytest.raises(ArtifactError, match=r"^.*whitening\.safetensors holds mean, not mean and matrix; fit again$"):
        Whitening.open(tmp_path)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_value_that_is_no_number_is_refused_with_its_row(bad: float) -> None:
    vectors = skewed(5, 3)
    whitening = Whitening.fit(vectors, dim=2)
    vectors[3, 1] = bad
    message = r"^vectors has a NaN or an infinity in row 3; every value must be finite, or the row zero$"

    with pytest.raises(DataError, match=message):
        Whitening.fit(vectors, dim=2)
    with pytest.raises(DataError, match=message):
        whitening.transform(vectors)


def test_arrays_of_another_shape_are_refused() -> None:
    whitening = Whitening.fit(skewed(9, 4), dim=2)

    with pytest.raises(ShapeError, match=r"^vectors has 3 columns, but whitening was fitted on 4$"):
        whitening.transform(np.ones((2, 3), np.float32))
    with pytest.raises(ShapeError, match=r"^vectors has 1 dimensions, but it must have 2: one row an item$"):
        Whitening.fit(np.ones(3, np.float32), dim=2)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^dim is 0, but it must be at least 1$"):
        Whitening.fit(skewed(9, 4), dim=0)
    with pytest.raises(ConfigError, match=r"^shrink is 2, but it must be between 0 and 1$"):
        Whitening.fit(skewed(9, 4), dim=2, shrink=2)
