"""What is worn fits: hair lies outside the skin and off the face, glasses on the nose, no way through the neck."""

import numpy as np
import pytest

from geometry.built_in import load_built_in
from geometry.camera import ScaledOrthographicCamera
from geometry.landmarks import LEFT_EYE, RIGHT_EYE
from geometry.mesh import boundary_loops
from geometry.morphable_model import Coefficients
from geometry.rotation import rotation_from_euler
from render.clothes import draw_clothes, shirt_surface
from render.dressed_head import DressedHead, Outfit, Paint, skin_of_head
from render.glasses import draw_glasses, glasses_surfaces
from render.hair import draw_hair, hair_surface, load_scalp, painted_hair_colour
from render.harmonic_light import flat_light
from render.lit_surface import fine_buffers, joined, surface_normals
from render.people_config import HAIR_STYLES
from render.shading import ColorTransform
from render.zbuffer import rasterize

PLAIN = ColorTransform(np.ones(3), np.zeros(3), 1.0)
PEOPLE = range(3)


def head_of(number):
    rng, model = np.random.default_rng(number), load_built_in()
    return load_built_in("all").vertices(Coefficients(model.draw_identity(rng), model.draw_expression(rng)))


def skin_and_normals(number):
    vertices = head_of(number)
    normals = surface_normals(vertices, load_built_in("all").triangles)
    return vertices[skin_of_head()], normals[skin_of_head()]


def camera_at(yaw, pitch=0.0, scale=0.6, side=200):
    return ScaledOrthographicCamera(scale, rotation_from_euler(pitch, yaw, 0.0), np.array([side / 2, side / 2, 0.0]))


def test_the_skin_of_the_whole_head_is_the_skin():
    skin = load_built_in()
    np.testing.assert_array_equal(load_built_in("all").template_vertices[skin_of_head()], skin.template_vertices)


@pytest.mark.parametrize("style", [style for style in HAIR_STYLES if style != "bare"])
def test_hair_leaves_the_inner_landmarks_free_in_front(style):
    for number in PEOPLE:
        skin, normals = skin_and_normals(number)
        hair = hair_surface(draw_hair(np.random.default_rng(number), style=style), skin, normals)
        camera = camera_at(0.0)
        seen = rasterize(camera.project(hair.vertices), hair.triangles, size_hw=(200, 200))
        x, y, z = camera.project(skin[load_built_in().landmark_vertices])[17:].T
        hidden = seen.depth[np.rint(y).astype(int), np.rint(x).astype(int)] > z
        assert not hidden.any()


@pytest.mark.parametrize("style", [style for style in HAIR_STYLES if style != "bare"])
def test_hair_stands_above_the_crown_and_not_far(style):
    for number in PEOPLE:
        skin, normals = skin_and_normals(number)
        hair = hair_surface(draw_hair(np.random.default_rng(number), style=style), skin, normals)
        assert 0 < hair.vertices[:, 1].max() - skin[:, 1].max() < 60
        assert np.isfinite(hair.vertices).all()


def test_a_bare_head_has_no_hair():
    assert hair_surface(draw_hair(np.random.default_rng(0), style="bare"), *skin_and_normals(0)) is None


def test_no_hair_grows_on_ears_and_faces():
    scalp, mean = load_scalp(), load_built_in().mean_shape
    ears = np.flatnonzero(load_built_in().regions == 5)
    assert not np.isin(scalp.vertices, ears).any()
    assert not ((mean[scalp.vertices, 2] > 20) & (mean[scalp.vertices, 1] < 40)).any()


def test_painted_hair_lends_its_colour_and_a_bald_scalp_none():
    mean = load_built_in().mean_shape
    skin = np.tile(np.array([0.4, 0.25, 0.18], np.float32), (len(mean), 1))
    assert painted_hair_colour(skin) is None
    painted = np.where(mean[:, 1:2] > 90, np.array([[0.03, 0.02, 0.01]], np.float32), skin)
    np.testing.assert_allclose(painted_hair_colour(painted), np.array([0.03, 0.02, 0.01]) / 0.8, rtol=1e-5)


@pytest.mark.parametrize("dark", [False, True])
def test_glasses_stand_before_the_eyes_and_touch_the_nose(dark):
    for number in PEOPLE:
        skin, _ = skin_and_normals(number)
        landmarks = skin[load_built_in().landmark_vertices]
        frame, lenses = glasses_surfaces(draw_glasses(np.random.default_rng(number), dark=dark), skin, landmarks)
        for eye in (RIGHT_EYE, LEFT_EYE):
            centre = landmarks[eye].mean(axis=0)
            around = np.linalg.norm(lenses.vertices[:, :2] - centre[:2], axis=1) < 12
            assert around.any()
            assert 0 < (lenses.vertices[around, 2] - landmarks[eye][:, 2].max()).min() < 35
        bridge = frame.vertices[np.abs(frame.vertices[:, 0] - landmarks[27, 0]) < 2]
        nose = skin[(np.abs(skin[:, 0] - landmarks[27, 0]) < 2) & (skin[:, 2] > 20)]
        gaps = np.linalg.norm(bridge[:, None] - nose[None], axis=-1).min()
        assert gaps < 8
        rims = frame.vertices[np.abs(frame.vertices[:, 1] - landmarks[36:48, 1].mean()) < 5]
        assert rims[:, 2].max() > landmarks[36:48, 2].max()


def test_lenses_face_outward():
    skin, _ = skin_and_normals(1)
    glasses = draw_glasses(np.random.default_rng(1), dark=True)
    _, lenses = glasses_surfaces(glasses, skin, skin[load_built_in().landmark_vertices])
    assert (lenses.normals[:, 2] > 0.5).all()


@pytest.mark.parametrize("pitch", [-0.5, 0.0, 0.5])
@pytest.mark.parametrize("yaw", [-1.4, 0.0, 0.8])
def test_nobody_sees_through_the_neck(yaw, pitch):
    """Below the chin every row is closed between the outermost covered pixels, and nothing of the skin's end shows."""
    skin, normals = skin_and_normals(2)
    shirt = shirt_surface(draw_clothes(np.random.default_rng(0)), skin, normals, pitch=pitch, yaw=yaw, roll=0.0)
    camera = camera_at(yaw, pitch, scale=0.7, side=240)
    both = [camera.project(skin), camera.project(shirt.vertices)]
    triangles = np.concatenate([load_built_in().triangles, shirt.triangles + np.int32(len(skin))])
    seen = rasterize(np.concatenate(both), triangles, size_hw=(240, 240))
    chin = int(both[0][load_built_in().landmark_vertices[8], 1]) + 25
    for row in range(chin, 240):
        columns = np.flatnonzero(seen.covered[row])
        assert len(columns) == np.ptp(columns) + 1
    assert seen.covered[239].mean() > 0.6  # the shirt reaches the picture's edge
    end = max(boundary_loops(load_built_in().triangles), key=lambda loop: -skin[loop, 1].mean())
    at_end = np.flatnonzero(np.isin(load_built_in().triangles, end).any(axis=1))
    assert not np.isin(seen.triangle_id, at_end).any()  # the skin's open end is under the collar


def test_shoulders_turn_less_than_the_head():
    skin, normals = skin_and_normals(0)
    clothes = draw_clothes(np.random.default_rng(0))
    straight, turned = (
        shirt_surface(clothes, skin, normals, pitch=0.0, yaw=yaw, roll=0.0).vertices
        @ rotation_from_euler(0.0, yaw, 0.0).T.astype(np.float32)
        for yaw in (0.0, 1.0)
    )
    last = slice(-100, None)
    across = [np.arctan2(*np.linalg.svd(v[last][:, [0, 2]] - v[last][:, [0, 2]].mean(axis=0))[2][0][::-1])
              for v in (straight, turned)]  # fmt: skip
    turn = abs((across[1] - across[0] + np.pi / 2) % np.pi - np.pi / 2)
    assert 0.2 < turn < 0.8


def plain_paint(albedo=0.3):
    n = load_built_in("all").n_vertices
    return Paint(np.full((n, 3), albedo, np.float32), np.zeros(n, np.float32), np.full(n, 14, np.float32))


def dressed(number=0, *, glasses=None):
    outfit = Outfit(
        draw_hair(np.random.default_rng(number), style="short"), glasses, draw_clothes(np.random.default_rng(number))
    )
    return DressedHead.of(head_of(number), plain_paint(), outfit)


def photographed(head, camera, side=200):
    return head.photograph(
        camera=camera, light=flat_light(np.ones(3)), color=PLAIN, background=np.zeros((side, side, 3), np.float32)
    )


def test_dark_lenses_darken_the_eyes_and_nothing_else_moves():
    glasses = draw_glasses(np.random.default_rng(3), dark=True)
    camera = camera_at(0.3)
    without, with_glasses = (photographed(dressed(glasses=g), camera) for g in (None, glasses))
    x, y, _ = camera.project(head_of(0)[load_built_in("all").landmark_vertices])[36:42].mean(axis=0)
    place = round(y), round(x)
    assert with_glasses[place].mean() < 0.7 * without[place].mean()
    mouth = slice(130, 200)
    np.testing.assert_array_equal(without[mouth], with_glasses[mouth])


def test_glasses_half_outside_the_picture_are_drawn_all_the_same():
    glasses = draw_glasses(np.random.default_rng(3), dark=True)
    for shift in ((-100, 0), (0, -110), (100, 0), (0, 95), (900, 900)):
        camera = camera_at(0.0)
        camera = ScaledOrthographicCamera(
            camera.scale, camera.rotation, camera.translation_px + np.array([*shift, 0.0])
        )
        assert np.isfinite(photographed(dressed(glasses=glasses), camera)).all()


def test_coloured_marks_on_the_skin_are_seen_where_the_camera_projects_them():
    """Labels follow pixels: paint a red spot about each of some landmarks, and find it there."""
    head = load_built_in("all")
    vertices, camera = head_of(1), camera_at(0.25, 0.1, scale=1.3, side=320)
    for point in (30, 36, 45, 48, 54, 8, 19):
        place = vertices[head.landmark_vertices[point]]
        near = np.linalg.norm(vertices - place, axis=1) < 4.0
        albedo = np.where(near[:, None], np.array([[0.9, 0.0, 0.0]]), 0.2).astype(np.float32)
        paint = Paint(albedo, *(getattr(plain_paint(), name) for name in ("gloss", "shininess")))
        outfit = Outfit(draw_hair(np.random.default_rng(0), style="bare"), None, draw_clothes(np.random.default_rng(0)))
        picture = photographed(DressedHead.of(vertices, paint, outfit), camera, side=320)
        red = np.clip(picture[..., 0] - picture[..., 1], 0, 1) * (picture[..., 0] > picture[..., 2] + 0.1)
        y, x = np.mgrid[:320, :320]
        window = (np.abs(x - 160) < 160) & (red > 0.2)
        found = np.array([(red * x)[window].sum(), (red * y)[window].sum()]) / red[window].sum()
        # the spot's own middle: the mean of its seen surface, which the z-buffer gives
        surface = DressedHead.of(vertices, paint, outfit).solid
        buffers = fine_buffers(surface.vertices, surface.triangles, camera=camera, size_hw=(320, 320), supersampling=1)
        marked = near[head.triangles[np.maximum(buffers.triangle_id, 0)]].all(axis=-1) & buffers.covered
        expected = np.array([x[marked].mean(), y[marked].mean()])
        np.testing.assert_allclose(found, expected, atol=0.35)
        projected = camera.project(place[None].astype(np.float64))[0, :2]
        assert np.linalg.norm(found - projected) < 3.0


def test_joined_parts_keep_the_head_first():
    head = dressed()
    n = load_built_in("all").n_vertices
    np.testing.assert_array_equal(head.solid.vertices[:n], head_of(0))
    assert len(joined([head.solid, head.solid]).vertices) == 2 * len(head.solid.vertices)
