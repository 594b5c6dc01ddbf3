"""Drawn ears: one seed, one set of bytes; landmarks and truth belong to the picture."""

import json

import numpy as np
import pytest

from render.correspondence import CorrespondenceField
from render.ear_field import flat_ear
from storage.ear_sample import DrawnEar, draw_ear, write_ear_folder
from storage.landmark_files import read_landmarks
from storage.synthetic import MARKER_NAME


@pytest.fixture(scope="module")
def ears() -> list[tuple[DrawnEar, CorrespondenceField]]:
    return [(ear, ear.true_field()) for ear in (draw_ear(7, number) for number in range(4))]


def test_right_and_left_ears_come_in_turn_and_are_seen_from_their_side(ears):
    assert [ear.side for ear, _ in ears] == ["right", "left"] * 2
    for ear, _ in ears:
        assert np.sign(ear.yaw) == (1 if ear.side == "left" else -1)
        assert np.radians(50) <= abs(ear.yaw) <= np.radians(130)
        assert flat_ear().side(ear.landmarks_px) == ear.side


def test_the_ear_lies_inside_its_picture(ears):
    for ear, _ in ears:
        low, high = ear.landmarks_px.min(axis=0), ear.landmarks_px.max(axis=0)
        assert low.min() > 10
        assert high.max() < len(ear.picture) - 10
        assert 0.4 * 256 - 1 < (high - low).max() < 0.64 * 256 + 1


def test_the_true_field_has_the_landmarks_where_they_are_drawn(ears):
    # hidden ones show something else, and the outline lies on the rim
    off = []
    for ear, truth in ears:
        x, y = np.rint(ear.landmarks_px).astype(int).T
        on_ear = truth.is_face[y, x]
        off.append(np.linalg.norm(truth.uv[y, x] - flat_ear().landmarks_uv, axis=1)[on_ear])
        assert on_ear.mean() > 0.8
    assert np.median(np.concatenate(off)) < 0.006  # half a pixel of 150


def test_the_splines_field_is_near_the_truth(ears):
    for ear, truth in ears:
        found = flat_ear().field(ear.landmarks_px, size_hw=truth.label.shape).field
        both = found.is_face & truth.is_face
        assert both.sum() > 0.97 * found.is_face.sum()  # the template goes on beyond the outline
        off = np.linalg.norm(found.uv - truth.uv, axis=-1)[both]
        assert np.median(off) < 0.02
        assert (found.part == truth.part)[both].mean() > 0.85


def test_an_ear_depends_on_its_seed_and_number_alone(tmp_path, ears):
    again = draw_ear(7, 2)
    np.testing.assert_array_equal(again.picture, ears[2][0].picture)
    np.testing.assert_array_equal(again.landmarks_px, ears[2][0].landmarks_px)
    assert (draw_ear(8, 2).picture != again.picture).any()


def test_a_folder_is_written_once_and_the_same_again(tmp_path, ears):
    record = write_ear_folder(tmp_path / "one", seed=7, n_ears=2)
    write_ear_folder(tmp_path / "more", seed=7, n_ears=3)
    for ear, _ in ears[:2]:
        path = tmp_path / "one" / f"{ear.name}.pts"
        np.testing.assert_allclose(read_landmarks(path, n_points=55), ear.landmarks_px, atol=1e-6)
        for suffix in (".pts", ".jpg"):
            same = (tmp_path / "more" / path.name).with_suffix(suffix)
            assert path.with_suffix(suffix).read_bytes() == same.read_bytes()
    assert json.loads((tmp_path / "one" / MARKER_NAME).read_text())["pictures"] == record.pictures == 2
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "one").iterdir()}
    write_ear_folder(tmp_path / "one", seed=7, n_ears=2)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "one").iterdir()} == before


def test_an_interrupted_folder_is_finished(tmp_path):
    write_ear_folder(tmp_path, seed=7, n_ears=2)
    whole = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    (tmp_path / MARKER_NAME).rename(tmp_path / "sample.unfinished.json")
    (tmp_path / "ear_00000_right.jpg.77.partial").write_bytes(b"half")
    (tmp_path / "ear_00001_left.pts").unlink()
    write_ear_folder(tmp_path, seed=7, n_ears=2)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == whole


def test_a_folder_of_other_ears_is_left_alone(tmp_path):
    write_ear_folder(tmp_path, seed=7, n_ears=1)
    with pytest.raises(ValueError, match=r"another sample than the one asked for \(there .seed.: 7"):
        write_ear_folder(tmp_path, seed=8, n_ears=1)


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"no sample set \(holiday.jpg lies in it"):
        write_ear_folder(tmp_path, n_ears=1)


def test_no_ears_are_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one"):
        write_ear_folder(tmp_path, n_ears=0)
