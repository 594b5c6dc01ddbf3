"""What every model file must fulfil, whatever its format: the checks that the readers share, and their error.

A file that fails is refused with its name, the value that is wrong, and what to do; nothing is guessed silently.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Int32, Shaped

from geometry import landmarks as lm
from geometry.mesh import signed_volume

# How far a vertex moves, root mean square, at one standard deviation of the strongest identity mode: 3.8 mm in BFM
# 2009. Variances in place of standard deviations give kilometres, and the other way round a tenth of a millimetre.
_IDENTITY_SPREAD_MM = (0.4, 40.0)
_HEIGHT_MM = (100.0, 500.0)


class ModelFileError(ValueError):
    """A model file that is not what it should be; the message names the file, the value and the remedy."""


@dataclass(frozen=True, slots=True)
class LinearPart:
    """One linear part of a model as its file gives it: ``mean + coefficients @ basis``, in the file's unit."""

    file: str
    mean: Float[np.ndarray, "v3"]
    basis: Float[np.ndarray, "k v3"]
    stddevs: Float[np.ndarray, "k"]

    @property
    def n_vertices(self) -> int:
        """How many vertices the part moves."""
        return len(self.mean) // 3

    def at_vertices(self, indices: Int[np.ndarray, "n"]) -> "LinearPart":
        """The same part for some of the vertices alone."""
        basis = self.basis.reshape(len(self.basis), -1, 3)[:, indices].reshape(len(self.basis), -1)
        return LinearPart(self.file, self.mean.reshape(-1, 3)[indices].ravel(), basis, self.stddevs)


def check_part_shapes(
    file: str, names: tuple[str, str, str], mean: tuple[int, ...], basis: tuple[int, ...], stddevs: tuple[int, ...]
) -> None:
    """Refuse shapes that do not belong together; `names` are the file's own for mean, basis and spread."""
    rows, modes = int(np.prod(mean)), int(np.prod(stddevs))
    if rows == 0 or rows % 3 or max(mean) != rows:
        raise ModelFileError(
            f"{file}: {names[0]} has shape {mean}; it must be one column of x, y, z for every vertex, so 3N × 1"
        )
    if basis == (modes, rows) and modes != rows:
        raise ModelFileError(
            f"{file}: {names[1]} is transposed, {basis} instead of {(rows, modes)}: one column for each mode. "
            f"Transpose it, or take the published file"
        )
    if len(basis) != 2 or basis[0] != rows:
        raise ModelFileError(
            f"{file}: {names[1]} has shape {basis} but {names[0]} has {rows // 3} vertices, so {rows} rows are "
            "expected: the two come from different models or cuts"
        )
    if modes != basis[1] or max(stddevs) != modes:
        raise ModelFileError(f"{file}: {names[2]} has shape {stddevs} but {names[1]} has {basis[1]} modes (columns)")


def checked_part(
    file: str,
    names: tuple[str, str, str],
    mean: Shaped[np.ndarray, "..."],
    basis: Shaped[np.ndarray, "..."],
    stddevs: Shaped[np.ndarray, "..."],
) -> LinearPart:
    """A :class:`LinearPart` of arrays as files store them (basis 3V × K), after checks of shape and of every number."""
    check_part_shapes(file, names, mean.shape, basis.shape, stddevs.shape)
    for name, array in zip(names, (mean, basis, stddevs), strict=True):
        if array.dtype.kind not in "fiu":
            raise ModelFileError(f"{file}: {name} holds {array.dtype}, not numbers")
        if not np.isfinite(array).all():
            count = int((~np.isfinite(array)).sum())
            raise ModelFileError(f"{file}: {name} holds {count} values that are NaN or infinite: the file is damaged")
    stddevs = stddevs.reshape(-1).astype(np.float64)
    if (stddevs <= 0).any():
        mode = int(np.argmin(stddevs))
        raise ModelFileError(f"{file}: {names[2]} of mode {mode} is {stddevs[mode]:g}; a spread is positive")
    by_mode = np.ascontiguousarray(basis.T, dtype=np.float32)  # free where the file is column-major, as MATLAB's are
    return LinearPart(file, mean.reshape(-1).astype(np.float64), by_mode, stddevs)


def check_unit_columns(part: LinearPart, name: str, *, tolerance: float) -> None:
    """Refuse an identity basis whose columns have not the length one that the format promises."""
    norms = np.sqrt(np.einsum("kv,kv->k", part.basis, part.basis, dtype=np.float64))
    worst = int(np.argmax(np.abs(norms - 1)))
    if abs(norms[worst] - 1) > tolerance:
        raise ModelFileError(
            f"{part.file}: column {worst} of {name} has length {norms[worst]:.4g}; the published columns have length 1 "
            "(coefficients are in µm). Do not multiply the basis by the standard deviations or change its unit"
        )


def check_identity_spread(part: LinearPart, name: str, *, mm_per_unit: float, stored_as: str) -> None:
    """Refuse a spread no population of faces has: variances for standard deviations, or the other way round.

    `stored_as` says what the format stores under `name`: "standard deviations" or "variances".
    """
    norms = np.sqrt(np.einsum("kv,kv->k", part.basis, part.basis, dtype=np.float64))
    spread = float((part.stddevs * norms).max()) * mm_per_unit / np.sqrt(part.n_vertices)
    low, high = _IDENTITY_SPREAD_MM
    if low <= spread <= high:
        return
    other = {"standard deviations": "variances", "variances": "standard deviations"}[stored_as]
    too_much = spread > high
    mistaken = too_much == (stored_as == "standard deviations")
    guess = f"{name} seems to hold {other}" if mistaken else "the basis seems to be scaled twice or in another unit"
    raise ModelFileError(
        f"{part.file}: one standard deviation of the strongest mode moves a vertex by {spread:.3g} mm, and faces vary "
        f"by about 4 mm; {guess}, where this format has {stored_as}"
    )


def check_size(file: str, mean_mm: Float[np.ndarray, "v 3"], *, unit: str) -> None:
    """Refuse a mean face that is no face's size in the unit that the format promises."""
    height = float(np.ptp(mean_mm[:, 1]))
    if not _HEIGHT_MM[0] <= height <= _HEIGHT_MM[1]:
        raise ModelFileError(
            f"{file}: read in {unit}, the mean face is {height:.4g} mm tall; faces and heads are {_HEIGHT_MM[0]:g} to "
            f"{_HEIGHT_MM[1]:g} mm, so the file is in another unit or y is not its vertical axis"
        )


def from_one_based(
    file: str, name: str, indices: Shaped[np.ndarray, "*shape"], n_vertices: int, *, covers_all: bool
) -> Int32[np.ndarray, "*shape"]:
    """MATLAB's indices as zero-based int32; with `covers_all` the first and the last vertex must occur."""
    whole = _integers(file, name, indices)
    first, last = int(whole.min()), int(whole.max())
    if first <= 0:
        raise ModelFileError(
            f"{file}: {name} holds index {first}; MATLAB files count from one, so these count from zero and would be "
            "off by one. Add one, or take the published file"
        )
    if last > n_vertices:
        raise ModelFileError(
            f"{file}: {name} refers to vertex {last} of a model with {n_vertices}: it belongs to another model or cut"
        )
    if covers_all and (first, last) != (1, n_vertices):
        raise ModelFileError(
            f"{file}: {name} uses the vertices {first} to {last} (counted from one) of a model with {n_vertices}; the "
            "published one uses all: it belongs to another model or cut, or counts from another base"
        )
    return (whole - 1).astype(np.int32)


def from_zero_based(
    file: str, name: str, indices: Shaped[np.ndarray, "*shape"], n_vertices: int
) -> Int32[np.ndarray, "*shape"]:
    """Triangles' indices that count from zero, as int32; the first and the last vertex must occur."""
    whole = _integers(file, name, indices)
    first, last = int(whole.min()), int(whole.max())
    if (first, last) == (1, n_vertices):
        raise ModelFileError(
            f"{file}: {name} counts vertices from one (1 to {last}); HDF5 models count from zero. Subtract one, or "
            "take the published file"
        )
    if first != 0 or last != n_vertices - 1:
        raise ModelFileError(
            f"{file}: {name} uses the vertices {first} to {last} of a model with {n_vertices} (0 to {n_vertices - 1}): "
            "it belongs to another model"
        )
    return whole.astype(np.int32)


def _integers(file: str, name: str, indices: np.ndarray) -> np.ndarray:
    if indices.dtype.kind not in "fiu" or indices.size == 0:
        raise ModelFileError(f"{file}: {name} holds {indices.dtype} of shape {indices.shape}, not vertex indices")
    if not np.isfinite(indices).all() or (indices != np.rint(indices)).any():
        raise ModelFileError(f"{file}: {name} holds numbers that are not whole: vertex indices are")
    return indices.astype(np.int64)


def wound_outward(mean: Float[np.ndarray, "v 3"], triangles: Int[np.ndarray, "t 3"]) -> Int32[np.ndarray, "t 3"]:
    """The triangles counter-clockwise from outside: turned over when the volume they enclose is negative."""
    order = [0, 2, 1] if signed_volume(mean, triangles) < 0 else [0, 1, 2]
    return np.ascontiguousarray(triangles[:, order], dtype=np.int32)


def check_landmarks(file: str, mean_mm: Float[np.ndarray, "v 3"], landmark_vertices: Int32[np.ndarray, "68"]) -> None:
    """Refuse 68 vertices that do not lie as a face's landmarks do: indices of another model, or axes turned over."""
    points = mean_mm[landmark_vertices]
    eyes = [points[eye].mean(axis=0) for eye in (lm.RIGHT_EYE, lm.LEFT_EYE)]
    distance = float(np.linalg.norm(points[lm.OUTER_EYE_CORNERS[1]] - points[lm.OUTER_EYE_CORNERS[0]]))
    mouth, tip, chin = points[lm.OUTER_LIPS].mean(axis=0), points[30], points[8]
    violations = {
        f"the outer eye corners are {distance:.0f} mm apart": not 50 <= distance <= 150,
        "the subject's right eye does not lie at smaller x than the left one": eyes[0][0] >= eyes[1][0],
        "the mouth does not lie below the eyes": mouth[1] >= min(eyes[0][1], eyes[1][1]),
        "the chin does not lie below the mouth": chin[1] >= mouth[1],
        "the tip of the nose does not lie before the eyes": tip[2] <= max(eyes[0][2], eyes[1][2]),
    }
    found = [sentence for sentence, violated in violations.items() if violated]
    if found:
        raise ModelFileError(
            f"{file}: the 68 landmark vertices do not look like a face ({'; '.join(found)}): they belong to another "
            "model or cut, or the model's axes are not x right, y up, z toward the viewer"
        )
