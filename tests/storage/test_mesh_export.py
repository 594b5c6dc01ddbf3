"""Exported meshes are right-handed, and come back as they were."""

import json

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
    if format != "glb":
        np.testing.assert_allclose(np.asarray(read.visual.vertex_colors)[order, :3], COLORS, atol=1)


def test_a_glbs_colours_are_linear_and_come_back_to_the_level_on_srgbs_curve(tmp_path):
    vertices, triangles = lopsided()
    path = tmp_path / "x.glb"
    export_mesh(path, vertices, triangles, colors=COLORS, format="glb")
    linear = float_colours(path.read_bytes())
    assert linear.shape == COLORS.shape
    back = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    np.testing.assert_array_equal(np.rint(255 * back), COLORS)
    assert linear[3, 1] == pytest.approx(0.1022, abs=1e-4)  # of 90


def float_colours(glb: bytes) -> np.ndarray:
    """COLOR_0 of the only mesh, read by the specification alone: a JSON chunk behind 12 bytes, then a binary one."""
    length = int.from_bytes(glb[12:16], "little")
    tree, binary = json.loads(glb[20 : 20 + length]), glb[28 + length :]
    (mesh,) = tree["meshes"]
    accessor = tree["accessors"][mesh["primitives"][0]["attributes"]["COLOR_0"]]
    assert (accessor["componentType"], accessor["type"]) == (5126, "VEC3")
    view = tree["bufferViews"][accessor["bufferView"]]
    start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
    return np.frombuffer(binary, "<f4", 3 * accessor["count"], start).reshape(-1, 3)


def test_a_left_handed_mesh_is_refused(tmp_path):
    vertices, triangles = lopsided()
    with pytest.raises(ValueError, match=r"negative volume.*turn y up"):
        export_mesh(tmp_path / "x.ply", vertices * (1, -1, 1), triangles, format="ply")
    assert not list(tmp_path.iterdir())
