"""Tables of errors as the papers measure them, against numbers worked out by hand; what is not measured never counts."""

import numpy as np
import pytest

from geometry.landmarks import OUTER_EYE_CORNERS
from geometry.rotation import rotation_from_euler
from train.measures import Truth, cross_view_errors, measures_of, summarised, yaw_tables

RIGHT, LEFT = OUTER_EYE_CORNERS


def truth_of(n_points=68, *, width=50.0, height=200.0, n_faces=1, subjects=()):
    """Points in a box of that size; the outer eye corners are 20 px apart, the eyes' centres 10."""
    points = np.random.default_rng(3).uniform(0.2, 0.8, (n_faces, n_points, 3)) * (width, height, 40)
    points[:, 0, :2], points[:, 1, :2] = 0, (width, height)
    if n_points >= 66:
        points[:, RIGHT], points[:, LEFT] = (10, 90, 5), (30, 90, 5)
    return Truth(points, np.ones((n_faces, n_points), dtype=bool), tuple(subjects))


def errors_of(family, predicted, truth, *, depth=True):
    measures = measures_of(family, n_points=truth.points.shape[1], depth=depth)
    return {measure.name: measure.apply(predicted, truth) for measure in measures}


def test_a_shift_of_3_and_4_px_by_every_measure_of_68_points():
    truth = truth_of()
    found = errors_of("dense-fits", truth.points + (3, 4, 12), truth)
    assert found["nme_bbox 2-D"] == pytest.approx([0.05])
    assert found["nme_bbox 3-D, z mean taken off"] == pytest.approx([0.05]), "an offset in depth is no error"
    centres = truth.points[0, 36:42].mean(axis=0) - truth.points[0, 42:48].mean(axis=0)
    found = errors_of("300w", (truth.points + (3, 4, 0))[..., :2], truth, depth=False)
    assert found["nme_interocular"] == pytest.approx([5 / 20])
    assert found["nme_interpupil"] == pytest.approx([5 / np.linalg.norm(centres[:2])])
    assert found["nme_diagonal"] == pytest.approx([5 / np.hypot(50, 200)])
    half = truth.points[..., :2].copy()
    half[0, ::2] += (6, 8)  # every other point by 10 px: the root mean square is √50, the mean 5
    found = errors_of("300w", half, truth, depth=False)
    assert found["rms_interocular"] == pytest.approx([np.sqrt(50) / 20])
    assert found["nme_interocular"] == pytest.approx([5 / 20])


@pytest.mark.parametrize("n_points", [21, 34])
def test_sparse_points_are_measured_by_those_that_are_seen_and_their_box(n_points):
    truth = truth_of(n_points, width=30, height=40)
    measured = truth.measured.copy()
    measured[0, [5, 9, 20]] = False
    hidden = truth.points.copy()
    hidden[0, [5, 9, 20]] = np.nan
    predicted = truth.points + (3, 4, 0)
    predicted[0, 9] = 1e6
    found = errors_of("sparse", predicted[..., :2], Truth(hidden, measured), depth=False)
    assert found == {"nme_bbox 2-D": pytest.approx([5 / np.sqrt(30 * 40)])}


def test_ears_are_measured_by_the_mean_edge_and_the_root_mean_square():
    truth = truth_of(55, width=30, height=50)
    found = errors_of("ears", (truth.points + (3, 4, 0))[..., :2], truth, depth=False)
    assert found == {"rms_box_mean_edge": pytest.approx([5 / 40])}


def test_3dfaw_measures_along_every_axis_over_the_eyes_distance_in_space():
    truth = truth_of(66)
    truth.points[0, LEFT] = (22, 90, 5 + 16)  # 20 px away from the other corner: 12 in the picture, 16 in depth
    half = np.zeros((1, 66, 3))
    half[0, ::2] = (2, -3, 6)
    found = errors_of("3dfaw", truth.points + half, truth)
    assert found["GTE x"] == pytest.approx([1 / 20])
    assert found["GTE y"] == pytest.approx([1.5 / 20])
    assert found["GTE xy"] == pytest.approx([np.sqrt(13) / 2 / 20])
    assert found["GTE z"] == pytest.approx([3 / 20]), "the mean of z is taken off: ±3 px"
    assert found["GTE xyz"] == pytest.approx([(np.sqrt(13 + 9) + 3) / 2 / 20])
    turned = 1.4 * truth.points @ rotation_from_euler(0.2, 0.5, -0.3).T + 9
    assert errors_of("3dfaw", turned, truth)["CVGTCE"] == pytest.approx([0], abs=1e-12)
    assert errors_of("3dfaw", turned * (-1, 1, 1), truth)["CVGTCE"] > 0.05


def test_two_views_of_one_subject_are_held_against_each_other_by_the_points_that_both_show():
    truth = truth_of(66, n_faces=3, subjects=("ann", "bob", "ann"))
    truth.points[2] = 0.5 * truth.points[0] @ rotation_from_euler(0.0, 0.8, 0.0).T
    truth.points[2, 40] = 1e6
    truth.measured[2, 40] = False
    predicted = truth.points.copy()
    predicted[2, 40] = np.nan
    assert cross_view_errors(predicted, truth) == pytest.approx([0, 0], abs=1e-9)
    predicted[0] *= (1, 1, 3)
    first, second = cross_view_errors(predicted, truth)
    assert first > 0.05, "the first view's own shape is wrong"
    assert second == pytest.approx(0, abs=1e-9)


def test_a_missing_point_makes_a_face_fail_and_thresholds_are_the_papers():
    truth = truth_of(n_faces=4)
    predicted = truth.points[..., :2] + (0.6, 0.8)  # 1 px of 20: 5 %
    predicted[2, 7] = np.nan
    (measure,) = (m for m in measures_of("300w", n_points=68, depth=False) if m.name == "nme_interocular")
    row = summarised(measure, measure.apply(predicted, truth))
    assert (row["n_images"], row["n_missing"], row["mean_percent"]) == (4, 1, pytest.approx(5))
    assert row["failure_0.08_percent"] == 25
    assert row["auc_0.08_percent"] == pytest.approx(100 * 3 * (1 - 5 / 8) / 4)
    (menpo,) = measures_of("menpo", n_points=68, depth=False)
    assert (menpo.auc_at, menpo.failure_at) == ((0.03,), (0.03,))


def test_both_sources_of_yaw_have_bins_and_a_balanced_subset_with_its_list():
    fitted = np.array([0.0] * 8 + [45.0] * 4 + [80.0] * 3)
    label = np.array([0.0] * 9 + [45.0] * 4 + [80.0, np.nan])
    errors = np.where(np.abs(fitted) > 60, 0.08, 0.02)
    tables = yaw_tables(errors, {"fitted pose": fitted, "AFLW's label": label})
    assert [tables["fitted pose"][f"n {name}"] for name in ("0-30", "30-60", "60-90")] == [8, 4, 3]
    assert tables["fitted pose"]["mean of bins %"] == pytest.approx(4)
    assert tables["fitted pose"]["mean of images %"] == pytest.approx((12 * 2 + 3 * 8) / 15)
    balanced = tables["fitted pose"]["balanced"]
    assert balanced["n_images"] == len(balanced["indices"]) == 9
    assert balanced["mean of images %"] == pytest.approx(4)
    assert np.bincount((fitted[balanced["indices"]] / 35).astype(int)).tolist() == [3, 3, 3]
    assert tables["AFLW's label"]["n without yaw"] == 1
    assert tables["AFLW's label"]["balanced"]["n_images"] == 3
