"""Landmarks read from maps: closer than bilinear, on faces and expressions that nobody fitted the weights to."""

import numpy as np
import pytest

from geometry.camera import ScaledOrthographicCamera
from geometry.morphable_model import REGION_NAMES, Coefficients
from geometry.rotation import rotation_from_euler
from geometry.uv import UVAtlas
from render.atlas_raster import AtlasRaster, TexelSampler
from render.crop import CropConfig, crop_from_landmarks
from render.landmark_texels import landmark_sampler
from render.position_map import crop_from_model

SIZE = 256
POSES = ((0.05, 0.1, -0.1), (-0.3, 0.8, 0.2), (0.2, -1.4, 0.1))  # pitch, yaw, roll: frontal, turned, nearly in profile


@pytest.fixture(scope="module")
def raster(own_atlas) -> AtlasRaster:
    return AtlasRaster(own_atlas, SIZE)


@pytest.fixture(scope="module")
def sampler(built_in, own_atlas, raster) -> TexelSampler:
    return landmark_sampler(built_in, raster, own_atlas.uv[built_in.landmark_vertices])


@pytest.fixture(scope="module")
def faces(built_in) -> list[tuple[np.ndarray, np.ndarray]]:
    """Drawn faces under several poses: their vertices (V 3) and the map from the model to a crop of 256 px."""
    rng = np.random.default_rng(11)
    faces = []
    for _ in range(4):
        vertices = built_in.vertices(Coefficients(built_in.draw_identity(rng), built_in.draw_expression(rng)))
        for pose in POSES:
            camera = ScaledOrthographicCamera(1.3, rotation_from_euler(*pose), np.array([220.0, 240.0, 0.0]))
            crop = crop_from_landmarks(camera.project(vertices[built_in.landmark_vertices]), CropConfig(size_px=SIZE))
            faces.append((vertices, crop_from_model(camera, crop)))
    return faces


def errors_px(sampler, raster, faces, vertex_indices) -> np.ndarray:
    """(faces, places): how far from its vertex each place is read, in pixels of the crop, depth included."""
    errors = []
    for vertices, affine in faces:
        truth = vertices[vertex_indices] @ affine[:, :3].T + affine[:, 3]
        errors.append(np.linalg.norm(sampler.read(raster.apply(vertices, affine)) - truth, axis=1))
    return np.array(errors)


def test_a_reading_is_a_mean_of_covered_texels(sampler, raster):
    assert sampler.weights.shape == (68, 36)
    assert (sampler.weights >= 0).all()
    np.testing.assert_allclose(sampler.weights.sum(axis=1), 1, atol=1e-12)
    assert not sampler.weights[~raster.covered[sampler.rows, sampler.columns]].any()


def test_landmarks_are_read_within_a_tenth_of_a_pixel_and_never_a_pixel_off(built_in, raster, sampler, faces):
    errors = errors_px(sampler, raster, faces, built_in.landmark_vertices)
    assert errors.mean() < 0.1
    assert errors.max() < 1


def test_reading_between_four_texels_is_worse(built_in, own_atlas, raster, sampler, faces):
    between = TexelSampler.at(raster, own_atlas.uv[built_in.landmark_vertices])
    ours, bilinear = (errors_px(s, raster, faces, built_in.landmark_vertices) for s in (sampler, between))
    assert ours.mean() < 0.5 * bilinear.mean()
    assert ours.max() < 0.5 * bilinear.max()
    assert (ours.mean(axis=1) < bilinear.mean(axis=1)).all()  # for every face


def test_a_reading_is_the_same_mixture_of_vertices(built_in, raster, sampler, faces):
    mixture = sampler.as_vertex_mixture(raster, built_in.n_vertices)
    assert mixture.shape == (68, built_in.n_vertices)
    vertices, affine = faces[4]
    read = sampler.read(raster.apply(vertices, affine))
    np.testing.assert_allclose(mixture @ vertices.astype(np.float64) @ affine[:, :3].T + affine[:, 3], read, atol=1e-3)


def test_every_vertex_is_read_back_from_texels(built_in, own_atlas, raster, faces):
    """The way back: a tenth of a pixel on the face; only the neck, where a texel is centimetres wide, is far worse."""
    back = TexelSampler.at(raster, own_atlas.uv)
    errors = errors_px(back, raster, faces, np.arange(built_in.n_vertices))
    assert np.isfinite(errors).all()
    inner = ~np.isin(built_in.regions, [REGION_NAMES.index(name) for name in ("neck", "other", "ears")])
    assert errors[:, inner].mean() < 0.15
    assert np.percentile(errors[:, inner], 99) < 1.0
    assert np.median(errors) < 0.1


def test_a_landmark_where_nothing_is_covered_is_refused(sheet):
    right_half = sheet.uv[sheet.triangles][..., 0].min(axis=1) >= 0.5
    atlas = UVAtlas(sheet.uv, sheet.triangles[right_half])
    on_the_left = int(np.flatnonzero(sheet.uv[sheet.landmark_vertices, 0] < 0.3)[0])
    with pytest.raises(ValueError, match=f"landmark {on_the_left} of sheet lies where the atlas covers no texel at 64"):
        landmark_sampler(sheet, AtlasRaster(atlas, 64), sheet.uv[sheet.landmark_vertices])
