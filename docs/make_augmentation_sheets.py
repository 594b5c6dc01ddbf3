"""Draw the pictures of docs/augmentation.md: every operation, and nine draws of every preset, on a drawn person.

    python docs/make_augmentation_sheets.py

Green points are the landmarks, moved along with the picture.
"""

import sys
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "benchmarks"))
from augmentation_speed import example

from render.augmentation import augment_sample
from render.augmentation_draws import AugmentationDraw, GeometricDraw, OccluderDraw, PhotometricDraw, draw_augmentation
from render.augmentation_presets import PRESETS, as_mixture

TILE, COLUMNS = 128, 9
PICTURES = Path(__file__).parent / "pictures"
OPERATIONS = {
    "as it is": AugmentationDraw(0),
    "rotation": AugmentationDraw(0, GeometricDraw(angle=0.5)),
    "translation": AugmentationDraw(0, GeometricDraw(shift=(0.1, -0.06))),
    "scale": AugmentationDraw(0, GeometricDraw(scale=1.2)),
    "flip": AugmentationDraw(0, GeometricDraw(flip=True)),
    "channel scale": AugmentationDraw(0, photometric=PhotometricDraw(channel_scale=(1.3, 1.0, 0.6))),
    "contrast": AugmentationDraw(0, photometric=PhotometricDraw(contrast=1.6)),
    "brightness": AugmentationDraw(0, photometric=PhotometricDraw(brightness=0.2)),
    "gamma": AugmentationDraw(0, photometric=PhotometricDraw(gamma=1.8)),
    "saturation": AugmentationDraw(0, photometric=PhotometricDraw(saturation=1.8)),
    "grey": AugmentationDraw(0, photometric=PhotometricDraw(saturation=0.0)),
    "blur": AugmentationDraw(0, photometric=PhotometricDraw(blur_px=3.0)),
    "motion blur": AugmentationDraw(0, photometric=PhotometricDraw(motion_px=16.0, motion_angle=0.5)),
    "down-scaling": AugmentationDraw(0, photometric=PhotometricDraw(downscale=0.15)),
    "noise": AugmentationDraw(0, photometric=PhotometricDraw(noise_levels=28.0, noise_seed=3)),
    "JPEG": AugmentationDraw(0, photometric=PhotometricDraw(jpeg_quality=6)),
}
OCCLUDERS = {
    "noise texture": "noise", "shape": "shape", "hand": "hand", "glasses": "glasses", "patch": "patch",
    "on the face:": "", "glasses ": "surface_glasses", "mask ": "surface_mask", "patch ": "surface_patch",
}  # fmt: skip


def main() -> None:
    sample, atlas, landmark_texels = example()

    def augmented(draw: AugmentationDraw, *, labels: bool = False) -> np.ndarray:
        result = augment_sample(sample, draw, atlas=atlas, landmark_texels=landmark_texels)
        picture = np.ascontiguousarray(result["image"])
        if labels:
            for x, y in result["landmarks_px"][:, :2]:
                cv2.circle(picture, (round(float(x) * 16), round(float(y) * 16)), 24, (40, 255, 60), -1, cv2.LINE_AA, 4)
        return cv2.resize(picture, (TILE, TILE), interpolation=cv2.INTER_AREA)

    tiles = {name: augmented(draw, labels=draw.geometric != GeometricDraw()) for name, draw in OPERATIONS.items()}
    for name, kind in OCCLUDERS.items():
        seen = augmented(occluded(kind)) if kind else np.full((TILE, TILE, 3), 255, np.uint8)
        tiles[name] = seen
    tiles["glasses, turned"] = augmented(occluded("surface_glasses", GeometricDraw(angle=-0.6, scale=1.1, flip=True)))
    tiles["mask, turned"] = augmented(occluded("surface_mask", GeometricDraw(angle=-0.6, scale=1.1, flip=True)))
    write("augmentation-operations.jpg", np.vstack(rows_of([titled(name, tile) for name, tile in tiles.items()])))

    rows = []
    for name in PRESETS:
        draws = [
            draw_augmentation(as_mixture(name), seed=1, source_id="a", copy_index=k) for k in range(1, COLUMNS + 1)
        ]
        pictures = [augmented(draw, labels=True) for draw in draws]
        rows.append(np.hstack([titled(name if k == 0 else "", picture) for k, picture in enumerate(pictures)]))
    write("augmentation-presets.jpg", np.vstack(rows))


def occluded(kind: str, geometric: GeometricDraw = GeometricDraw()) -> AugmentationDraw:  # noqa: B008
    occluder = OccluderDraw(kind, (0.45, 0.55), 0.4, 0.3, 0.5, 2)  # type: ignore[arg-type]
    return AugmentationDraw(0, geometric, occluders=(occluder,))


def titled(name: str, picture: np.ndarray) -> np.ndarray:
    title = np.full((16, TILE, 3), 255, np.uint8)
    cv2.putText(title, name, (2, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (30, 30, 30), 1, cv2.LINE_AA)
    return np.vstack([title, picture])


def rows_of(tiles: list[np.ndarray]) -> list[np.ndarray]:
    missing = -len(tiles) % COLUMNS
    tiles = [*tiles, *[np.full_like(tiles[0], 255)] * missing]
    return [np.hstack(tiles[k : k + COLUMNS]) for k in range(0, len(tiles), COLUMNS)]


def write(name: str, sheet: np.ndarray) -> None:
    PICTURES.mkdir(exist_ok=True)
    cv2.imwrite(str(PICTURES / name), sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])


if __name__ == "__main__":
    main()
