"""Both kinds of landmarks of a 300W-LP picture, as the release has them: ``landmarks/<subset>/<stem>_pts.mat``.

`pts_2d` (68, 2): the jaw points lie on the outline that the picture shows, other points where they are. `pts_3d`
(68, 2): all of them are fixed places of the head, projected, seen or not. Both are pixels counted from one; what leaves
here counts from zero. Points have their own names in mirrored pictures too. Sources pass over the folder ``landmarks``
(:mod:`storage.sources`), so the files lie beside the annotations without being taken for them.
"""

import os
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
from jaxtyping import Float

from geometry.landmarks import N_LANDMARKS
from storage.annotations import mat_bytes
from storage.bad_sample import BadSample
from storage.mat_child import MAX_FILE_BYTES
from storage.mat_reader import read_mat
from storage.regular_files import read_regular_file
from storage.whole_files import write_atomically

FOLDER = "landmarks"


@dataclass(frozen=True, slots=True)
class ContourLandmarks:
    """The 68 points of one picture (px): `marched`, jaw points on the visible outline, and `fixed`."""

    marched_px: Float[np.ndarray, "68 2"]
    fixed_px: Float[np.ndarray, "68 2"]


def contour_landmarks_path(root: str | os.PathLike[str], source_id: str) -> Path:
    """Where the landmarks of a sample lie; `source_id` is its path from the root without suffix."""
    name = PurePath(source_id)
    return Path(root) / FOLDER / name.with_name(f"{name.name}_pts.mat")


def write_contour_landmarks(path: str | os.PathLike[str], landmarks: ContourLandmarks) -> None:
    """Write one file; equal landmarks give equal bytes, and it appears whole or not at all."""
    write_atomically(Path(path), mat_bytes({"pts_2d": landmarks.marched_px + 1.0, "pts_3d": landmarks.fixed_px + 1.0}))


def read_contour_landmarks(path: str | os.PathLike[str]) -> ContourLandmarks:
    """Read one file, in a limited child process. Raises BadSample for another or a damaged one, OSError when missing."""
    try:
        variables = read_mat(read_regular_file(path, limit_bytes=MAX_FILE_BYTES, follow_links=True))
        found = []
        for name in ("pts_2d", "pts_3d"):
            points = variables.get(name)
            if points is None or points.shape != (N_LANDMARKS, 2) or not np.isfinite(points.astype(np.float64)).all():
                raise BadSample("mat.shape", f"{name} should be 68×2 numbers; it is no landmark file of 300W-LP's")
            found.append(points.astype(np.float64) - 1.0)
    except BadSample as bad:
        raise bad.about(path) from None
    return ContourLandmarks(*found)
