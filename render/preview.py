"""Pictures for people, drawn from stored samples alone: landmarks, the mesh over the photograph, maps as colours.

Everything here is u8 RGB (H W 3), drawn by OpenCV and our own z-buffer, so the same sample gives the same picture.
"""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int32, UInt8

from render.zbuffer import RasterBuffers, interpolate, rasterize

Picture = UInt8[np.ndarray, "_ _ 3"]

# The open and closed lines that people expect between the 68 points.
_LINES = ((0, 17, False), (17, 22, False), (22, 27, False), (27, 31, False), (31, 36, False),
          (36, 42, True), (42, 48, True), (48, 60, True), (60, 68, True))  # fmt: skip
_GREEN, _RED, _WHITE = (80, 220, 80), (230, 70, 60), (255, 255, 255)
_SUBPIXEL_BITS = 4


def draw_landmarks(picture: Picture, landmarks_px: Float[np.ndarray, "68 d"], *, enlarge: int = 2) -> Picture:
    """The 68 points and their lines on the picture enlarged `enlarge` times; NaN points are left out."""
    canvas = cv2.resize(picture, None, fx=enlarge, fy=enlarge, interpolation=cv2.INTER_LINEAR)
    # The centre of pixel x lies at enlarge·x + (enlarge − 1)/2 in the enlarged picture.
    points = landmarks_px[:, :2] * enlarge + (enlarge - 1) / 2
    known = np.isfinite(points).all(axis=1)
    fixed = np.rint(np.where(known[:, None], points, 0) * 2**_SUBPIXEL_BITS).astype(np.int32)
    for start, stop, closed in _LINES:
        if known[start:stop].all():
            cv2.polylines(canvas, [fixed[start:stop]], closed, _GREEN, 1, cv2.LINE_AA, _SUBPIXEL_BITS)
    for point in fixed[known]:
        cv2.circle(canvas, point.tolist(), enlarge << _SUBPIXEL_BITS, _RED, -1, cv2.LINE_AA, _SUBPIXEL_BITS)
    return canvas


def map_mesh(
    position_map: Float[np.ndarray, "s s 3"], covered: Bool[np.ndarray, "s s"]
) -> tuple[Float[np.ndarray, "v 3"], Int32[np.ndarray, "t 3"]]:
    """A position map as a mesh in crop pixels: its texels are the vertices, two triangles for four covered neighbours."""
    size = len(covered)
    index = np.arange(size * size, dtype=np.int32).reshape(size, size)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    whole = covered[:-1, :-1] & covered[:-1, 1:] & covered[1:, :-1] & covered[1:, 1:]
    triangles = np.concatenate([np.stack(t, axis=-1)[whole] for t in ((a, c, b), (b, c, d))])
    return position_map.reshape(-1, 3), triangles


def raster_of_map(
    position_map: Float[np.ndarray, "s s 3"], covered: Bool[np.ndarray, "s s"]
) -> tuple[RasterBuffers, Int32[np.ndarray, "t 3"]]:
    """What of a position map is seen in its own crop, and the triangles that the buffers refer to."""
    vertices, triangles = map_mesh(position_map, covered)
    return rasterize(vertices, triangles, size_hw=covered.shape, cull=False), triangles


def overlay_mesh(
    picture: Picture,
    position_map: Float[np.ndarray, "s s 3"],
    covered: Bool[np.ndarray, "s s"],
    *,
    strength: float = 0.6,
) -> Picture:
    """The face of the position map, shaded grey, over the picture: a label that is off shows at once."""
    buffers, triangles = raster_of_map(position_map, covered)
    corners = position_map.reshape(-1, 3)[triangles]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(normals, axis=1)
    facing = np.abs(normals[:, 2]) / np.where(length > 0, length, 1)
    seen = buffers.triangle_id >= 0
    shade = 40 + 215 * facing[buffers.triangle_id[seen]]
    drawn = picture.astype(np.float64)
    drawn[seen] = (1 - strength) * drawn[seen] + strength * shade[:, None]
    return np.rint(drawn).astype(np.uint8)


def overlay_values(
    picture: Picture,
    position_map: Float[np.ndarray, "s s 3"],
    covered: Bool[np.ndarray, "s s"],
    values: Float[np.ndarray, "s s"],
) -> Picture:
    """A quantity of the atlas (the weight mask) carried to the picture, in colours from 0 to its maximum."""
    buffers, triangles = raster_of_map(position_map, covered)
    carried = interpolate(buffers, values.reshape(-1, 1).astype(np.float32), triangles)[..., 0]
    colors = color_values(carried / max(float(values.max()), 1e-9))
    seen = (buffers.triangle_id >= 0)[..., None]
    return np.where(seen, (0.35 * picture + 0.65 * colors), picture).astype(np.uint8)


def color_values(values: Float[np.ndarray, "h w"]) -> Picture:
    """Values in [0, 1] in matplotlib's viridis colours."""
    levels = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)


def color_position_map(position_map: Float[np.ndarray, "s s 3"], covered: Bool[np.ndarray, "s s"]) -> Picture:
    """x, y, z over the map's size as red, green, blue; uncovered texels are black."""
    colors = np.clip(position_map / len(position_map), 0, 1) * covered[..., None]
    return np.rint(colors * 255).astype(np.uint8)


PANELS = ("image", "landmarks", "mesh", "position map", "weights")


def sample_panels(
    sample: Mapping[str, np.ndarray], weight_mask: Float[np.ndarray, "s s"], *, side: int
) -> list[Picture]:
    """One picture for each of :data:`PANELS`, `side` × `side`."""
    image, xyz, covered = sample["image"], sample["position_map"], sample["covered"]
    pictures = (
        image,
        draw_landmarks(image, sample["landmarks_px"]),
        overlay_mesh(image, xyz, covered),
        color_position_map(xyz, covered),
        overlay_values(image, xyz, covered, weight_mask),
    )
    return [cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA) for picture in pictures]


def contact_sheet(
    samples: Sequence[Mapping[str, np.ndarray]],
    weight_mask: Float[np.ndarray, "s s"],
    *,
    side: int = 160,
    across: int = 2,
) -> Picture:
    """Samples with their panels, `across` in a row, each under its source id."""
    if not samples:
        raise ValueError("a contact sheet needs at least one sample")
    blocks = [_titled(np.hstack(sample_panels(s, weight_mask, side=side)), str(s["source_id"])) for s in samples]
    blocks += [np.full_like(blocks[0], 255)] * (-len(blocks) % across)
    return np.vstack([np.hstack(blocks[i : i + across]) for i in range(0, len(blocks), across)])


def sample_sheet(
    sample: Mapping[str, np.ndarray], weight_mask: Float[np.ndarray, "s s"], *, side: int = 384
) -> Picture:
    """One sample large: its panels and the weight mask as it lies in the atlas."""
    flat = cv2.resize(
        color_values(weight_mask / max(float(weight_mask.max()), 1e-9)), (side, side), interpolation=cv2.INTER_NEAREST
    )
    panels = [*sample_panels(sample, weight_mask, side=side), flat]
    titles = (*PANELS, "weight mask")
    tiles = [_titled(panel, title) for panel, title in zip(panels, titles, strict=True)]
    return _titled(np.vstack([np.hstack(tiles[:3]), np.hstack(tiles[3:])]), str(sample["source_id"]))


def encode_png(picture: Picture) -> bytes:
    """The picture as a PNG file's bytes."""
    done, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 6])
    if not done:
        raise RuntimeError(f"OpenCV could not encode a picture of shape {picture.shape} as PNG")
    return data.tobytes()


def _titled(picture: Picture, title: str) -> Picture:
    strip = np.full((18, picture.shape[1], 3), 30, dtype=np.uint8)
    # OpenCV's font knows ASCII alone.
    text = title.encode("ascii", "replace").decode()
    cv2.putText(strip, text, (4, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.42, _WHITE, 1, cv2.LINE_AA)
    return np.vstack([strip, picture])
