"""How much drawn people's faces differ from each other, beside those of photographs. Not collected by pytest.

    python tests/benchmarks/people_spread.py PEOPLE [--photographs AFLW2000] [--faces 160]

PEOPLE is what `facefoundry people` wrote, AFLW2000 a folder with AFLW2000-3D's files. Of each set the mean of the 68 points in
space, all faces brought together by similarities (generalised Procrustes analysis); then what each face is away from that mean
after the best similarity, over √(w·h) of its points' box: what a mean shape of the set in its true pose would have for
`nme_bbox`. A mean of few faces is nearer to them than one of many, so drawn people are taken as many at a time as there
are photographs.
"""

import argparse
from pathlib import Path

import numpy as np
from jaxtyping import Float

from geometry import load_model
from geometry.morphable_model import SurfacePoints
from storage.annotations import read_annotation
from storage.evaluation_sets import open_aflw2000
from train.metrics import moved_onto
from train.shape_model import procrustes_mean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("people")
    parser.add_argument("--photographs")
    parser.add_argument("--faces", type=int, default=160)
    wanted = parser.parse_args()
    drawn = drawn_faces(Path(wanted.people), wanted.faces)
    at_a_time = len(drawn)
    if wanted.photographs is not None:
        photographs = np.stack([face.points_px for face in open_aflw2000(wanted.photographs).faces])
        at_a_time = min(len(photographs), len(drawn))
        print(f"{len(photographs)} photographs: {100 * away_from_mean(photographs).mean():.2f} %")
    groups = [drawn[i : i + at_a_time] for i in range(0, len(drawn) - at_a_time + 1, at_a_time)]
    each = 100 * np.array([away_from_mean(group).mean() for group in groups])
    print(f"{len(groups)} times {at_a_time} drawn people: {each.mean():.2f} % ± {each.std():.2f}")
    print(f"{len(drawn)} drawn people: {100 * away_from_mean(drawn).mean():.2f} %")


def drawn_faces(people: Path, n_faces: int) -> Float[np.ndarray, "n 68 3"]:
    """Points of the model in pixels, of pictures spread over the folder in a shuffled order."""
    model = load_model("built-in")
    rows = model.rows(SurfacePoints.at_vertices(model.landmark_vertices))
    files = sorted(people.rglob("*.mat"))
    chosen = np.random.default_rng(0).permutation(len(files))[:n_faces]
    annotations = [read_annotation(files[i]) for i in chosen]
    return np.stack([a.camera.project(rows.positions(a.coefficients)) for a in annotations])


def away_from_mean(faces: Float[np.ndarray, "n 68 3"]) -> Float[np.ndarray, " n"]:
    """Mean distance in the picture from the set's mean after the best similarity, over √(w·h) of the face's own box."""
    mean, _ = procrustes_mean(faces)
    boxes = np.sqrt(np.ptp(faces[..., :2], axis=1).prod(axis=1))
    off = [np.linalg.norm((moved_onto(mean, face) - face)[:, :2], axis=1).mean() for face in faces]
    return np.array(off) / boxes


if __name__ == "__main__":
    main()
