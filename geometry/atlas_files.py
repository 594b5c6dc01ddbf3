"""UV atlases in files: our own `.npz`, and the `.mat` that face3d and its successors read as `BFM_UV.mat`."""

import io
import zipfile
from pathlib import Path

import numpy as np
import scipy.io
from jaxtyping import Int

from geometry.mesh import Mesh
from geometry.npz_files import read_npz
from geometry.uv import UVAtlas

_HEADER = b"MATLAB 5.0 MAT-file, written by facefoundry: UV atlas in the layout of BFM_UV.mat".ljust(116)
_MOST_BYTES = 1 << 30
"""Ten million vertices take half of it."""
_NEVER = (1980, 1, 1, 0, 0, 0)  # the earliest moment that a zip can hold: files hold no clock


def save_atlas(path: Path | str, atlas: UVAtlas, mesh: Mesh, *, file_vertices: Int[np.ndarray, " v"]) -> None:
    """Write `atlas` and the mesh it unwraps to an `.npz`; equal atlases give equal bytes.

    uv (V 2) float64 in [0, 1], v up; triangles (T 3) int32, those of the atlas; vertices (V 3) in millimetres and
    mesh_triangles (M 3), those of the mesh; file_vertices (V,), each vertex's place in the file that it was read from.
    """
    arrays = {
        "uv": np.asarray(atlas.uv, dtype="<f8"),
        "triangles": np.asarray(atlas.triangles, dtype="<i4"),
        "vertices": np.asarray(mesh.vertices, dtype="<f8"),
        "mesh_triangles": np.asarray(mesh.triangles, dtype="<i4"),
        "file_vertices": np.asarray(file_vertices, dtype="<i4"),
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name, array in arrays.items():
            data = io.BytesIO()
            np.lib.format.write_array(data, np.ascontiguousarray(array), allow_pickle=False)
            member = zipfile.ZipInfo(f"{name}.npy", _NEVER)
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, data.getvalue())


def open_atlas(path: Path | str) -> UVAtlas:
    """The atlas of a file that :func:`save_atlas` wrote. Raises ValueError for any other file."""
    stored = read_npz(path, ("uv", "triangles"), limit_bytes=_MOST_BYTES)
    try:
        return UVAtlas(stored["uv"], stored["triangles"])
    except (ValueError, TypeError, IndexError) as error:
        raise ValueError(f"{Path(path).name} is no UV atlas of ours: {error}") from error


def save_bfm_uv(path: Path | str, atlas: UVAtlas) -> None:
    """Write `UV` (V 2) in [0, 1], v up, as face3d's `BFM_UV.mat` holds it; the loader of models reads it back.

    The file knows vertices alone: which triangles close holes or are left out is in the `.npz`.
    """
    data = io.BytesIO()
    scipy.io.savemat(data, {"UV": np.asarray(atlas.uv, dtype=np.float64)}, do_compression=True)
    Path(path).write_bytes(_HEADER + data.getvalue()[len(_HEADER) :])  # SciPy writes the time there
