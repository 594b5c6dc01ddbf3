"""Meshes for other programs: OBJ, PLY and GLB with colours on the vertices, written by trimesh.

What is written is right-handed: x right, y **up**, z toward the viewer. Image and crop frames have y down and are
left-handed; :func:`upright_from_picture` turns them. A mesh whose triangles would look inward is refused, because
every viewer would show its back.
"""

import os
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Int32, UInt8

from geometry.mesh import signed_volume
from storage.jpeg import write_atomically

Format = Literal["obj", "ply", "glb"]


def upright_from_picture(vertices_px: Float[np.ndarray, "v 3"], *, height: int) -> Float[np.ndarray, "v 3"]:
    """Image or crop pixels with y upward, counted from the picture's lowest row: y' = height − 1 − y."""
    return vertices_px * (1.0, -1.0, 1.0) + (0.0, height - 1.0, 0.0)


def export_mesh(
    path: str | os.PathLike[str],
    vertices: Float[np.ndarray, "v 3"],
    triangles: Int32[np.ndarray, "t 3"],
    *,
    colors: UInt8[np.ndarray, "v 3"] | None = None,
    format: Format,
) -> None:
    """Write a mesh, counter-clockwise from outside in a right-handed frame; the file appears whole or not at all.

    Raises ValueError for a mesh that encloses a negative volume: its frame is left-handed, or its triangles are turned.
    """
    if (volume := signed_volume(vertices, triangles)) < 0:
        raise ValueError(
            f"the mesh encloses {volume:.3g}, a negative volume: its frame is left-handed (y down?), or its triangles "
            "run clockwise; turn y up (storage.mesh_export.upright_from_picture) first"
        )
    import trimesh  # half a second, on first use

    mesh = trimesh.Trimesh(vertices.astype(np.float64), triangles, vertex_colors=colors, process=False, validate=False)
    content = mesh.export(file_type=format)
    write_atomically(Path(path), content.encode() if isinstance(content, str) else bytes(content))
