"""The points of a landmark fit with their constant products, made once for a model and a list of surface points."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Float32, Int, Shaped

from geometry.morphable_model import LinearRows


def row_by_row(rows: Shaped[np.ndarray, "n k"], matrix: Shaped[np.ndarray, "k m"]) -> Shaped[np.ndarray, "n m"]:
    """rows · matrix, each row by itself: BLAS rounds a row otherwise with every number of rows beside it."""
    return (rows[:, None] @ matrix)[:, 0]


@dataclass(frozen=True)
class FitPoints:
    """A bank of surface points: the landmarks at their fixed places first, then places that they may slide to.

    centroid   of the landmarks at their fixed places, in the mean face (mm): the origin of everything in a fit
    mean       (c 3) the points of the mean face (mm) about the centroid
    design     (3c k) millimetres per standard deviation of each coefficient, all x rows first
    sliding    which landmarks may be anywhere in the bank; all others stay at their fixed places

    Products of several faces are as many products of one (:func:`row_by_row`): a fit's last bits, which a minimum that is
    flat makes visible, do not depend on the faces beside it.
    """

    centroid: Float[np.ndarray, "3"]
    mean: Float[np.ndarray, "c 3"]
    design: Float[np.ndarray, "c3 k"]
    n_landmarks: int
    sliding: tuple[int, ...]

    @classmethod
    def of(
        cls,
        rows: LinearRows,
        stddevs: Float[np.ndarray, " k"],
        *,
        n_landmarks: int | None = None,
        sliding: Iterable[int] | None = None,
    ) -> "FitPoints":
        """From a model's rows (coefficients in file scaling) and the stddevs of identity, then expression.

        `sliding` as in the class; None: all landmarks.
        """
        n_landmarks = len(rows.mean) if n_landmarks is None else n_landmarks
        sliding = range(n_landmarks) if sliding is None else sliding
        centroid = rows.mean[:n_landmarks].mean(axis=0)
        basis = np.concatenate([rows.identity, rows.expression], axis=-1) * stddevs  # (c 3 k)
        design = np.ascontiguousarray(basis.transpose(1, 0, 2)).reshape(-1, len(stddevs))
        return cls(centroid, rows.mean - centroid, design, n_landmarks, tuple(sorted(sliding)))

    @property
    def n_modes(self) -> int:
        """How many coefficients there are."""
        return self.design.shape[1]

    @cached_property
    def radius(self) -> float:
        """Root mean square distance of the mean landmarks from their centroid (mm)."""
        return float(np.sqrt((self.mean[: self.n_landmarks] ** 2).sum(axis=1).mean()))

    @cached_property
    def spread(self) -> Float[np.ndarray, " c"]:
        """The variance of each point over the model's faces (mm², sum of the three axes)."""
        return (self.design**2).sum(axis=1).reshape(3, -1).sum(axis=0)

    @cached_property
    def gram_blocks(self) -> Float[np.ndarray, "9 cc"]:
        """G = A·Aᵀ as nine flat (c c) blocks, one for each pair of axes."""
        c = len(self.mean)
        gram = (self.design @ self.design.T).reshape(3, c, 3, c)
        return np.ascontiguousarray(gram.transpose(0, 2, 1, 3)).reshape(9, c * c)

    @cached_property
    def gram_blocks_32(self) -> Float32[np.ndarray, "9 cc"]:
        """The same in single precision."""
        return self.gram_blocks.astype(np.float32)

    @cached_property
    def own_gram_blocks(self) -> Float[np.ndarray, "9 pp"]:
        """The blocks of the landmarks alone, at their fixed places."""
        c, p = len(self.mean), self.n_landmarks
        if p == c:
            return self.gram_blocks
        return np.ascontiguousarray(self.gram_blocks.reshape(9, c, c)[:, :p, :p]).reshape(9, p * p)

    @cached_property
    def own_gram_blocks_32(self) -> Float32[np.ndarray, "9 pp"]:
        """The same in single precision."""
        return self.own_gram_blocks.astype(np.float32)

    def mean_at(self, index: Int[np.ndarray, "n p"] | None) -> Float[np.ndarray, "... 3 p"]:
        """The mean points (3 p), or (n 3 p) where each face has points of its own."""
        return (
            self.mean[: self.n_landmarks].T
            if index is None
            else np.ascontiguousarray(self.mean[index].transpose(0, 2, 1))
        )

    def shapes(
        self, coefficients: Float[np.ndarray, "n k"], index: Int[np.ndarray, "n p"] | None
    ) -> Float[np.ndarray, "n 3 p"]:
        """The landmarks of n faces (mm, about the centroid), at their fixed places or at those of `index`."""
        return self.offsets(coefficients, index) + self.mean_at(index)

    def offsets(
        self, coefficients: Float[np.ndarray, "n k"], index: Int[np.ndarray, "n p"] | None
    ) -> Float[np.ndarray, "n 3 p"]:
        """A·c: how far the landmarks lie from those of the mean face."""
        n = len(coefficients)
        offsets = row_by_row(coefficients, self._own_design.T).reshape(n, 3, self.n_landmarks)
        if index is not None:
            sliding = list(self.sliding)
            elsewhere = self._by_point[index[:, sliding]].reshape(n, -1, self.n_modes)  # (n l·3 k)
            offsets[:, :, sliding] = (elsewhere @ coefficients[:, :, None]).reshape(n, -1, 3).transpose(0, 2, 1)
        return offsets

    def onto_modes(
        self, on_points: Float[np.ndarray, "n 3 p"], index: Int[np.ndarray, "n p"] | None
    ) -> Float[np.ndarray, "n k"]:
        """Aᵀ·y: vectors at the points, carried to the coefficients."""
        n = len(on_points)
        if index is None:
            return row_by_row(on_points.reshape(n, -1), self._own_design)
        sliding = list(self.sliding)
        elsewhere = self._by_point[index[:, sliding]].reshape(n, -1, self.n_modes)
        there = on_points[:, :, sliding].transpose(0, 2, 1).reshape(n, 1, -1)
        own = on_points.copy()
        own[:, :, sliding] = 0.0
        return row_by_row(own.reshape(n, -1), self._own_design) + (there @ elsewhere)[:, 0]

    @cached_property
    def _own_design(self) -> np.ndarray:
        """(3p k) the design of the landmarks at their fixed places."""
        own = self.design.reshape(3, -1, self.n_modes)[:, : self.n_landmarks]
        return np.ascontiguousarray(own).reshape(-1, self.n_modes)

    @cached_property
    def _by_point(self) -> np.ndarray:
        """(c 3 k) the design point by point."""
        return np.ascontiguousarray(self.design.reshape(3, -1, self.n_modes).transpose(1, 0, 2))

    def basis(
        self, rows: Float[np.ndarray, "n 2 3 p"], index: Int[np.ndarray, "n p"] | None
    ) -> Float[np.ndarray, "n 2*p k"]:
        """B = rows · A of every face."""
        n, _, _, p = rows.shape
        design = self.design.reshape(3, -1, self.n_modes)
        design = (
            design[None, :, : self.n_landmarks] if index is None else design[:, index].transpose(1, 0, 2, 3)
        )  # (n|1 3 p k)
        basis = rows[:, :, 0, :, None] * design[:, None, 0]
        basis += rows[:, :, 1, :, None] * design[:, None, 1]
        basis += rows[:, :, 2, :, None] * design[:, None, 2]
        return basis.reshape(n, 2 * p, -1)
