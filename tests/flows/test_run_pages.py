"""What runs put on the server's pages, without a server: names that Prefect takes, pictures that carry their bytes."""

import base64
import re

import cv2
import numpy as np
import pytest

from flows import run_pages
from flows.build import CONTACT_SHEET_KEY, Published, ShardOutcome
from flows.run_pages import artifact_key, picture_in_page, show_build, show_folder
from render.preview import encode_png


@pytest.fixture
def shown(monkeypatch) -> dict[str, object]:
    """Artifacts by key, kept instead of sent."""
    kept: dict[str, object] = {}
    monkeypatch.setattr(
        run_pages, "create_markdown_artifact", lambda text, *, key, description: kept.update({key: text})
    )
    monkeypatch.setattr(run_pages, "create_table_artifact", lambda rows, *, key, description: kept.update({key: rows}))
    return kept


def picture(text: str) -> np.ndarray:
    """The first picture of a page."""
    data = re.search(r"!\[[^]]*\]\(data:image/webp;base64,([A-Za-z0-9+/=]+)\)", text)[1]
    return cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR_RGB)


@pytest.mark.parametrize(
    ("words", "key"),
    [(("300wlp-posmaps", "summary"), "300wlp-posmaps-summary"), (("Faces_2", "rejected"), "faces-2-rejected")],
)
def test_a_data_set_of_any_allowed_name_has_artifacts(words, key):
    """Prefect refuses capitals and underscores, at the end of a build."""
    assert artifact_key(*words) == key


def test_large_pictures_are_brought_to_a_width_that_a_database_bears_and_small_ones_stay():
    wide = np.zeros((300, 3000, 3), np.uint8)
    wide[:, 1500:] = 255
    small = picture(picture_in_page(wide, "sheet"))
    assert small.shape == (100, 1000, 3)
    assert (small[:, 100].max(), small[:, 900].min()) == (0, 255)  # neither turned nor mirrored
    assert picture(picture_in_page(wide[:, :200], "sheet")).shape == (300, 200, 3)


def test_the_page_of_a_build_counts_and_the_table_says_why_samples_are_missing(shown, tmp_path):
    (tmp_path / CONTACT_SHEET_KEY).write_bytes(encode_png(np.full((20, 40, 3), 99, np.uint8)))
    outcomes = [
        ShardOutcome(0, 2, (("a", "image.corrupt", "cut off"), ("b", "mat.shape", "three columns"))),
        ShardOutcome(1, 3, (("c", "image.corrupt", "no picture"),)),
    ]
    published = Published("Faces_2", "0123456789abcdef", tmp_path, samples=5, rejected=3, statistics={})
    show_build(published, outcomes)
    page, table = shown["faces-2-summary"], shown["faces-2-rejected"]
    assert "# Faces_2 0123456789abcdef" in page
    assert "| samples | 5 |" in page
    assert (tmp_path / "card.html").as_uri() in page
    assert picture(page).shape == (20, 40, 3)
    assert table == [
        {"reason": "image.corrupt", "samples": 2, "first": "a", "why": "cut off"},
        {"reason": "mat.shape", "samples": 1, "first": "b", "why": "three columns"},
    ]


def test_a_build_without_rejected_samples_has_no_table_of_them(shown, tmp_path):
    (tmp_path / CONTACT_SHEET_KEY).write_bytes(encode_png(np.full((20, 40, 3), 99, np.uint8)))
    show_build(Published("faces", "0", tmp_path, 1, 0, {}), [ShardOutcome(0, 1, ())])
    assert list(shown) == ["faces-summary"]


def test_the_page_of_a_folder_shows_its_first_and_last_pictures(shown, tmp_path):
    paths = [tmp_path / f"{number:02}.png" for number in range(60)]
    for number, path in enumerate(paths):
        path.write_bytes(encode_png(np.full((8, 8, 3), 4 * number, np.uint8)))
    show_folder({"pictures": 60}, paths, key="profiles-summary", description="60 pictures")
    sheet = picture(shown["profiles-summary"])
    assert abs(int(sheet[10, 10, 0]) - 0) <= 2
    assert abs(int(sheet[-10, -10, 0]) - 4 * 59) <= 2


def test_outside_of_a_run_nothing_is_named():
    """The flows' plain functions are called without Prefect too."""
    run_pages.name_run("nobody", "tag")
