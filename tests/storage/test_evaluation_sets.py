"""Test photographs as they are on disk: units, visibility, subsets, boxes, and what is said of what is missing."""

import csv

import numpy as np
import pytest

from storage.annotations import mat_bytes
from storage.evaluation_boxes import boxes_by_rule, boxes_of_file
from storage.evaluation_sets import bare_name, open_300w, open_aflw2000, open_table
from storage.jpeg import encode_jpeg
from storage.landmark_files import write_pts


@pytest.fixture(scope="module")
def jpeg() -> bytes:
    return encode_jpeg(np.random.default_rng(0).integers(0, 256, (450, 450, 3), dtype=np.uint8))


def put_aflw(folder, jpeg, stem: str, *, yaw: float, pt2d: np.ndarray) -> np.ndarray:
    """One file of AFLW2000-3D's layout; the points as stored."""
    points = np.random.default_rng(len(stem)).uniform(100, 300, (3, 68)).astype(np.float32)
    variables = {
        "pt2d": pt2d,
        "pt3d_68": points,
        "roi": np.array([[1, 1, 450, 450]], dtype=np.int16),
        "Shape_Para": np.zeros((199, 1)),
        "Exp_Para": np.zeros((29, 1), dtype=np.uint8),
        "Pose_Para": np.array([[0.1, yaw, 0.0, 200, 200, 0, 1e-3]], dtype=np.float32),
    }
    folder.mkdir(exist_ok=True)
    (folder / f"{stem}.jpg").write_bytes(jpeg)
    (folder / f"{stem}.mat").write_bytes(mat_bytes(variables))
    return points


def test_aflw2000_counts_from_zero_and_knows_which_of_the_21_points_are_hidden(tmp_path, jpeg):
    pt2d = np.random.default_rng(1).uniform(50, 400, (2, 21))
    pt2d[:, 4] = (-1, 452)  # hidden: y was turned over after the −1 was put there
    pt2d[:, 9] = (300, 452)  # in the picture's lowest margin, and seen
    stored = put_aflw(tmp_path / "a", jpeg, "image00002", yaw=-0.9, pt2d=pt2d)
    found = open_aflw2000(tmp_path / "a")
    (face,) = found.faces
    np.testing.assert_allclose(face.points_px, stored.T - (1, 1, 0), atol=1e-4)
    assert np.flatnonzero(np.isnan(face.aflw_px[:, 0])).tolist() == [4]
    np.testing.assert_allclose(face.aflw_px[9], (299, 451))
    assert face.yaw_deg == pytest.approx(np.degrees(-0.9), abs=1)
    assert found.has_depth
    assert found.notes[0].startswith("1 of the 2000 faces")


def test_aflws_label_is_a_second_yaw(tmp_path, jpeg):
    for stem in ("image00002", "image00004"):
        put_aflw(tmp_path / "a", jpeg, stem, yaw=0.2, pt2d=np.ones((2, 21)))
    table = tmp_path / "yaw.csv"
    table.write_text("path,yaw\nimage00004.jpg,-71.5\n")
    first, second = open_aflw2000(tmp_path / "a", label_yaw=table).faces
    assert np.isnan(first.label_yaw_deg)
    assert second.label_yaw_deg == -71.5
    table.write_text("path,angle\nimage00004.jpg,1\n")
    with pytest.raises(ValueError, match="no columns path and yaw"):
        open_aflw2000(tmp_path / "a", label_yaw=table)


@pytest.fixture(scope="module")
def folder_300w(tmp_path_factory, jpeg):
    root = tmp_path_factory.mktemp("300W")
    points = np.random.default_rng(3).uniform(100, 300, (68, 2))
    for name in (
        "helen/testset/296814969_3", "helen/trainset/100032540_1", "lfpw/testset/image_0001", "ibug/image_003_1",
        "300W/01_Indoor/indoor_001",
    ):  # fmt: skip
        path = root / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg)
        write_pts(path.with_suffix(".pts"), points)
    (root / "ibug/image_004.jpg").write_bytes(jpeg)
    write_pts(root / "ibug/image_004.pts", points[:39])  # Menpo's profiles have 39
    return root


@pytest.mark.parametrize(
    ("subset", "stems"),
    [
        ("common", {"296814969_3", "image_0001"}),
        ("challenging", {"image_003_1"}),
        ("full", {"296814969_3", "image_0001", "image_003_1"}),
        ("private", {"indoor_001"}),
    ],
)
def test_the_subsets_of_300w_are_those_of_the_papers(folder_300w, subset, stems):
    found = open_300w(folder_300w, subset)
    assert {face.source_id.rpartition("/")[2] for face in found.faces} == stems
    assert not found.has_depth
    assert "not comparable" in found.notes[0]
    if subset in ("challenging", "full"):
        assert [(r.source_id, r.code) for r in found.rejected] == [("ibug/image_004", "landmarks.count")]


def test_test_photographs_have_the_names_that_300w_lp_gives_them(folder_300w):
    names = open_300w(folder_300w, "full").photographs
    for trained_on in ("HELEN/HELEN_296814969_3", "LFPW/LFPW_image_test_0001", "IBUG/IBUG_image_003_1"):
        assert bare_name(trained_on) in names
    for other in ("HELEN/HELEN_100032540_1", "LFPW/LFPW_image_train_0001"):
        assert bare_name(other) not in names


def write_csv(path, header: list[str], *rows: list) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def test_a_table_says_the_same_in_rows_of_faces_and_in_rows_of_points(tmp_path, jpeg):
    (tmp_path / "a.jpg").write_bytes(jpeg)
    header = [
        "path",
        "x0",
        "y0",
        "z0",
        "x1",
        "y1",
        "z1",
        "v1",
        "left",
        "top",
        "right",
        "bottom",
        "subject",
        "video",
        "frame",
        "yaw",
    ]
    write_csv(tmp_path / "w.csv", header, ["a.jpg", 1, 2, 3, 4, 5, 6, 0, 0, 0, 9, 9, "ann", "one", 7, -35])
    header = ["path", "point", "x", "y", "z", "v", "left", "top", "right", "bottom", "subject", "video", "frame", "yaw"]
    about = [0, 0, 9, 9, "ann", "one", 7, -35]
    write_csv(tmp_path / "l.csv", header, ["a.jpg", 1, 4, 5, 6, 0, *about], ["a.jpg", 0, 1, 2, 3, "", *about])
    for name in ("w.csv", "l.csv"):
        (face,) = open_table(tmp_path / name, tmp_path).faces
        np.testing.assert_array_equal(face.points_px, [[1, 2, 3], [4, 5, 6]])
        assert face.visible.tolist() == [True, False]
        np.testing.assert_array_equal(face.box_px, [0, 0, 9, 9])
        assert (face.subject, face.video, face.frame, face.yaw_deg) == ("ann", "one", 7, -35)


def test_a_bad_row_is_listed_and_the_others_are_read(tmp_path, jpeg):
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.jpg").write_bytes(jpeg)
    write_csv(
        tmp_path / "t.csv",
        ["path", "x0", "y0", "left", "top", "right", "bottom"],
        ["a.jpg", 1, 2, 0, 0, 5, 5],
        ["b.jpg", "one", 2, 0, 0, 5, 5],
        ["c.jpg", 1, 2, 5, 0, 0, 5],
        ["missing.jpg", 1, 2, 0, 0, 5, 5],
    )
    found = open_table(tmp_path / "t.csv", tmp_path)
    assert [face.source_id for face in found.faces] == ["a"]
    assert {r.source_id: r.code for r in found.rejected} == {
        "b": "table.number", "c": "boxes.range", "missing": "source.no_image",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("picture,x0,y0\na.jpg,1,2\n", "has no column path"),
        ("path,x0\na.jpg,1\n", "has no column y0"),
        ("path,x0,y0,x2,y2\na.jpg,1,2,3,4\n", "has no column x1"),
    ],
)
def test_a_table_of_something_else_is_refused(tmp_path, text, sentence):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ValueError, match=sentence):
        open_table(tmp_path / "t.csv", tmp_path)


def test_every_rule_for_boxes_says_where_they_come_from(folder_300w, tmp_path):
    faces = open_300w(folder_300w, "full").faces
    truth = boxes_by_rule(faces, "truth")
    assert truth.source == "tight boxes of the true points"
    low, high = faces[0].points_px[:, :2].min(axis=0), faces[0].points_px[:, :2].max(axis=0)
    np.testing.assert_allclose(truth.boxes_px[0], [*low, *high])
    middle = boxes_by_rule(faces, "centre-46").boxes_px[0]
    np.testing.assert_allclose(middle[2:] - middle[:2], 0.46 * 450)
    np.testing.assert_allclose((middle[:2] + middle[2:]) / 2, 224.5)
    assert boxes_by_rule(faces, "table").boxes_px == (None, None, None)
    (tmp_path / "boxes.csv").write_text("path,left,top,right,bottom\nibug/image_003_1.jpg,10,20,30,40\n")
    given = boxes_of_file(faces, tmp_path / "boxes.csv")
    assert given.source == "the file boxes.csv"
    assert [None if box is None else box.tolist() for box in given.boxes_px] == [None, [10, 20, 30, 40], None]
    (tmp_path / "boxes.csv").write_text("path,left,top,right,bottom\nother.jpg,10,20,30,40\n")
    with pytest.raises(ValueError, match="has boxes of 1 pictures and none of"):
        boxes_of_file(faces, tmp_path / "boxes.csv")
