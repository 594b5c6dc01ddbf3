"""The usual way to PRNet's training data, as its public recipes go about it, written afresh as a baseline.

One picture after another: read the annotation with SciPy, make every vertex by a matrix–vector product in float32, turn
and project, crop with scikit-image in floats, rasterise the UV map anew for each picture with compiled loops (bounding
boxes, floating-point barycentrics, a depth test), then write the map as `.npy` and two JPEGs.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import scipy.io
import skimage.io
import skimage.transform
from numba import njit

from geometry.morphable_model import DenseModel
from geometry.rotation import rotation_from_euler


@njit(cache=True)
def render_colors(texel, triangles, values, size):
    """The values of the first triangle over each texel, as a compiled loop does it."""
    image = np.zeros((size, size, 3), dtype=np.float32)
    depth = np.full((size, size), -1e30, dtype=np.float32)
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay, bx, by, cx, cy = texel[a, 0], texel[a, 1], texel[b, 0], texel[b, 1], texel[c, 0], texel[c, 1]
        x0, x1 = max(int(np.ceil(min(ax, bx, cx))), 0), min(int(np.floor(max(ax, bx, cx))), size - 1)
        y0, y1 = max(int(np.ceil(min(ay, by, cy))), 0), min(int(np.floor(max(ay, by, cy))), size - 1)
        for y in range(y0, y1 + 1):
            for x in range(x0, x1 + 1):
                v0x, v0y, v1x, v1y, v2x, v2y = cx - ax, cy - ay, bx - ax, by - ay, x - ax, y - ay
                d00, d01, d02 = v0x * v0x + v0y * v0y, v0x * v1x + v0y * v1y, v0x * v2x + v0y * v2y
                d11, d12 = v1x * v1x + v1y * v1y, v1x * v2x + v1y * v2y
                scale = d00 * d11 - d01 * d01
                inverse = 0.0 if scale == 0 else 1.0 / scale
                u, v = (d11 * d02 - d01 * d12) * inverse, (d00 * d12 - d01 * d02) * inverse
                on_border = x < 2 or x > size - 3 or y < 2 or y > size - 3
                if not on_border and not (u >= 0 and v >= 0 and u + v < 1):
                    continue
                if depth[y, x] < 0.0:
                    depth[y, x] = 0.0
                    for k in range(3):
                        image[y, x, k] = (1 - u - v) * values[a, k] + v * values[b, k] + u * values[c, k]
    return image


@dataclass(frozen=True)
class UsualRecipe:
    """The tables that such a script loads once: mean and bases as columns, UV in texels, landmarks."""

    mean: np.ndarray
    identity: np.ndarray
    expression: np.ndarray
    triangles: np.ndarray
    texel: np.ndarray
    landmarks: np.ndarray
    size: int

    @classmethod
    def of(cls, model: DenseModel, size: int = 256) -> "UsualRecipe":
        texel = model.uv.copy()
        texel[:, 0] *= size - 1
        texel[:, 1] = size - texel[:, 1] * (size - 1) - 1
        return cls(
            model.mean.reshape(-1, 1),
            np.asfortranarray(model.identity_basis.T),
            np.asfortranarray(model.expression_basis.T),
            np.concatenate([model.triangles, model.closing_triangles]),
            texel.astype(np.float32),
            model.landmark_vertices,
            size,
        )

    def sample(self, picture: Path, out: Path) -> None:
        """One sample, from files to files."""
        image = skimage.io.imread(picture) / 255.0
        info = scipy.io.loadmat(picture.with_suffix(".mat"))
        height = image.shape[0]
        pitch, yaw, roll, tx, ty, tz, f = info["Pose_Para"][0].astype(np.float32)
        shape, expression = (info[key].astype(np.float32) for key in ("Shape_Para", "Exp_Para"))
        vertices = (self.mean + self.identity @ shape + self.expression @ expression).reshape(-1, 3)
        rotation = rotation_from_euler(pitch, yaw, roll).astype(np.float32)
        projected = 1000 * f * vertices @ rotation.T + np.array([tx, ty, tz], dtype=np.float32)
        placed = projected.copy()
        placed[:, 1] = height - placed[:, 1] - 1

        points = placed[self.landmarks, :2].astype(np.int32)
        left, top, right, bottom = *points.min(axis=0), *points.max(axis=0)
        centre = np.array([right - (right - left) / 2.0, bottom - (bottom - top) / 2.0])
        side = int((right - left + bottom - top) / 2 * 1.5)
        corners = np.stack([centre - side / 2, centre + [-side / 2, side / 2], centre + [side / 2, -side / 2]])
        goal = np.array([[0, 0], [0, self.size - 1], [self.size - 1, 0]])
        similarity = skimage.transform.SimilarityTransform.from_estimate(corners, goal)
        cropped = skimage.transform.warp(image, similarity.inverse, output_shape=(self.size, self.size))

        position = placed.copy()
        position[:, 2] = 1
        position = (position @ similarity.params.T).astype(np.float32)
        position[:, 2] = placed[:, 2] * similarity.params[0, 0]
        position[:, 2] -= position[:, 2].min()
        uv_map = render_colors(self.texel, self.triangles, position, self.size)

        skimage.io.imsave(
            out / f"{picture.stem}.jpg", (np.clip(cropped, 0, 1) * 255).astype(np.uint8), check_contrast=False
        )
        np.save(out / f"{picture.stem}.npy", uv_map)
        preview = np.clip(uv_map / uv_map.max(), 0, 1)
        skimage.io.imsave(out / f"{picture.stem}_posmap.jpg", (preview * 255).astype(np.uint8), check_contrast=False)


def run(pictures: list[Path], out: Path, recipe: UsualRecipe) -> None:
    """All pictures, one after another."""
    cv2.setNumThreads(1)
    out.mkdir(parents=True, exist_ok=True)
    for picture in pictures:
        recipe.sample(picture, out)
