"""Exported meshes are right-handed, and come back as they were."""

import numpy as np
import pytest
import trimesh

from geometry.mesh import signed_volume
from storage.mesh_export import export_mesh, upright_from_picture


def lopsided() -> tuple[np.ndarray, np.ndarray]:
    """A tetrahedron whose corners all differ, counter-clockwise from outside."""
    vertices = np.array([[0.0, 0.0, 0.0], [3.0, 0.2, 0.1], [0.3, 2.0, 0.4], [0.1, 0.5, 5.0]])
    return vertices, np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]], dtype=np.int32)


COLORS = np.array([[255, 0, 0], [0, 254, 1], [3, 2, 253], [9, 90, 200]], dtype=np.uint8)


def test_pixels_with_y_down_are_left_handed_and_upright_ones_are_not():
    vertices, triangles = lopsided()
    height = 450
    pixels = vertices * (1, -1, 1) + (100, 300, 0)  # as a camera puts them into a picture
    assert signed_volume(pixels, triangles) < 0
    upright = upright_from_picture(pixels, height=height)
    assert signed_volume(upright, triangles) == pytest.approx(signed_volume(vertices, triangles))
    assert upright_from_picture(np.array([[4.0, 449.0, 7.0]]), height=height).tolist() == [[4.0, 0.0, 7.0]]


@pytest.mark.parametrize("format", ["obj", "ply", "glb"])
def test_a_mesh_comes_back_with_its_colours_and_a_positive_volume(tmp_path, format):
    vertices, triangles = lopsided()
    path = tmp_path / f"x.{format}"
    export_mesh(path, vertices, triangles, colors=COLORS, format=format)
    read = trimesh.load_mesh(path, process=False)
    assert read.volume == pytest.approx(signed_volume(vertices, triangles), rel=1e-5)
    order = [int(np.abs(read.vertices - vertex).sum(axis=1).argmin()) for vertex in vertices]
    np.testing.assert_allclose(read.vertices[order], vertices, atol=1e-6)
    np.testing.assert_allclose(np.asarray(read.visual.vertex_colors)[order, :3], COLORS, atol=1)


def test_a_left_handed_mesh_is_refused(tmp_path):
    vertices, triangles = lopsided()
    with pytest.raises(ValueError, match=r"negative volume.*turn y up"):
        export_mesh(tmp_path / "x.ply", vertices * (1, -1, 1), triangles, format="ply")
    assert not list(tmp_path.iterdir())
