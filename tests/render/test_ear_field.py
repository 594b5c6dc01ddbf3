"""Fields of ears from landmarks: exact where the picture is an affine image of the template, refused where it is none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geometry.built_in import load_built_in
from geometry.rotation import rotation_from_euler
from render.correspondence import draw_field
from render.ear_field import EAR_PARTS, LEAST_LANDMARKS, ear_crop, flat_ear, head_with_ear
from render.ear_view import PANELS, chequered, colored_parts, draw_curves, ear_panels
from render.field_landmarks import landmarks_of_field

SIZE = (150, 170)


def affine(angle: float, scale: float, squeeze: float, *, mirrored: bool) -> np.ndarray:
    """(2 3) from (u, v) to pixels, v upward; the ear in the middle of the picture."""
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = scale * turn @ np.diag([-squeeze if mirrored else squeeze, -1.0])
    middle = np.array([SIZE[1], SIZE[0]]) / 2 + 0.137
    return np.concatenate([matrix, (middle - matrix @ (0.5, 0.5))[:, None]], axis=1)


def placed(pixels_from_uv: np.ndarray) -> np.ndarray:
    return flat_ear().landmarks_uv @ pixels_from_uv[:, :2].T + pixels_from_uv[:, 2]


affines = st.builds(
    affine,
    st.floats(-3.1, 3.1),
    st.floats(60, 120),
    st.floats(0.4, 1.2),
    mirrored=st.booleans(),
)


@settings(max_examples=25, deadline=None)
@given(pixels_from_uv=affines, smoothing=st.sampled_from([0.0, 0.1, 10.0]))
def test_an_affine_image_of_the_template_is_met_exactly_whatever_the_smoothing(pixels_from_uv, smoothing):
    found = flat_ear().field(placed(pixels_from_uv), size_hw=SIZE, smoothing=smoothing)
    field = found.field
    y, x = np.nonzero(field.is_face)
    back = np.linalg.inv(pixels_from_uv[:, :2])
    uv = (np.stack([x, y], axis=1) - pixels_from_uv[:, 2]) @ back.T
    np.testing.assert_allclose(field.uv[y, x], uv, atol=2e-5)
    assert found.side == ("right" if np.linalg.det(pixels_from_uv[:, :2]) < 0 else "left")
    assert len(y) > 300


@settings(max_examples=10, deadline=None)
@given(pixels_from_uv=affines, seed=st.integers(0, 99))
def test_the_mirrored_picture_has_the_mirrored_field_of_the_other_ear(pixels_from_uv, seed):
    landmarks = placed(pixels_from_uv) + np.random.default_rng(seed).normal(0, 0.3, (55, 2))
    mirrored = landmarks * (-1, 1) + (SIZE[1] - 1, 0)
    one, other = (flat_ear().field(points, size_hw=SIZE) for points in (landmarks, mirrored))
    assert {one.side, other.side} == {"right", "left"}
    np.testing.assert_array_equal(other.field.label, one.field.label[:, ::-1])
    np.testing.assert_allclose(other.field.uv, one.field.uv[:, ::-1], atol=1e-5)


def test_pixels_outside_the_outline_know_nothing():
    field = flat_ear().field(placed(affine(0.2, 100, 0.8, mirrored=False)), size_hw=SIZE).field
    outside = ~field.is_face
    assert not field.uv[outside].any()
    assert not field.part[outside].any()
    assert set(np.unique(field.label)) == {0, 1}
    assert (field.face_index == np.where(outside, -1, 0)).all()
    assert np.isnan(field.depth_range_px).all()
    assert not field.depth.any()


def test_each_place_of_the_ear_has_its_part():
    uv, part_map = flat_ear().landmarks_uv, flat_ear().part_map
    size = len(part_map)
    assert set(np.unique(part_map)) == set(range(1, len(EAR_PARTS) + 1))
    between = {
        "helix": (9, 31),
        "scapha": (31, 51),
        "antihelix": (50, 45),
        "triangular fossa": (49, 25),
        "concha": (44, 20),
        "tragus": (36, 19),
        "lobe": (41, 16),
    }
    for name, (one, other) in between.items():
        u, v = (uv[one] + uv[other]) / 2
        texel = part_map[round((1 - v) * (size - 1)), round(u * (size - 1))]
        assert EAR_PARTS[texel - 1] == name


def test_a_fields_parts_are_the_part_maps_at_its_coordinates():
    ear = flat_ear()
    field = ear.field(placed(affine(-0.4, 110, 0.9, mirrored=True)), size_hw=SIZE).field
    size = len(ear.part_map)
    x = np.rint(field.uv[..., 0] * (size - 1)).astype(int)
    y = np.rint((1 - field.uv[..., 1]) * (size - 1)).astype(int)
    same = (field.part == ear.part_map[y, x])[field.is_face]
    assert same.mean() > 0.999  # but for coordinates that lie between two texels
    assert set(np.unique(field.part)) == set(range(len(EAR_PARTS) + 1))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 999), n_known=st.integers(20, 54))
def test_missing_landmarks_change_nothing_where_the_rest_tells_all(seed, n_known):
    landmarks = placed(affine(0.3, 115, 0.7, mirrored=False))
    whole = flat_ear().field(landmarks, size_hw=SIZE).field
    given_points = landmarks.copy()
    missing = np.random.default_rng(seed).permutation(55)[n_known:]
    given_points[missing] = np.nan
    try:
        flat_ear().check(given_points)
    except ValueError:
        return
    part = flat_ear().field(given_points, size_hw=SIZE).field
    assert (part.label != whole.label).mean() < 1e-3  # the outline's missing landmarks are put where they belong
    both = part.is_face & whole.is_face
    np.testing.assert_allclose(part.uv[both], whole.uv[both], atol=2e-5)


def test_half_a_missing_point_is_a_missing_point():
    landmarks = placed(affine(0.3, 115, 0.7, mirrored=False))
    landmarks[7, 1] = np.nan
    whole = landmarks.copy()
    whole[7] = np.nan
    one, other = (flat_ear().field(points, size_hw=SIZE).field.uv for points in (landmarks, whole))
    np.testing.assert_array_equal(one, other)


def test_too_few_landmarks_are_refused_with_their_number():
    landmarks = placed(affine(0, 100, 0.8, mirrored=False))
    landmarks[LEAST_LANDMARKS - 1 :] = np.nan
    with pytest.raises(ValueError, match="11 of the 55 landmarks are known, and 12 are needed: annotate more"):
        flat_ear().field(landmarks, size_hw=SIZE)


def test_landmarks_of_the_ears_middle_alone_are_refused_with_their_share():
    landmarks = placed(affine(0, 100, 0.8, mirrored=False))
    landmarks[:35] = np.nan  # no helix
    with pytest.raises(ValueError, match=r"the 20 known landmarks span \d\d% of the ear, and 50% are needed"):
        flat_ear().field(landmarks, size_hw=SIZE)


def test_swapped_landmarks_are_refused_as_a_fold():
    landmarks = placed(affine(0, 100, 0.8, mirrored=False))
    landmarks[[5, 17]] = landmarks[[17, 5]]
    with pytest.raises(ValueError, match=r"folds over itself.*Landmark (5|17) is the farthest off"):
        flat_ear().field(landmarks, size_hw=SIZE, smoothing=1e-3)


def test_an_ear_outside_the_picture_has_an_empty_field():
    landmarks = placed(affine(0, 100, 0.8, mirrored=False)) + (500, 0)
    assert not flat_ear().field(landmarks, size_hw=SIZE).field.is_face.any()


@pytest.mark.parametrize("margin", [1.0, 1.4, 3.0])
def test_the_crop_holds_the_landmarks_with_the_margin_around_them(margin):
    landmarks = placed(affine(0.5, 100, 0.6, mirrored=False)) * 1.7 - 40
    landmarks[3] = np.nan
    inside = ear_crop(landmarks, size_px=200, margin=margin).apply(landmarks)
    low, high = np.nanmin(inside, axis=0), np.nanmax(inside, axis=0)
    np.testing.assert_allclose((low + high) / 2, 99.5)
    assert (high - low).max() == pytest.approx(199 / margin)


def test_a_crop_about_one_point_is_refused():
    with pytest.raises(ValueError, match="span a box of 0 px"):
        ear_crop(np.full((55, 2), 7.0), size_px=64, margin=1.4)


@pytest.mark.parametrize(("side", "yaw", "is_seen"), [("right", -90, True), ("right", 90, False), ("left", 90, True)])
def test_the_true_field_shows_the_ear_that_is_seen_and_no_other(side, yaw, is_seen):
    head = load_built_in("all")
    rotation = rotation_from_euler(0.0, np.radians(yaw), 0.0)
    x, y, z = (head.mean_shape.astype(np.float64) @ rotation.T).T
    picture = np.stack([150 + x, 120 - y, z], axis=1)
    field = draw_field(head_with_ear(side), [picture], size_hw=(240, 300))
    assert field.is_face.any() == is_seen
    if is_seen:
        u, v = field.uv[field.is_face].T
        rows, columns = np.nonzero(field.is_face)
        assert np.corrcoef(rows, v)[0, 1] < -0.99  # v runs up
        assert np.sign(np.corrcoef(columns, u)[0, 1]) == (1 if side == "right" else -1)  # u to the nose
        assert 800 < len(rows) < 1600  # mm²: an ear


def test_the_pictures_of_a_sample_show_what_is_stored():
    landmarks = placed(affine(0.1, 100, 0.8, mirrored=False)) * 150 / 170
    field = flat_ear().field(landmarks, size_hw=(150, 150)).field
    image = np.full((150, 150, 3), 90, dtype=np.uint8)
    sample = {
        "image": image, "uv": field.uv, "label": field.label, "part": field.part, "side": np.str_("right"),
        "landmarks_px": landmarks.astype(np.float32), "source_id": np.str_("some/ear"),
    }  # fmt: skip
    panels = ear_panels(sample, side=300)
    assert [panel.shape for panel in panels] == [(300, 300, 3)] * len(PANELS)
    untouched = np.repeat(np.repeat(~field.is_face, 2, axis=0), 2, axis=1)
    assert (panels[0] == 90).all()
    assert (panels[2][untouched] == 90).mean() > 0.95
    assert (panels[3][~untouched] != 90).any(axis=-1).mean() > 0.95
    assert not chequered(field.uv, field.is_face)[~field.is_face].any()
    assert len(np.unique(colored_parts(field.part).reshape(-1, 3), axis=0)) == len(EAR_PARTS) + 1
    landmarks[8] = np.nan
    draw_curves(image, landmarks)


@pytest.mark.parametrize("mirrored", [False, True])
def test_landmarks_are_found_again_in_their_field(mirrored):
    landmarks = placed(affine(0.4, 120, 0.8, mirrored=mirrored)) + np.random.default_rng(5).normal(0, 0.5, (55, 2))
    field = flat_ear().field(landmarks, size_hw=SIZE, smoothing=0.0).field
    (found,) = landmarks_of_field(field.uv, field.is_face, flat_ear().landmarks_uv)
    off = np.linalg.norm(found.points_px - landmarks, axis=1)
    assert off[20:].max() < 0.2  # inside, the spline passes through them
    assert off[:20].max() < 0.6  # on the outline, the pixel nearest to them may lie outside
