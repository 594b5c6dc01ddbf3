"""Pictures for people, from samples as a data set gives them: things are drawn where the numbers say."""

import cv2
import numpy as np
import pytest

from geometry.landmarks import JAW, N_LANDMARKS
from render.preview import (
    PANELS,
    color_position_map,
    color_values,
    contact_sheet,
    draw_landmarks,
    encode_png,
    field_panels,
    in_rows,
    map_mesh,
    overlay_mesh,
    overlay_values,
    plain_panels,
    ranks,
    raster_of_map,
    sample_panels,
    sample_sheet,
    titled,
)

SIZE = 96
ALONE = (0, 20, 25, 29, 33, 40, 45, 52, 63)  # one point of each line, so that no line is drawn
GREY = np.full((SIZE, SIZE, 3), 120, dtype=np.uint8)


def landmarks_px() -> np.ndarray:
    """68 points far enough from each other that their dots do not touch, at places between pixels."""
    rows, columns = np.divmod(np.arange(N_LANDMARKS), 9)
    return np.stack([5.3 + 10.1 * columns, 6.8 + 11.2 * rows, columns], axis=1).astype(np.float32)


def bump(covered: np.ndarray) -> np.ndarray:
    """A map whose texels lie in a lopsided ellipse of the crop: x from 14 to 78, y from 22 to 86."""
    t = np.linspace(-1, 1, SIZE)
    u, v = np.meshgrid(t, t)
    xyz = np.stack([46 + 32 * u + 3 * u * v, 54 + 32 * v, 40 * np.maximum(1 - (u - 0.3) ** 2 - v**2, 0)], axis=-1)
    return (xyz * covered[..., None]).astype(np.float32)


@pytest.fixture(scope="module")
def sample() -> dict[str, object]:
    covered = np.ones((SIZE, SIZE), dtype=bool)
    covered[:20, :30] = False  # the upper left corner of the atlas
    y, x = np.mgrid[:SIZE, :SIZE]
    image = np.stack([2 * x, 2 * y, x + y], axis=-1).astype(np.uint8)
    return {
        "image": image,
        "position_map": bump(covered),
        "covered": covered,
        "landmarks_px": landmarks_px(),
        "source_id": "AFW/AFW_1_0",
    }


@pytest.fixture(scope="module")
def weights() -> np.ndarray:
    weights = np.zeros((SIZE, SIZE), np.float32)
    weights[10:-10, 10:-10], weights[40:60, 30:70], weights[50, 50] = 3, 4, 16
    return weights


def redness(picture: np.ndarray) -> np.ndarray:
    """How much of each pixel a red dot covers: red less green, which is 0 on grey."""
    return np.clip(picture[..., 0].astype(float) - picture[..., 1], 0, None)


@pytest.mark.parametrize("enlarge", [0.8, 1, 2, 3.75])
def test_landmarks_are_drawn_on_their_pixels_to_a_fraction_at_any_size(enlarge):
    points = np.full((N_LANDMARKS, 3), np.nan, np.float32)
    points[list(ALONE)] = landmarks_px()[list(ALONE)]
    drawn = draw_landmarks(GREY, points, enlarge=enlarge)
    assert drawn.shape == (round(SIZE * enlarge), round(SIZE * enlarge), 3)
    red = redness(drawn)
    rows, columns = np.mgrid[: len(drawn), : len(drawn)]
    factor = len(drawn) / SIZE
    for x, y, _ in points[list(ALONE)]:
        here = np.hypot(columns - x * factor, rows - y * factor) < 4.5 * factor
        centre = np.array([(columns * red)[here].sum(), (rows * red)[here].sum()]) / red[here].sum()
        in_picture = (centre + 0.5) / factor - 0.5  # pixel centres, whatever the size of the drawing
        np.testing.assert_allclose(in_picture, (x, y), atol=0.12 / factor + 0.02)


def test_dots_are_as_large_as_the_face_is_and_not_as_its_picture():
    wide = np.full((8 * SIZE, 8 * SIZE, 3), 128, np.uint8)
    points = np.full((N_LANDMARKS, 3), np.nan, np.float32)
    points[list(ALONE)] = landmarks_px()[list(ALONE)]
    in_a_crop = redness(draw_landmarks(GREY, points, enlarge=1)).sum()
    assert redness(draw_landmarks(wide, points, enlarge=1, crop_px=SIZE)).sum() == pytest.approx(in_a_crop, rel=0.02)
    assert redness(draw_landmarks(wide, points, enlarge=1)).sum() > 4 * in_a_crop


def test_dots_are_seen_at_the_size_of_a_contact_sheet(sample, weights):
    panel = sample_panels({**sample, "image": GREY}, weights, side=160)[PANELS.index("landmarks")]
    clearly_red = (panel[..., 0] > 200) & (panel[..., 1] < 90)
    n_dots, _ = cv2.connectedComponents(clearly_red.astype(np.uint8), connectivity=8)
    assert n_dots - 1 == N_LANDMARKS  # one of the components is the background


def test_unknown_landmarks_and_their_lines_are_left_out(sample, weights):
    np.testing.assert_array_equal(draw_landmarks(GREY, np.full((68, 3), np.nan), enlarge=1), GREY)
    points = landmarks_px()
    points[JAW][5] = np.nan
    drawn = draw_landmarks(GREY, points, enlarge=4)
    whole = draw_landmarks(GREY, landmarks_px(), enlarge=4)
    jaw_rows = slice(0, 4 * 12)  # where the jaw's first nine points stand and no other line passes
    green = (drawn[..., 1] > 200) & (drawn[..., 0] < 100)
    assert not green[jaw_rows].any()
    assert ((whole[..., 1] > 200) & (whole[..., 0] < 100))[jaw_rows].any()
    assert green.any()
    sheet = sample_sheet({**sample, "landmarks_px": np.full((68, 3), np.nan, np.float32)}, weights, side=64)
    assert sheet.dtype == np.uint8


def test_the_mesh_covers_the_picture_where_the_map_is_and_nothing_else(sample):
    xyz, covered = sample["position_map"], sample["covered"]
    drawn = overlay_mesh(sample["image"], xyz, covered)
    changed = (drawn != sample["image"]).any(axis=-1)
    buffers, triangles = raster_of_map(xyz, covered)
    assert not changed[~buffers.covered].any()
    assert changed[buffers.covered].mean() > 0.95
    rows, columns = np.nonzero(buffers.covered)
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (12, 80, 22, 85)
    assert not buffers.covered[24, 18]  # the corner that the atlas does not cover
    assert buffers.covered[84, 75]
    vertices, same = map_mesh(xyz, covered)
    np.testing.assert_array_equal(same, triangles)
    assert covered.ravel()[triangles].all()
    assert len(vertices) == SIZE**2


def test_the_mesh_is_shaded_by_how_it_faces_the_viewer_and_noise_of_the_stored_map_is_not_seen(sample):
    """Texels lie 0.1 px apart here, so the steps of 1/64 px of the stored map turn every small triangle its own way."""
    covered = np.ones((SIZE, SIZE), dtype=bool)
    flat = bump(covered) * np.float32(0.15) + np.float32(30)
    stored = np.round(flat * 64) / 64
    clean, noisy = (overlay_mesh(GREY, xyz.astype(np.float32), covered).astype(int) for xyz in (flat, stored))
    inside = raster_of_map(flat, covered)[0].covered & raster_of_map(stored.astype(np.float32), covered)[0].covered
    difference = np.abs(clean - noisy)[inside]
    assert difference.mean() < 10
    top, slope = overlay_mesh(GREY, bump(covered), covered)[54, [56, 30], 0].astype(int)
    assert top > slope + 30  # the top of the bump faces the viewer


def test_weights_are_carried_to_the_pixels_of_their_texels(sample, weights):
    xyz, covered = sample["position_map"], sample["covered"]
    drawn = overlay_values(GREY, xyz, covered, weights)
    colors = {level: color_values(np.full((1, 1), place))[0, 0] for level, place in ((0, 0.0), (3, 1 / 3), (4, 2 / 3))}
    for row, column in ((3, 60), (30, 20), (45, 40), (80, 80)):  # texels
        x, y = np.rint(xyz[row, column, :2]).astype(int)
        expected = 0.35 * 120 + 0.65 * colors[int(weights[row, column])]
        np.testing.assert_allclose(drawn[y, x], expected, atol=4)
    np.testing.assert_array_equal(drawn[:20], GREY[:20])


def test_levels_are_ranked_so_that_each_has_a_colour_of_its_own(weights):
    assert np.unique(ranks(weights)).tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert ranks(np.ones((2, 2))).tolist() == [[0, 0], [0, 0]]


def test_a_map_in_colours_is_black_where_it_is_not_covered_and_red_to_the_right(sample):
    colors = color_position_map(sample["position_map"], sample["covered"])
    assert not colors[~sample["covered"]].any()
    assert (np.diff(colors[60, :, 0].astype(int)) >= 0).all()
    assert (np.diff(colors[:, 60, 1].astype(int)) >= 0).all()
    np.testing.assert_allclose(colors[48, 48], sample["position_map"][48, 48] / SIZE * 255, atol=0.51)


@pytest.mark.parametrize(("n", "across", "rows"), [(1, 1, 1), (1, 2, 1), (5, 2, 3), (6, 3, 2)])
def test_a_contact_sheet_is_as_large_as_its_samples(sample, weights, n, across, rows):
    sheet = contact_sheet([sample] * n, weights, side=40, across=across)
    assert sheet.shape == (rows * (40 + 18), min(n, across) * 5 * 40, 3)
    last = sheet[-40:, -5 * 40 :]
    assert (last == 255).all() == (n > across and n % across != 0)  # an empty place is white


def test_the_same_samples_give_the_same_bytes_and_whole_png_files(sample, weights):
    files = [encode_png(contact_sheet([sample, sample], weights, side=50)) for _ in range(2)]
    assert files[0] == files[1]
    decoded = cv2.cvtColor(cv2.imdecode(np.frombuffer(files[0], np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(decoded, contact_sheet([sample, sample], weights, side=50))


@pytest.mark.parametrize("name", ["HELEN/übung_0", "LFPW/人脸_0", "", "IBUG/" + "long_" * 60])
def test_any_source_id_can_be_a_title(sample, weights, name):
    sheet = sample_sheet({**sample, "source_id": name}, weights, side=64)
    assert sheet.shape == (18 + 2 * (64 + 18), 3 * 64, 3)


def test_a_long_title_is_written_smaller_so_that_its_end_is_read_too():
    name = "median 6.71 % LFPW_Flip/LFPW_image_train_0602_"
    one, other = (titled(np.zeros((1, 256, 3), np.uint8), name + end) for end in "17")
    assert (one != other).any()


def test_accents_are_dropped_from_titles_and_letters_kept(sample, weights):
    with_accent, without = (
        sample_sheet({**sample, "source_id": name}, weights, side=64) for name in ("Übung", "Ubung")
    )
    np.testing.assert_array_equal(with_accent, without)


def test_no_samples_make_no_sheet(weights):
    with pytest.raises(ValueError, match="at least one sample"):
        contact_sheet([], weights)


# --------------------------------------------------------------------------------------------------------------- fields


@pytest.fixture
def photograph() -> dict[str, object]:
    """A wide padded photograph of two faces, the second one's lower half to be ignored."""
    label = np.zeros((60, 60), np.uint8)
    label[5:25, 5:25], label[5:15, 30:50], label[15:25, 30:50] = 1, 1, 255
    index = np.where(label == 1, 0, -1).astype(np.int16)
    index[5:15, 30:50] = 1
    landmarks = np.full((3, 68, 3), np.nan, np.float32)
    landmarks[1, list(ALONE)] = (40, 10, 0)
    uv = np.where((label == 1)[..., None], (0.9, 0.1), 0).astype(np.float32)
    return {
        "image": np.full((60, 60, 3), 120, np.uint8),
        "size_hw": np.array([30, 60], np.int32),
        "label": label,
        "face_index": index,
        "part": np.where(label == 1, 7, 0).astype(np.uint8),
        "uv": uv,
        "landmarks_px": landmarks,
    }


def test_panels_of_a_field_show_the_photograph_without_its_padding_each_face_in_its_own_colour(photograph):
    panels = field_panels(photograph, side=120)
    assert list(panels) == ["u", "v", "parts", "label"]
    label = panels["label"]
    assert label.shape == (120, 120, 3)
    assert (label[:29] == 0).all()  # above the photograph, which is twice as wide as high
    first, second, ignored, nothing = (label[30 + 2 * y, 2 * x] for y, x in ((10, 10), (10, 40), (20, 40), (27, 57)))
    assert len({tuple(c) for c in (first, second, ignored, nothing)}) == 4
    assert ignored[0] > 2 * ignored[1]
    assert (panels["u"][50, 20] != panels["v"][50, 20]).any()
    assert (panels["parts"][50, 20] == (120, 210, 90)).all()


def test_landmarks_of_several_faces_are_drawn_where_they_lie_and_absent_faces_are_not(photograph):
    red = redness(plain_panels(photograph, side=120)["landmarks"])
    y, x = np.nonzero(red > 50)
    assert abs(x.mean() - 80.5) < 1
    assert abs(y.mean() - (30 + 20.5)) < 1


def test_blocks_in_rows_are_filled_up_with_white():
    sheet = in_rows([np.zeros((4, 6, 3), np.uint8)] * 3, across=2)
    assert sheet.shape == (8, 12, 3)
    assert (sheet[4:, 6:] == 255).all()
    assert (sheet[4:, :6] == 0).all()
