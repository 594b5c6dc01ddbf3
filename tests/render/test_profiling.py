"""Laws of face profiling: what is not turned comes back, labels follow pixels, nothing is left open."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geometry.camera import ScaledOrthographicCamera
from geometry.morphable_model import DenseModel
from geometry.rotation import euler_from_rotation, rotation_from_euler
from render.profiling import MeshedPicture, turned_camera
from render.profiling_anchors import place_anchors
from render.profiling_texture import ProfilingModel
from storage.synthetic import Family, draw_face

_SPEC = importlib.util.spec_from_file_location("profiled_heads", Path(__file__).with_name("profiled_heads.py"))
sys.modules["profiled_heads"] = heads = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(heads)


@pytest.fixture(scope="module")
def face():
    return draw_face(Family(3, 1, 0, 1))


@pytest.fixture(scope="module")
def head(face):
    """A head that looks a little to the viewer's left and up."""
    return heads.RenderedHead.of(face.coefficients, face.mesh.texture, yaw=0.15, pitch=0.08, seed=1)


@pytest.fixture(scope="module")
def meshed(head) -> MeshedPicture:
    return head.meshed()


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    error = np.square(first.astype(np.float64) - second).mean()
    return np.inf if error == 0 else 10 * np.log10(255**2 / error)


# ------------------------------------------------------------------------------------------------------- not turned


def test_a_picture_that_is_not_turned_comes_back(head, meshed):
    view = meshed.seen_by([meshed.camera])[0]
    assert psnr(view.image[2:-2, 2:-2], meshed.image[2:-2, 2:-2]) > 40
    same = meshed.turned(yaw=float(euler_from_rotation(head.camera.rotation)[1]))
    assert psnr(same.image[2:-2, 2:-2], meshed.image[2:-2, 2:-2]) > 40
    np.testing.assert_allclose(same.camera.image_from_model, head.camera.image_from_model, atol=1e-9)


@settings(max_examples=5, deadline=None)
@given(
    seed=st.integers(0, 99),
    yaw=st.floats(-1.2, 1.2),
    height=st.integers(90, 300),
    width=st.integers(90, 300),
)
def test_even_noise_comes_back_whatever_the_pictures_size_and_the_heads_angle(head, seed, yaw, height, width):
    """Noise has no neighbours that look alike: a shift by half a pixel would leave 11 dB."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    scale = 0.6 * min(height, width) / 250
    camera = ScaledOrthographicCamera(
        scale, rotation_from_euler(0.1, yaw, -0.2), np.array([width / 2, height / 2, 5.0])
    )
    meshed = MeshedPicture.of(noise, head.model, head.vertices, camera)
    back = meshed.seen_by([camera])[0].image
    assert psnr(back[1:-1, 1:-1], noise[1:-1, 1:-1]) > 40


# --------------------------------------------------------------------------------------------------- labels, pixels


@pytest.mark.parametrize("landmark", [30, 27, 33, 19, 24, 51, 57])
@pytest.mark.parametrize(("yaw", "pitch"), [(0.45, 0.08), (-0.25, 0.08), (0.15, -0.2), (0.3, 0.4)])
def test_pixels_go_where_the_landmarks_go(head, landmark, yaw, pitch):
    point = head.vertices[head.model.landmarks[landmark]].astype(np.float64)
    x, y = head.camera.project(point)[:2]
    rows, columns = np.mgrid[: heads.SIZE, : heads.SIZE]
    dot = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 2.0**2))
    picture = np.repeat(np.rint(250 * dot)[..., None], 3, axis=2).astype(np.uint8)
    bare = replace(
        MeshedPicture.of(picture, head.model, head.vertices, head.camera).texture,
        worth=np.zeros(len(head.vertices), np.float32),
    )
    view = replace(MeshedPicture.of(picture, head.model, head.vertices, head.camera), texture=bare).turned(
        yaw=yaw, pitch=pitch
    )
    at = view.image[..., 0].astype(np.float64)
    at[at < 0.6 * at.max()] = 0  # its middle: the rim lies on skin of another slant
    found = (at * columns).sum() / at.sum(), (at * rows).sum() / at.sum()
    expected = view.camera.project(point)[:2]
    assert np.linalg.norm(found - expected) < 0.5


def test_the_head_has_the_angles_that_were_asked_for_and_stays_where_it_is(head, meshed):
    view = meshed.turned(yaw=1.1, pitch=-0.3)
    before, after = (euler_from_rotation(camera.rotation) for camera in (head.camera, view.camera))
    np.testing.assert_allclose(after, [-0.3, 1.1, before[2]], atol=1e-12)
    assert view.camera.scale == head.camera.scale
    np.testing.assert_allclose(view.camera.project(meshed.pivot), head.camera.project(meshed.pivot), atol=1e-9)
    landmarks = head.vertices[head.model.landmarks].astype(np.float64)
    np.testing.assert_allclose((landmarks.min(axis=0) + landmarks.max(axis=0)) / 2, meshed.pivot)


# --------------------------------------------------------------------------------------------------------- likeness


@pytest.mark.parametrize("turn", [-30, -15, 15, 30])
def test_a_turned_head_looks_as_if_it_had_been_drawn_from_there(head, meshed, turn):
    view = meshed.turned(yaw=0.15 + np.radians(turn))
    assert head.ssim(view.camera, view.image) > 0.95
    untouched = head.ssim(view.camera, meshed.image)
    assert untouched < 0.8  # the measure can tell


def test_what_the_photograph_hides_is_taken_from_the_other_side(face):
    turned_away = heads.RenderedHead.of(face.coefficients, face.mesh.texture, yaw=0.75, pitch=0.05, seed=4)
    meshed = turned_away.meshed()
    view = meshed.turned(yaw=-0.35)
    none = replace(meshed.texture, worth=np.zeros_like(meshed.texture.worth))
    without = replace(meshed, texture=none).turned(yaw=-0.35)
    likeness = turned_away.ssim(view.camera, view.image)
    assert likeness > 0.9
    assert likeness > turned_away.ssim(view.camera, without.image) + 0.02


def test_profiling_a_mirrored_picture_mirrors_the_profile(face, built_in):
    """Which sides are left and right must be settled by the geometry alone."""
    head = heads.RenderedHead.of(face.coefficients, face.mesh.texture, yaw=0.3, pitch=0.1, seed=2)
    meshed = head.meshed()
    across = np.diag([-1.0, 1.0, 1.0])
    x, y, z = head.camera.translation_px
    mirrored_camera = ScaledOrthographicCamera(
        head.camera.scale, across @ head.camera.rotation @ across, np.array([heads.SIZE - 1 - x, y, z])
    )
    mirrored = MeshedPicture.of(
        np.ascontiguousarray(meshed.image[:, ::-1]),
        head.model,
        built_in.mirror_vertices(head.vertices).astype(np.float32),
        mirrored_camera,
    )
    for yaw in (0.9, -0.2):
        one, other = meshed.turned(yaw=yaw), mirrored.turned(yaw=-yaw)
        apart = np.abs(one.image.astype(int) - other.image[:, ::-1])
        assert apart.mean() < 2.5
        assert (one.on_face != other.on_face[:, ::-1]).mean() < 0.01


# ---------------------------------------------------------------------------------------------------------- no hole


@pytest.mark.parametrize("place", [(231, 238), (430, 210), (400, 430), (225, -10)])
def test_no_turn_tears_a_hole_even_where_the_border_cuts_the_face(head, place):
    """A hole would show the source's first pixel; the picture is white but for that corner."""
    camera = replace(head.camera, translation_px=np.array([*map(float, place), 0.0]))
    white = np.full((heads.SIZE, heads.SIZE, 3), 255, dtype=np.uint8)
    white[0, 0] = 0
    meshed = MeshedPicture.of(white, head.model, head.vertices, camera)
    cameras = [
        turned_camera(camera, yaw=yaw, pitch=pitch, pivot=meshed.pivot)
        for yaw in np.radians([-90, -60, -20, 20, 60, 90])
        for pitch in (-0.5, 0.1, 0.6)
    ]
    for view in meshed.seen_by(cameras):
        assert (view.image[12:, 12:] == 255).all()


def test_surroundings_never_hide_the_face(head, meshed):
    for yaw in (0.15, 0.6, 1.2, -0.5):
        view = meshed.turned(yaw=yaw)
        seen = head.face_mask(view.camera)
        assert view.on_face[seen].mean() > 0.99


def test_a_view_does_not_depend_on_its_company(meshed):
    cameras = [turned_camera(meshed.camera, yaw=yaw, pivot=meshed.pivot) for yaw in np.linspace(-1.4, 1.4, 17)]
    for alone, together in zip(cameras[::8], meshed.seen_by(cameras)[::8], strict=True):
        np.testing.assert_array_equal(meshed.seen_by([alone])[0].image, together.image)


# ---------------------------------------------------------------------------------------------------------- anchors


@pytest.fixture(scope="module")
def anchors(head):
    return place_anchors(
        head.camera.project(head.vertices),
        head.model.triangles,
        below_chin_px=np.array([[231.0, 350.0], [231.0, 440.0]]),
        px_per_mm=head.camera.scale,
        size_hw=(heads.SIZE, heads.SIZE),
    )


def areas(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    a, b, c = (points[triangles[:, k], :2] for k in range(3))
    return ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) / 2


def test_anchors_fill_the_picture_without_overlap(anchors):
    area = areas(anchors.points_px, anchors.triangles)
    assert (area < 0).all()  # front faces in y-down pixels
    np.testing.assert_allclose(-area.sum(), heads.SIZE**2, rtol=1e-9)


def test_anchors_that_turn_by_nothing_stay_and_free_ones_go_part_of_the_way(anchors):
    turning = anchors.points_px[anchors.turns]
    np.testing.assert_array_equal(anchors.moved(turning), anchors.points_px)
    moved = anchors.moved(turning + (8.0, -3.0, 0.0)) - anchors.points_px
    np.testing.assert_array_equal(moved[~anchors.turns & ~anchors.free], 0)
    assert (moved[anchors.free, 0] >= 0).all()
    assert (moved[anchors.free, 0] <= 8).all()
    np.testing.assert_allclose(moved[anchors.free, 1], moved[anchors.free, 0] * -3 / 8, atol=1e-9)


def test_free_anchors_are_the_least_squares_of_the_edges(anchors):
    """The papers' functional: Σ ‖(p'_a − p'_b) − (p_a − p_b)‖² has no gradient at the free anchors."""
    rng = np.random.default_rng(2)
    turned = anchors.points_px[anchors.turns] + rng.normal(0, 9, (int(anchors.turns.sum()), 3))
    displaced = anchors.moved(turned) - anchors.points_px
    edges = {tuple(sorted((int(t[i]), int(t[i - 1])))) for t in anchors.triangles for i in range(3)}
    gradient = np.zeros_like(displaced)
    for a, b in edges:
        gradient[a] += displaced[a] - displaced[b]
        gradient[b] += displaced[b] - displaced[a]
    assert np.abs(gradient[anchors.free]).max() < 1e-6


# --------------------------------------------------------------------------------------------------------- bad fits


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"translation_px": np.array([3000.0, 200.0, 0.0])}, r"only 0% of the fitted face lie inside the picture"),
        ({"scale": -1.3}, r"the fit's scale is -1.3 px/mm: a mirrored face"),
        ({"scale": 60.0}, r"only \d+% of the fitted face lie inside"),
        ({"rotation": rotation_from_euler(0.0, 2.6, 0.0)}, r"from behind"),
        ({"translation_px": np.array([np.nan, 200.0, 0.0])}, r"not finite"),
    ],
)
def test_a_fit_that_is_not_in_the_picture_is_refused(head, meshed, change, sentence):
    with pytest.raises(ValueError, match=sentence):
        MeshedPicture.of(meshed.image, head.model, head.vertices, replace(head.camera, **change))


def test_a_model_without_a_mirror_table_gets_one(built_in):
    bare = DenseModel(
        name="bare",
        licence="CC0-1.0",
        mean=built_in.mean_shape,
        identity_basis=np.zeros((1, 3 * built_in.n_vertices), np.float32),
        expression_basis=np.zeros((1, 3 * built_in.n_vertices), np.float32),
        identity_stddevs=np.ones(1),
        expression_stddevs=np.ones(1),
        triangles=built_in.triangles,
        landmark_vertices=built_in.landmark_vertices,
        regions=built_in.regions,
    )
    found = ProfilingModel.of(bare).mirror
    apart = np.linalg.norm(built_in.mean_shape[found] - built_in.mean_shape[built_in.mirror], axis=1)
    assert np.quantile(apart, 0.99) < 1.0  # millimetres


def test_the_neck_is_kept_and_the_shoulders_are_left_out(built_in):
    model = ProfilingModel.of(built_in)
    kept = built_in.mean_shape[model.below]
    jaw = np.abs(built_in.mean_shape[built_in.landmark_vertices[:17], 0]).max()
    assert np.abs(kept[:, 0]).max() < 1.1 * jaw
    assert built_in.mean_shape[model.left_out, 1].min() < kept[:, 1].min()
