"""A field read as a landmark detector: exact where it is smooth, within 1.5 px on heads, one set for each component."""

import numpy as np
import pytest

from geometry import optimal_cylindrical
from geometry.camera import ScaledOrthographicCamera
from geometry.mesh import Mesh
from geometry.morphable_model import Coefficients
from geometry.rotation import rotation_from_euler
from geometry.uv import UVAtlas
from render.correspondence import FieldTemplate, draw_field
from render.field_landmarks import landmarks_of_field
from render.visibility import visible_vertices

NO_PARTS = np.zeros((2, 2), dtype=np.uint8)


def plane(height: int, width: int) -> np.ndarray:
    """A field that grows evenly and crookedly: (u, v) = A (x, y) + b."""
    y, x = np.mgrid[:height, :width]
    return np.stack([0.1 + 0.006 * x + 0.001 * y, 0.9 - 0.002 * x - 0.005 * y], axis=-1)


def test_on_an_even_field_a_landmark_is_found_between_the_pixels():
    places = np.random.default_rng(0).uniform((2, 2), (57, 47), (40, 2))
    landmarks = np.stack(
        [0.1 + 0.006 * places[:, 0] + 0.001 * places[:, 1], 0.9 - 0.002 * places[:, 0] - 0.005 * places[:, 1]], axis=1
    )
    (found,) = landmarks_of_field(plane(50, 60), np.ones((50, 60), bool), landmarks)
    np.testing.assert_allclose(found.points_px, places, atol=0.02)
    assert np.abs(found.pixels - places).max() < 1.2  # nearest by coordinates, not by pixels
    assert found.n_pixels == 3000
    np.testing.assert_allclose(
        found.distances_uv,
        np.linalg.norm(plane(50, 60)[found.pixels[:, 1], found.pixels[:, 0]] - landmarks, axis=1),
    )


def test_a_landmark_that_is_not_there_is_far_in_coordinates_and_stays_beside_a_pixel():
    (found,) = landmarks_of_field(plane(50, 60), np.ones((50, 60), bool), np.array([[0.9, 0.1]]))
    assert found.distances_uv[0] > 0.3
    assert np.abs(found.points_px - found.pixels).max() <= 1


def test_each_component_has_its_own_landmarks_the_largest_first_and_crumbs_have_none():
    is_face = np.zeros((50, 60), dtype=bool)
    is_face[2:20, 3:23] = True
    is_face[25:49, 20:58] = True
    is_face[0:3, 50:53] = True
    found = landmarks_of_field(plane(50, 60), is_face, np.array([[0.2, 0.8], [0.4, 0.6]]))
    assert [f.n_pixels for f in found] == [24 * 38, 18 * 20]
    for component, inside in zip(found, ((20, 25, 58, 49), (3, 2, 23, 20)), strict=True):
        assert (component.pixels >= inside[:2]).all()
        assert (component.pixels < inside[2:]).all()
    assert landmarks_of_field(plane(50, 60), np.zeros((50, 60), bool), np.array([[0.2, 0.8]])) == []
    assert len(landmarks_of_field(plane(50, 60), is_face, np.array([[0.2, 0.8]]), min_pixels=9)) == 3


def test_pixels_across_a_crease_do_not_pull_a_landmark_over():
    """Two surfaces side by side, the right one much further on in coordinates."""
    uv = plane(40, 40)
    uv[:, 20:] += 0.4
    place = np.array([18.3, 11.6])
    landmark = np.array([[0.1 + 0.006 * place[0] + 0.001 * place[1], 0.9 - 0.002 * place[0] - 0.005 * place[1]]])
    (found,) = landmarks_of_field(uv, np.ones((40, 40), bool), landmark)
    np.testing.assert_allclose(found.points_px[0], place, atol=0.05)


def errors_in(atlas: UVAtlas, built_in) -> dict[str, np.ndarray]:
    """Errors in pixels of all visible landmarks of nearly frontal people at three sizes: by pixels, and between them."""
    template = FieldTemplate.of(built_in, atlas, NO_PARTS)
    rng = np.random.default_rng(7)
    errors = {"pixels": [], "points_px": []}
    for scale in (1.0, 1.0, 1.5, 1.5, 3.0, 3.0):
        coefficients = Coefficients(built_in.draw_identity(rng), built_in.draw_expression(rng))
        side = int(230 * scale)
        camera = ScaledOrthographicCamera(
            scale, rotation_from_euler(*rng.normal(0, 0.1, 3)), np.array([side / 2, 0.6 * side, 0.0])
        )
        head = camera.project(built_in.vertices(coefficients))
        field = draw_field(template, [head], size_hw=(side, side))
        seen = visible_vertices(head, template.triangles, size_hw=(side, side))[built_in.landmark_vertices]
        found = landmarks_of_field(field.uv, field.is_face, atlas.uv[built_in.landmark_vertices].astype(float))[0]
        truth = head[built_in.landmark_vertices, :2]
        for name, errors_of in errors.items():
            errors_of.append(np.linalg.norm(getattr(found, name) - truth, axis=1)[seen])
    return {name: np.concatenate(of_heads) for name, of_heads in errors.items()}


@pytest.fixture(scope="module")
def errors(built_in, own_atlas) -> dict[str, np.ndarray]:
    return errors_in(own_atlas, built_in)


def test_on_frontal_faces_visible_landmarks_are_read_within_a_pixel_and_a_half(errors):
    assert len(errors["points_px"]) > 6 * 50
    assert errors["points_px"].max() < 1.5
    assert errors["points_px"].mean() < 0.15


def test_in_the_unfolded_cylinder_all_but_slivers_of_lips_are_read_within_a_pixel_and_a_half(built_in):
    """An inner lip that shows as less than a pixel's width has no pixel to be read from."""
    shape = built_in.mean_shape.astype(np.float64)
    atlas = optimal_cylindrical(Mesh(shape, built_in.triangles), closing_triangles=built_in.closing_triangles)
    points = errors_in(atlas, built_in)["points_px"]
    assert (points < 1.5).mean() > 0.99
    assert points.max() < 3
    assert points.mean() < 0.15


def test_the_paper_s_nearest_pixel_is_half_a_pixel_off_and_several_on_the_rim_of_the_head(errors):
    assert 0.35 < errors["pixels"].mean() < 0.75
    assert errors["pixels"].max() > 3
    assert errors["points_px"].mean() < 0.3 * errors["pixels"].mean()
