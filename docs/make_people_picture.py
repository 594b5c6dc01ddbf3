"""Draws the picture of rendered-people.md; needs the render extra for its last row.

python docs/make_people_picture.py
"""

from pathlib import Path

import numpy as np

from render.people_config import PRESETS
from render.preview import draw_landmarks
from storage.jpeg import encode_jpeg
from storage.people import PeoplePlan, draw_family, draw_picture, draw_shot

SIDE, COLUMNS = 170, 7
CHOSEN = (0, 2, 3, 6, 7, 12, 13)  # of the first row: one of every hair-like cap


def main() -> None:
    rows = [
        [drawn("people", person, 1)[0] for person in CHOSEN],
        [drawn("people", person, 2)[0] for person in (4, 5, 8, 9, 10, 11, 14)],
        [with_landmarks("people-large-pose", 5, view) for view in range(COLUMNS)],
        [drawn("people-physical", person, 3)[0] for person in (1, 4, 6, 8, 9, 10, 13)],
    ]
    sheet = np.vstack([np.hstack(row) for row in rows])
    (Path(__file__).parent / "pictures" / "rendered-people.jpg").write_bytes(encode_jpeg(sheet))


def drawn(preset: str, person: int, view: int) -> tuple[np.ndarray, np.ndarray]:
    plan = PeoplePlan(PRESETS[preset]().model_copy(update={"side_px": SIDE}), 1, 20, 1, 10, 0.1)
    family = draw_family(plan, person, 0)
    shot = draw_shot(plan, family, view)
    return draw_picture(plan, family, view, shot), shot.camera.project(family.landmarks)


def with_landmarks(preset: str, person: int, view: int) -> np.ndarray:
    picture, landmarks = drawn(preset, person, view)
    return draw_landmarks(picture, landmarks[:, :2].astype(np.float64), enlarge=1)


if __name__ == "__main__":
    main()
