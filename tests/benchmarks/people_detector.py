"""Whether a detector that has never seen our renders finds the faces, and its landmarks ours.

    python tests/benchmarks/people_detector.py [--pictures 200] [--side 320] [--weights FILE]

Needs the `detect` extra: dlib's frontal face detector comes with it. Its 68-point model does not
(:mod:`storage.detector`); with `--weights`, or where Debian's libdlib-data has put it, the inner 51 points are compared
too: their mean distance over the root of the area of our 68 points' box. Every person is seen once, |yaw| < 35°.
A face counts as found where the largest box that the detector gives overlaps the 68 points' box (intersection over union
above 0.3). For comparison the folder of `facefoundry sample` may be given.
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np

import storage.people as people
from geometry.landmarks import INNER
from geometry.rotation import yaw_from_rotation
from render.people_config import PRESETS
from storage.bad_sample import BadSample
from storage.detector import LandmarkDetector, NoDetector, find_weights
from storage.jpeg import decode_jpeg, encode_jpeg


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--pictures", type=int, default=200)
    arguments.add_argument("--side", type=int, default=320)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--weights", type=Path)
    arguments.add_argument("--missed", type=Path, help="Folder for the pictures without a found face.")
    given = arguments.parse_args()
    config = PRESETS["people-frontal"]().model_copy(update={"side_px": given.side})
    plan = people.PeoplePlan(config, given.seed, given.pictures, 1, 1, 0.1)
    detector = Detector(given.weights)
    found, errors, missed, aside = 0, [], Counter(), []
    for person in range(given.pictures):
        family = people.draw_family(plan, person, 0)
        shot = people.draw_shot(plan, family, 0)
        jpeg = encode_jpeg(people.draw_picture(plan, family, 0, shot), shot.quality)
        picture, landmarks = np.ascontiguousarray(decode_jpeg(jpeg)), shot.camera.project(family.landmarks)[:, :2]
        box = detector.find(picture, landmarks)
        if box is None:
            outfit = family.person.outfit
            glasses = "no glasses" if outfit.glasses is None else "dark" if family.person.dark_glasses else "clear"
            aside.append(abs(np.degrees(yaw_from_rotation(shot.camera.rotation))))
            missed[outfit.hair.style, glasses] += 1
            if given.missed:
                given.missed.mkdir(parents=True, exist_ok=True)
                (given.missed / f"{person:04d}.jpg").write_bytes(jpeg)
            continue
        found += 1
        if (points := detector.points(picture, box)) is not None:
            side = np.sqrt(np.prod(np.ptp(landmarks, axis=0)))
            errors.append(float(np.linalg.norm(points - landmarks, axis=1)[INNER].mean() / side))
    print(f"faces found: {found} of {given.pictures} ({100 * found / given.pictures:.1f} %)")
    if aside:
        print(f"  missed ones look {np.median(aside):.0f}° aside in the median, the least {min(aside):.0f}°")
    for (hair, glasses), count in missed.most_common():
        print(f"  missed: {count} with hair {hair}, {glasses}")
    if errors:
        print(
            f"inner landmarks: {100 * np.mean(errors):.2f} % of the box on average, {100 * np.median(errors):.2f} % median"
        )
    else:
        print("inner landmarks: not measured, the 68-point model's file is not here")


class Detector:
    """dlib's boxes, and its points where there are weights."""

    def __init__(self, weights: Path | None) -> None:
        import dlib

        self.faces = dlib.get_frontal_face_detector()
        try:
            self.with_points = LandmarkDetector(find_weights(weights))
        except NoDetector as reason:
            print(f"({reason})")
            self.with_points = None

    def find(self, picture: np.ndarray, landmarks: np.ndarray):
        """The largest box, where it lies on the face."""
        boxes = self.faces(picture, 1)
        if not boxes:
            return None
        box = max(boxes, key=lambda box: box.area())
        low, high = landmarks.min(axis=0), landmarks.max(axis=0)
        left, top, right, bottom = box.left(), box.top(), box.right(), box.bottom()
        common = np.clip(np.minimum(high, (right, bottom)) - np.maximum(low, (left, top)), 0, None).prod()
        union = (high - low).prod() + (right - left) * (bottom - top) - common
        return box if common / union > 0.3 else None

    def points(self, picture: np.ndarray, box) -> np.ndarray | None:
        """The 68 points in a box."""
        if self.with_points is None:
            return None
        try:
            return self.with_points.detect(picture)
        except BadSample:
            return None


if __name__ == "__main__":
    main()
