"""
Whitening: make the directions of an embedding space count alike.

Vectors of a language model share a few strong directions, so that every text looks a little like every other.
Whitening centres them and gives each direction the same variance; what is left tells items apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tailwise.artifacts import load_arrays, save_arrays
from tailwise.errors import ArtifactError, ConfigError, DataError, ShapeError
from tailwise.types import Floats

FILE = "whitening.safetensors"
BLOCK = 8192
"""Rows that are widened to float64 at a time."""
NOISE = 1e-8
"""Directions with less than this share of the largest variance are rounding errors of float32."""


@dataclass(frozen=True)
class Whitening:
    """
    A linear map to whitened, shorter vectors. A row of zeros means "missing": it stays zero and teaches nothing.

    With ``W`` the top eigenvectors of the covariance and ``v`` their variances, the map is ``W / sqrt(v)``: PCA
    whitening, whose inner products are those of ZCA within the kept directions. At full width (dim = D) it is turned
    back by ``Wᵀ``, which is ZCA itself: the whitened space nearest to the original.

    Source: Kessy, Lewin & Strimmer, The American Statistician 2018, doi:10.1080/00031305.2016.1277159; for
    recommendation: Zhang et al. (WhitenRec), ICDE 2024.
    """

    mean: Floats  # (D,)
    matrix: Floats  # (D, dim)

    @property
    def dim(self) -> int:
        """Width after whitening."""
        return int(self.matrix.shape[1])

    @classmethod
    def fit(cls, vectors: Floats, *, dim: int, shrink: float = 0.01) -> Self:
        """
        Learn the map from the rows that are not zero.

        Args:
            vectors: (N, D) float, finite.
            dim: Width wanted; lowered to what the rows support (at most N - 1 directions vary). When no row differs
                from another the width is 1, and every vector maps to zero, which is "missing".
            shrink: Ridge in [0, 1]: variances are drawn towards their mean by this share, so that weak directions
                are not blown up. 0 whitens exactly, 1 only centres and turns.

        Raises:
            ShapeError: ``vectors`` is not two-dimensional.
            DataError: A value is NaN or infinite.
            ConfigError: ``dim`` or ``shrink`` is out of range.

        Cost: O(N D² + D³) time, O(D²) memory beside the vectors.
        """
        if dim < 1:
            raise ConfigError(f"dim is {dim}, but it must be at least 1")
        if not 0 <= shrink <= 1:
            raise ConfigError(f"shrink is {shrink}, but it must be between 0 and 1")
        _check(vectors)
        present = vectors[vectors.any(axis=1)]
        mean, covariance = _moments(present)
        variances, directions = np.linalg.eigh(covariance)  # ascending
        variances, directions = variances[::-1], directions[:, ::-1]
        # Float32 copies of one and the same vector vary a little around their mean; that is not a direction.
        if variances[0] <= 1e-12 * (mean @ mean):
            return cls(mean.astype(np.float32), np.zeros((vectors.shape[1], 1), np.float32))
        keep = min(dim, int((variances > NOISE * variances[0]).sum()))
        drawn = (1 - shrink) * variances[:keep] + shrink * variances.mean()
        matrix = directions[:, :keep] / np.sqrt(drawn)  # (D, keep)
        if keep == vectors.shape[1]:
            matrix = matrix @ directions.T
        return cls(mean.astype(np.float32), matrix.astype(np.float32))

    def transform(self, vectors: Floats) -> Floats:
        """
        (N, D) to (N, dim) float32 rows of unit length; zero rows, and rows equal to the mean, give zero rows.

        Raises:
            ShapeError: The width is not the one that was fitted.
            DataError: A value is NaN or infinite.
        """
        projected = self.project(vectors)
        norms = np.linalg.norm(projected, axis=1, keepdims=True)
        unit: Floats = np.divide(projected, norms, out=np.zeros_like(projected), where=norms > 0)
        return unit

    def project(self, vectors: Floats) -> Floats:
        """``transform`` before rows are brought to unit length: the covariance of the fitted rows is the identity."""
        _check(vectors)
        if vectors.shape[1] != len(self.mean):
            raise ShapeError(f"vectors has {vectors.shape[1]} columns, but whitening was fitted on {len(self.mean)}")
        out: Floats = np.subtract(vectors, self.mean, dtype=np.float32) @ self.matrix  # (N, dim)
        out[~vectors.any(axis=1)] = 0
        return out

    def save(self, folder: Path) -> None:
        """Write the map into ``folder``."""
        save_arrays(folder / FILE, mean=self.mean, matrix=self.matrix)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """
        The map that ``save`` wrote.

        Raises:
            ArtifactError: The file is missing or damaged.
        """
        arrays = load_arrays(folder / FILE)
        if arrays.keys() != {"mean", "matrix"}:
            raise ArtifactError(f"{folder / FILE} holds {', '.join(sorted(arrays))}, not mean and matrix; fit again")
        return cls(arrays["mean"], arrays["matrix"])


def _check(vectors: Floats) -> None:
    if vectors.ndim != 2:
        raise ShapeError(f"vectors has {vectors.ndim} dimensions, but it must have 2: one row an item")
    good = np.isfinite(vectors).all(axis=1)
    if not good.all():
        row = int(good.argmin())
        raise DataError(f"vectors has a NaN or an infinity in row {row}; every value must be finite, or the row zero")


def _moments(rows: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean (D,) and covariance (D, D) of (N, D) rows, in float64 without a float64 copy of all of them."""
    count, width = rows.shape
    if not count:
        return np.zeros(width), np.zeros((width, width))
    mean = rows.mean(axis=0, dtype=np.float64)
    covariance = np.zeros((width, width))
    for start in range(0, count, BLOCK):
        centred = rows[start : start + BLOCK] - mean  # float64
        covariance += centred.T @ centred
    return mean, covariance / count
