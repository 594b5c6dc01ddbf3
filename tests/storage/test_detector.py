"""The detector extra: what it says where it is not set up, and that it finds faces where it is."""

import re
import sys

import numpy as np
import pytest

from geometry.extras import how_to_get
from storage.bad_sample import BadSample
from storage.detector import LICENCE, WEIGHTS_NAME, LandmarkDetector, NoDetector, Weights, find_weights


def test_weights_that_are_not_there_are_asked_for_and_never_fetched(tmp_path, monkeypatch):
    with pytest.raises(
        NoDetector, match=f"no file .*nowhere.*{WEIGHTS_NAME}.*libdlib-data.*never downloaded"
    ) as raised:
        find_weights(tmp_path / "nowhere")
    assert "commercial" in str(raised.value)
    monkeypatch.setattr("storage.detector._INSTALLED", tmp_path / "absent")
    with pytest.raises(NoDetector, match="no detector is set up"):
        find_weights()


def test_weights_are_known_by_their_bytes(tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"the same")
    assert find_weights(tmp_path / "a").sha256 == find_weights(str(tmp_path / "b")).sha256
    monkeypatch.setattr("storage.detector._INSTALLED", tmp_path / "a")
    assert find_weights().path == tmp_path / "a"


def test_a_machine_without_dlib_is_told_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(NoDetector, match=re.escape(how_to_get("detect"))):
        LandmarkDetector(Weights(tmp_path / "x", "0" * 64))


def test_the_terms_say_that_commercial_use_is_excluded():
    assert "non-commercial" in LICENCE


@pytest.fixture(scope="module")
def own_weights(tmp_path_factory) -> Weights:
    """A small 68-point model of our own, trained on pictures drawn from the built-in model: no one else's weights."""
    import dlib

    from geometry.landmarks import N_LANDMARKS
    from storage.annotations import read_annotation
    from storage.images import decode_image
    from storage.sources import open_source
    from storage.synthetic import write_sample_folder

    folder = tmp_path_factory.mktemp("detector")
    write_sample_folder(folder / "sample", n_identities=8, n_expressions=1, n_views=1)
    faces, pictures, truths = dlib.get_frontal_face_detector(), [], []
    for item in open_source(folder / "sample").items:
        picture, points = decode_image(item.read_image()), read_annotation(item.annotation_path).landmarks_px
        boxes = faces(picture, 0)
        if item.is_flip or len(boxes) != 1:
            continue
        parts = [dlib.point(round(x), round(y)) for x, y in points[:, :2].tolist()]
        pictures.append(picture)
        truths.append([dlib.full_object_detection(boxes[0], parts)])
    assert len(truths) >= 5
    assert truths[0][0].num_parts == N_LANDMARKS
    options = dlib.shape_predictor_training_options()
    options.tree_depth, options.cascade_depth, options.num_trees_per_cascade_level = 2, 4, 30
    options.oversampling_amount, options.num_threads = 20, 1
    dlib.train_shape_predictor(pictures, truths, options).save(str(folder / "own.dat"))
    return find_weights(folder / "own.dat")


@pytest.mark.detector
def test_the_largest_face_is_found_in_pictures_of_any_size(own_weights):
    import cv2
    import skimage.data

    from storage.sample_photograph import photograph_landmarks_px

    detector = LandmarkDetector(own_weights)
    photograph, truth = skimage.data.astronaut(), photograph_landmarks_px()
    for factor in (0.75, 1.0, 4.0):
        found = detector.detect(cv2.resize(photograph, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA))
        assert found.shape == (68, 2)
        # a model of eight drawn people is no good detector: the face's middle and size are what is asked of it
        assert np.linalg.norm((found / factor - truth).mean(axis=0)) < 0.15 * np.ptp(truth[:, 0])
        assert np.ptp(found[:, 0]) / factor == pytest.approx(np.ptp(truth[:, 0]), rel=0.35)


@pytest.mark.detector
def test_a_picture_without_a_face_is_a_bad_sample(own_weights):
    with pytest.raises(BadSample, match="finds no face"):
        LandmarkDetector(own_weights).detect(np.full((200, 300, 3), 127, dtype=np.uint8))


@pytest.mark.detector
def test_a_file_that_is_no_model_is_named(tmp_path):
    (tmp_path / "x.dat").write_bytes(b"nothing of the kind")
    with pytest.raises(NoDetector, match=r"x\.dat is no shape predictor"):
        LandmarkDetector(find_weights(tmp_path / "x.dat"))
