"""Metrics against numbers worked out by hand."""

from dataclasses import astuple

import numpy as np
import pytest

from geometry.rotation import rotation_from_euler
from train import metrics


def box_of_points(width: float, height: float, n: int = 68) -> np.ndarray:
    points = np.random.default_rng(3).uniform(0, 1, (n, 2))
    points[0], points[1] = (0, 0), (1, 1)
    return (points * (width, height))[None] + (7.0, -3.0)


def test_a_shift_of_3_and_4_px_in_a_box_of_50_by_200_is_five_percent():
    truth = box_of_points(50, 200)
    assert metrics.nme_bbox(truth + (3, 4), truth) == pytest.approx([0.05], rel=1e-12)


def test_the_other_normalisers_of_the_same_shift():
    truth = box_of_points(30, 40)
    assert metrics.nme_diagonal(truth + (3, 4), truth) == pytest.approx([5 / 50])
    assert metrics.box_mean_edge(truth) == pytest.approx([35])
    corners = truth.copy()
    corners[0, 36], corners[0, 45] = (10, 10), (10, 35)
    assert metrics.nme_interocular(corners + (3, 4), corners) == pytest.approx([5 / 25])
    corners[0, 36:42], corners[0, 42:48] = (0, 0), (6, 8)
    assert metrics.nme_interpupil(corners + (3, 4), corners) == pytest.approx([0.5])


def test_visible_points_alone_make_box_and_error():
    truth = box_of_points(50, 200)
    visible = np.ones((1, 68), dtype=bool)
    visible[0, 10] = False
    outlier = truth.copy()
    outlier[0, 10] = (1e6, -1e6)
    assert metrics.nme_bbox(outlier + (3, 4), outlier, visible=visible) == pytest.approx([0.05])


def test_depth_counts_after_the_named_alignment_alone():
    truth = np.concatenate([box_of_points(50, 200), np.linspace(-9, 30, 68)[None, :, None]], axis=-1)
    lifted = truth + (0, 0, 10)
    assert metrics.nme_bbox(lifted, truth) == pytest.approx([0.1])
    assert metrics.nme_bbox(lifted, truth, z="mean") == pytest.approx([0], abs=1e-12)
    assert metrics.nme_bbox(lifted, truth, z="min") == pytest.approx([0], abs=1e-12)
    tilted = truth.copy()
    tilted[0, 0, 2] -= 34  # the lowest point, one of 68: min follows it whole, the mean by half a pixel
    assert metrics.nme_bbox(tilted, truth, z="min") == pytest.approx([67 * 34 / 68 / 100])
    assert metrics.nme_bbox(tilted, truth, z="mean") == pytest.approx([(67 * 0.5 + 33.5) / 68 / 100])


def test_a_missing_prediction_is_a_failure_and_never_left_out():
    truth = np.repeat(box_of_points(50, 200), 4, axis=0)
    predicted = truth + (3, 4)
    predicted[2, 5] = np.nan
    errors = metrics.nme_bbox(predicted, truth)
    assert np.isinf(errors[2])
    assert metrics.failure_rate(errors, 0.08) == 0.25
    assert metrics.auc(errors, 0.1) == pytest.approx(3 * 0.5 / 4)
    assert astuple(metrics.summary(errors)) == pytest.approx((4, 1, 0.05, 0.05))


def test_auc_is_exact_and_failures_begin_at_the_threshold():
    errors = np.array([0.0, 0.04, 0.08, 0.5])
    assert metrics.auc(errors, 0.08) == pytest.approx((1 + 0.5) / 4)
    assert metrics.failure_rate(errors, 0.08) == 0.5
    np.testing.assert_array_equal(metrics.ced(errors, np.array([0, 0.04, 0.0799, 0.08, 1])), [0.25, 0.5, 0.5, 0.75, 1])
    grid = np.linspace(0, 0.08, 80001)
    assert metrics.auc(errors, 0.08) == pytest.approx(np.trapezoid(metrics.ced(errors, grid), grid) / 0.08, abs=1e-4)


def test_yaw_bins_hold_their_upper_limit_and_wrap_round():
    np.testing.assert_array_equal(
        metrics.yaw_bin(np.array([0.0, -30, 30.01, 60, -60.01, 351, -351, 90])), [0, 0, 1, 1, 2, 0, 0, 2]
    )


def test_the_mean_of_bins_is_not_the_mean_of_images():
    result = metrics.by_yaw(np.array([0.02, 0.02, 0.02, 0.05, 0.08]), np.array([0.0, 10, -20, 45, 80]))
    assert result["mean of bins"] == pytest.approx(0.05)
    assert result["mean of images"] == pytest.approx(0.038)
    assert (result["n 0-30"], result["n 30-60"], result["n 60-90"]) == (3, 1, 1)


def test_a_balanced_subset_has_equally_many_faces_of_each_bin_and_is_repeatable():
    yaw = np.concatenate([np.zeros(50), np.full(20, 45.0), np.full(10, 80.0)])
    chosen = metrics.balanced_subset(yaw, per_bin=10, seed=4)
    np.testing.assert_array_equal(np.bincount(metrics.yaw_bin(yaw[chosen])), [10, 10, 10])
    np.testing.assert_array_equal(chosen, metrics.balanced_subset(yaw, per_bin=10, seed=4))
    assert len(set(chosen.tolist())) == 30
    with pytest.raises(ValueError, match="yaw bin 2 has 10 faces and 11 were asked for"):
        metrics.balanced_subset(yaw, per_bin=11, seed=4)


def test_a_similarity_moved_copy_has_no_cvgtce_and_a_mirrored_one_has():
    truth = np.random.default_rng(0).normal(0, 30, (2, 66, 3))
    rotation = rotation_from_euler(0.3, -0.8, 0.2)
    moved = 1.7 * truth @ rotation.T + (5, -8, 100)
    interocular = np.array([60.0, 40.0])
    assert metrics.cvgtce(moved, truth, interocular) == pytest.approx([0, 0], abs=1e-12)
    assert (metrics.gte(moved, truth, interocular) > 0.5).all()
    assert (metrics.cvgtce(moved * (-1, 1, 1), truth, interocular) > 0.1).all()


def test_gte_by_axis_is_the_distance_along_it():
    truth = np.random.default_rng(0).normal(0, 30, (1, 66, 3))
    predicted = truth + (2, -3, 6)
    found = {axes: metrics.gte(predicted, truth, np.array([10.0]), axes=axes)[0] for axes in metrics.AXES_3DFAW}
    assert found == pytest.approx({"xyz": 0.7, "xy": np.sqrt(13) / 10, "x": 0.2, "y": 0.3, "z": 0.6})


def test_iou_is_pooled_and_an_absent_class_has_none():
    truth, predicted = np.array([0, 0, 1, 1, 255]), np.array([0, 1, 1, 1, 0])
    pooled = metrics.confusion(predicted, truth, n_classes=4)
    np.testing.assert_array_equal(pooled[:2, :2], [[1, 1], [0, 2]])
    np.testing.assert_allclose(metrics.part_iou(pooled), [1 / 2, 2 / 3, np.nan, np.nan])


def test_uv_errors_are_of_pixels_that_are_face_and_found_to_be():
    errors = metrics.uv_errors(
        np.array([0.1, 0.9, 0.5, np.nan]),
        np.array([0.2, 0.4, 0.5, 0.5]),
        detected=np.array([True, True, True, False]),
        foreground=np.array([True, False, True, True]),
    )
    np.testing.assert_allclose(errors, [0.1, 0])


def test_known_correspondence_reconstruction_ignores_pose_and_size_alone():
    truth = np.random.default_rng(1).normal(0, 50, (500, 3))
    moved = 0.01 * truth @ rotation_from_euler(0.1, 1.2, 0.0).T + 3
    assert metrics.reconstruction_error(moved, truth, interocular=90.0) == pytest.approx(0, abs=1e-12)
    assert metrics.reconstruction_error(moved * (1, 1, 1.2), truth, interocular=90.0) > 0.02
    assert metrics.reconstruction_error(np.full_like(truth, np.nan), truth, interocular=90.0) == np.inf


def test_errors_that_cannot_be_summarised_are_refused():
    with pytest.raises(ValueError, match="a missing prediction has the error infinity"):
        metrics.auc(np.array([0.1, np.nan]), 0.08)
    with pytest.raises(ValueError, match="no faces"):
        metrics.failure_rate(np.zeros(0), 0.08)
    with pytest.raises(ValueError, match="face 0 span no box"):
        metrics.nme_bbox(np.zeros((1, 68, 2)), np.zeros((1, 68, 2)))


def test_an_unknown_yaw_is_no_profile():
    with pytest.raises(ValueError, match="the yaw of 1 faces is unknown"):
        metrics.by_yaw(np.array([0.1, 0.2]), np.array([0.0, np.nan]))


def test_pairs_of_views_are_of_one_subject_and_never_of_nobody():
    pairs = metrics.view_pairs(["ann", "", "bob", "ann", ""])
    np.testing.assert_array_equal(pairs, [[0, 3], [3, 0]])
    assert metrics.view_pairs(["", "ann"]).shape == (0, 2)


def test_consistency_across_two_views_holds_one_views_prediction_against_the_others_truth():
    shape = np.random.default_rng(2).normal(0, 30, (66, 3))
    views = np.stack([shape @ rotation_from_euler(0.0, yaw, 0.0).T for yaw in (-0.6, 0.7)])
    a, b = metrics.view_pairs(["ann", "ann"]).T
    assert metrics.cvgtce(views[a], views[b], np.array([60.0, 60.0])) == pytest.approx([0, 0], abs=1e-12)
    wrong = views.copy()
    wrong[0] *= (1, 1, 2)  # twice too deep in one view: both pairs that it is in suffer
    errors = metrics.cvgtce(wrong[a], views[b], np.array([60.0, 60.0]))
    assert errors[0] > 0.05
    assert errors[1] == pytest.approx(0, abs=1e-12)


def test_errors_on_the_template_lie_where_their_pixels_true_coordinates_are():
    painted = metrics.TemplateErrors(5)
    painted.add(np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]]), np.array([0.1, 0.2, 0.4]))
    painted.add(np.array([[0.0, 1.0]]), np.array([0.3]))
    expected = np.full((5, 5), np.nan)
    expected[0, 0], expected[4, 4] = 0.2, 0.3  # v = 1 is the first row
    np.testing.assert_allclose(painted.mean, expected)


def test_the_mean_over_parts_leaves_the_background_and_absent_parts_out():
    truth, predicted = np.array([0, 0, 1, 1, 8]), np.array([0, 0, 1, 8, 8])
    pooled = metrics.confusion(predicted, truth, n_classes=9)
    assert metrics.mean_part_iou(pooled) == pytest.approx((1 / 2 + 1 / 2) / 2)
    assert np.isnan(metrics.mean_part_iou(np.zeros((9, 9), dtype=np.int64)))


def test_21_points_are_measured_by_the_visible_ones_and_their_box():
    truth = box_of_points(50, 200, n=21)
    visible = np.ones((1, 21), dtype=bool)
    visible[0, [5, 12, 16]] = False
    hidden = truth.copy()
    hidden[0, [5, 12, 16]] = -1.0  # as AFLW stores what is not seen
    assert metrics.nme_bbox(truth + (3, 4), hidden, visible=visible) == pytest.approx([0.05])


def test_depth_without_a_face_pixel_is_refused():
    with pytest.raises(ValueError, match="no face pixel"):
        metrics.depth_error(np.zeros((2, 2)), np.zeros((2, 2)), foreground=np.zeros((2, 2), dtype=bool))
