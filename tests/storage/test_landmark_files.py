"""Landmark files: what their numbers mean, and that a bad one is a sentence."""

import io
import json

import numpy as np
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st

from geometry.landmarks import MIRROR
from storage.bad_sample import BadSample
from storage.landmark_files import landmarks_from_files, read_landmarks, write_pts
from storage.mat_reader import MatReader

POINTS = np.random.default_rng(4).uniform(20, 400, (68, 2))


def pts(points: np.ndarray = POINTS, *, header: str = "version: 1\nn_points:  68\n") -> str:
    return header + "{\n" + "".join(f"{x!r} {y!r}\n" for x, y in points.tolist()) + "}\n"


def mat(**variables: np.ndarray) -> bytes:
    stream = io.BytesIO()
    scipy.io.savemat(stream, variables)
    return stream.getvalue()


def put(folder, name: str, content: str | bytes):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def complaint(path, **options) -> BadSample:
    with pytest.raises(BadSample) as raised:
        read_landmarks(path, **options)
    assert str(path) in raised.value.sentence
    return raised.value


# --- what is read ---


def test_pts_files_count_from_one_as_matlab_does(tmp_path):
    """The first pixel's centre is (1, 1) in a 300W file and (0, 0) here."""
    corner = POINTS.copy()
    corner[0] = 1.0, 1.0
    read = read_landmarks(put(tmp_path, "x.pts", pts(corner)))
    np.testing.assert_array_equal(read[0], [0.0, 0.0])
    np.testing.assert_allclose(read, corner - 1, rtol=1e-15)


def test_mat_files_count_from_one_and_json_from_zero(tmp_path):
    from_mat = read_landmarks(put(tmp_path, "x_0.mat", mat(pt2d=POINTS.T)))
    np.testing.assert_array_equal(from_mat, POINTS - 1)
    for content in ({"landmarks_px": POINTS.tolist(), "note": "mine"}, POINTS.tolist()):
        np.testing.assert_array_equal(read_landmarks(put(tmp_path, "x.json", json.dumps(content))), POINTS)


def test_a_mirrored_mat_file_gives_its_points_their_new_names(tmp_path):
    read = read_landmarks(put(tmp_path, "x_Flip_0.mat", mat(pt2d=POINTS.T)))
    np.testing.assert_array_equal(read, POINTS[MIRROR] - 1)


def test_aflw2000_files_give_their_68_points_or_the_21_that_are_visible(tmp_path):
    seen = POINTS[:21].copy()
    seen[4] = -1
    projected = np.vstack([POINTS.T, np.zeros(68)])
    path = put(tmp_path, "image00002.mat", mat(pt2d=seen.T, pt3d_68=projected))
    np.testing.assert_array_equal(read_landmarks(path), POINTS - 1)
    read = read_landmarks(path, n_points=21)
    assert np.isnan(read[4]).all()
    np.testing.assert_array_equal(np.delete(read, 4, axis=0), np.delete(seen, 4, axis=0) - 1)


@pytest.mark.parametrize(
    "text",
    [
        pts().replace("\n", "\r\n"),
        "\ufeff" + pts(),
        pts(header="version: 1.0\n\n// placed by hand\nn_points: 68\n"),
        pts().replace("\n{", "\n\n{"),
        pts().rstrip("\n"),
    ],
)
def test_pts_files_of_all_hands_are_read_alike(tmp_path, text):
    np.testing.assert_allclose(read_landmarks(put(tmp_path, "x.pts", text)), POINTS - 1, rtol=1e-15)


def test_a_missing_point_is_nan_in_every_format(tmp_path):
    holed = POINTS.copy()
    holed[7] = np.nan
    as_json = holed.tolist()
    as_json[7] = None
    as_json[8] = [None, 3.0]  # half a point is none
    read = read_landmarks(put(tmp_path, "x.json", json.dumps(as_json)))
    assert np.flatnonzero(np.isnan(read).any(axis=1)).tolist() == [7, 8]
    assert np.isnan(read[8]).all()
    assert np.isnan(read_landmarks(put(tmp_path, "x.pts", pts(holed)))[7]).all()


@given(st.lists(st.tuples(*[st.floats(-2000, 6000)] * 2), min_size=4, max_size=9))
def test_written_pts_files_come_back(tmp_path_factory, points):
    path = tmp_path_factory.mktemp("pts") / "x.pts"
    write_pts(path, np.array(points))
    np.testing.assert_allclose(read_landmarks(path, n_points=len(points)), points, atol=1e-6)


def test_many_files_are_read_in_order_and_bad_ones_stay_values():
    contents = [
        pts().encode(),
        mat(pt2d=POINTS.T),
        b"{}",
        mat(pt2d=POINTS.T)[:150],
        json.dumps(POINTS.tolist()).encode(),
    ]
    with MatReader() as reader:
        read = landmarks_from_files(
            ["a.pts", "b_0.mat", "c.json", "d_0.mat", "e.json"], contents, n_points=68, reader=reader
        )
    np.testing.assert_allclose(read[0], read[1])
    np.testing.assert_array_equal(read[4], POINTS)
    assert [bad.code for bad in read[2:4]] == ["json.shape", "mat.truncated"]


# --- what is refused ---


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("", "file.empty", "empty"),
        ("hello", "pts.header", "'hello'"),
        ("version: 1\n{\n1 2\n}\n", "pts.header", "n_points"),
        (pts(POINTS[:67]), "pts.truncated", "announces 68 points and 67 follow"),
        (pts().replace("}", ""), "pts.truncated", "without }"),
        (pts(POINTS[:67], header="version: 1\nn_points: 67\n"), "landmarks.count", "67 points where 68"),
        (pts(POINTS[:51], header="version: 1\nn_points: 51\n"), "landmarks.count", "inner-51"),
        (pts().replace(repr(POINTS[3, 0].item()), "many"), "pts.number", "point 4 reads 'many"),
        (pts().replace(repr(POINTS[3, 0].item()), "inf"), "landmarks.range", "inf"),
        (pts().replace(repr(POINTS[3, 0].item()), "1 2"), "pts.number", "point 4"),
        (pts(np.full((68, 2), np.nan)), "landmarks.unknown", "none of the points"),
    ],
)
def test_a_bad_pts_file_is_one_sentence(tmp_path, text, code, says):
    bad = complaint(put(tmp_path, "x.pts", text))
    assert bad.code == code
    assert says in bad.sentence


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("{", "json.syntax"),
        ("[" * 100_000, "json.syntax"),
        ('{"points": []}', "json.shape"),
        ('{"version": 2, "landmarks": {"points": [[1, 2]]}}', "json.shape"),  # menpo's .ljson: y before x
        (json.dumps([[1, 2, 3]] * 68), "json.shape"),
        (json.dumps([[1, "2"]] * 68), "json.shape"),
        (json.dumps([[True, False]] * 68), "json.shape"),
        ("[" + ", ".join(["[1e999, 2]"] * 68) + "]", "landmarks.range"),
        ("[" + ", ".join([f"[1{'0' * 400}, 2]"] * 68) + "]", "landmarks.range"),
        (json.dumps(POINTS[:67].tolist()), "landmarks.count"),
        (b"\xff\xfe{", "json.text"),
    ],
)
def test_a_bad_json_file_is_one_sentence(tmp_path, content, code):
    assert complaint(put(tmp_path, "x.json", content)).code == code


def test_a_mat_file_without_landmarks_of_its_own_says_why(tmp_path):
    turned = complaint(put(tmp_path, "x_3.mat", mat(pt2d=POINTS.T)))  # pt2d of a turned view is the _0 file's
    assert turned.code == "landmarks.unknown"
    assert "turned view" in turned.sentence
    assert complaint(put(tmp_path, "y_0.mat", mat(roi=np.ones((1, 4))))).code == "landmarks.unknown"
    assert complaint(put(tmp_path, "z_0.mat", mat(pt2d=POINTS[:67].T))).code == "mat.shape"
    assert complaint(put(tmp_path, "z_0.mat", mat(pt2d=POINTS[:20].T)), n_points=21).code == "mat.shape"
    assert complaint(put(tmp_path, "t.txt", "1 2")).code == "landmarks.format"
