"""Tables of boxes: read by the picture's path, and a row that means nothing is named."""

import numpy as np
import pytest

from storage.evaluation_boxes import read_boxes

HEADER = "path,left,top,right,bottom\n"


def test_boxes_are_found_by_path_without_suffix_and_by_face(tmp_path):
    (tmp_path / "boxes.csv").write_text("face," + HEADER + ",a/b.jpg,1,2,30,40.5\n1,c.png,5,6,70,80\n")
    found = read_boxes(tmp_path / "boxes.csv")
    assert found.keys() == {"a/b", "c_1"}
    np.testing.assert_array_equal(found["a/b"], [[1, 2, 30, 40.5]])


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (",1,2,3,4", "names no picture"), ("a.jpg,1,2,x,4", "is no number"),
        ("a.jpg,1,2,nan,4", "has no area"), ("a.jpg,5,2,3,4", "has no area"), ("a.jpg,1,2", "3 cells"),
    ],
)  # fmt: skip
def test_a_row_that_means_nothing_is_named(tmp_path, row, words):
    (tmp_path / "boxes.csv").write_text(HEADER + row + "\n")
    with pytest.raises(ValueError, match=rf"boxes\.csv, row 1: .*({words})"):
        read_boxes(tmp_path / "boxes.csv")
