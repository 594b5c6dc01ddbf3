import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geometry.camera import ScaledOrthographicCamera, apply_affine
from geometry.frames import Similarity2D
from geometry.rotation import rotation_from_euler
from geometry.uv import UVAtlas
from render.atlas_raster import AtlasRaster
from render.position_map import crop_from_model, decode_position_maps, position_map, with_depth_offset

angles = st.floats(-3.2, 3.2)


@given(angles, angles, angles, st.floats(0.2, 3), angles, st.booleans())
def test_camera_then_crop_is_one_affine_map_with_depth_scaled_like_the_plane(pitch, yaw, roll, scale, turn, flip):
    vertices = np.random.default_rng(0).normal(size=(30, 3)) * 60
    camera = ScaledOrthographicCamera(1.1, rotation_from_euler(pitch, yaw, roll), np.array([220.0, 231.0, 7.0]))
    crop = Similarity2D.of(scale=scale, angle=turn, translation_px=(-31.0, 12.0))
    crop = crop @ Similarity2D.mirror(450) if flip else crop
    image = camera.project(vertices)
    moved = apply_affine(crop_from_model(camera, crop), vertices)
    np.testing.assert_allclose(moved[:, :2], crop.apply(image[:, :2]), atol=1e-8)
    np.testing.assert_allclose(moved[:, 2], scale * image[:, 2], atol=1e-8)  # not scale · cos(turn)


def test_the_farthest_vertex_lies_at_depth_zero():
    vertices = np.random.default_rng(1).normal(size=(50, 3)).astype(np.float32) * 70
    camera = ScaledOrthographicCamera(1.2, rotation_from_euler(0.1, 0.9, -0.2), np.array([200.0, 200.0, -90.0]))
    affine = crop_from_model(camera, Similarity2D.of(scale=0.8))
    moved, offset = with_depth_offset(affine, vertices)
    depth = apply_affine(moved, vertices.astype(np.float64))[:, 2]
    assert depth.min() == pytest.approx(0, abs=1e-4)
    np.testing.assert_allclose(apply_affine(affine, vertices.astype(np.float64))[:, 2] - offset, depth, atol=1e-9)


def _lopsided() -> tuple[UVAtlas, np.ndarray, np.ndarray]:
    uv = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.5, 0.4]])
    triangles = np.array([[0, 1, 4], [1, 3, 4], [3, 2, 4], [2, 0, 4]], dtype=np.int32)
    vertices = np.array([[-60, -80, 0], [60, -80, 5], [-58, 70, 3], [61, 72, 1], [4, 10, 90]], dtype=np.float32)
    return UVAtlas(uv, triangles), vertices, np.array([1, 0, 3, 2, 4])


def test_a_mirrored_sample_holds_the_mirrored_re_indexed_mesh_at_every_texel():
    atlas, vertices, mirror = _lopsided()
    raster = AtlasRaster(atlas, 32)
    camera = ScaledOrthographicCamera(1.0, rotation_from_euler(0.1, 0.3, 0.2), np.array([100.0, 110.0, 0.0]))
    plain = crop_from_model(camera, Similarity2D.of())
    flipped = crop_from_model(camera, Similarity2D.mirror(200))
    both = decode_position_maps(
        raster, np.stack([vertices] * 2), np.stack([plain, flipped]), mirrored=np.array([False, True]), mirror=mirror
    )
    # The mirrored picture shows this mesh: the same points at x' = w − 1 − x, each named by its partner.
    image = camera.project(vertices.astype(np.float64))[mirror]
    image[:, 0] = 199 - image[:, 0]
    np.testing.assert_allclose(both[0], position_map(raster, vertices, plain).xyz, atol=1e-4)
    np.testing.assert_allclose(both[1], raster.apply(image), atol=1e-3)


def test_mirrored_samples_of_a_model_without_mirror_map_are_refused():
    atlas, vertices, _ = _lopsided()
    with pytest.raises(ValueError, match="mirror map"):
        decode_position_maps(AtlasRaster(atlas, 8), vertices[None], np.eye(3, 4)[None], mirrored=np.array([True]))
