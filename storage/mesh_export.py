"""Meshes for other programs: OBJ, PLY and GLB with colours on the vertices, written by trimesh.

What is written is right-handed: x right, y **up**, z toward the viewer. Image and crop frames have y down and are
left-handed; :func:`upright_from_picture` turns them. A mesh whose triangles would look inward is refused, because
every viewer would show its back.

Colours are given as pictures have them, in sRGB, and OBJ and PLY hold them so. glTF's COLOR_0 is linear (glTF 2.0, section
3.7.2.1 and 3.9.2): a GLB holds what sRGB's curve makes of them, in float32, because 8 bits are too few for dark linear ones.
"""

import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Float32, Int32, UInt8

from geometry.mesh import signed_volume
from storage.whole_files import write_atomically

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

    linear = None if colors is None or format != "glb" else linear_from_srgb(colors)
    bytes_of = colors if linear is None else None
    mesh = trimesh.Trimesh(
        vertices.astype(np.float64), triangles, vertex_colors=bytes_of, process=False, validate=False
    )
    options: dict[str, Any] = {}
    if linear is not None:
        mesh.vertex_attributes[_LINEAR] = linear
        options = {"tree_postprocessor": _name_colours}
    content = mesh.export(file_type=format, **options)
    write_atomically(Path(path), content.encode() if isinstance(content, str) else bytes(content))


def linear_from_srgb(colors: UInt8[np.ndarray, "... 3"]) -> Float32[np.ndarray, "... 3"]:
    """Linear light in [0, 1] of levels on sRGB's curve (IEC 61966-2-1)."""
    level = np.arange(256) / 255
    curve = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    return curve.astype(np.float32)[colors]


_LINEAR = "_LINEAR"
"""What trimesh, which writes colours of its own as bytes, is told to call them: names of one's own begin with _."""


def _name_colours(tree: dict[str, Any]) -> None:
    for mesh in tree["meshes"]:
        for primitive in mesh["primitives"]:
            primitive["attributes"]["COLOR_0"] = primitive["attributes"].pop(_LINEAR)
