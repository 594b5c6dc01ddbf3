"""Pictures for people, drawn from stored samples alone: landmarks, the mesh over the photograph, maps as colours.

Everything here is u8 RGB (H W 3), drawn by OpenCV and our own z-buffer, so the same sample gives the same picture.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int32, UInt8

from geometry.mesh import vertex_normals
from render.zbuffer import RasterBuffers, interpolate, rasterize

Picture = UInt8[np.ndarray, "_ _ 3"]

# The open and closed lines that people expect between the 68 points.
_LINES = ((0, 17, False), (17, 22, False), (22, 27, False), (27, 31, False), (31, 36, False),
          (36, 42, True), (42, 48, True), (48, 60, True), (60, 68, True))  # fmt: skip
_GREEN, _RED, _WHITE = (80, 220, 80), (255, 40, 40), (255, 255, 255)
_LETTERS, _SMALLEST_LETTERS = 0.42, 0.3
_SUBPIXEL_BITS = 4
_DOT_RADIUS = 1 / 150
"""Of the picture's side, but at least 1.2 px: less is not seen."""


def draw_landmarks(
    picture: Picture,
    landmarks_px: Float[np.ndarray, "68 d"],
    *,
    enlarge: float | int = 2,
    crop_px: float | int | None = None,
) -> Picture:
    """The 68 points and their lines on the picture enlarged `enlarge` times; NaN points are left out.

    Dots are as large as they are in a crop of side `crop_px`, the whole picture unless told otherwise.
    """
    height, width = picture.shape[:2]
    drawn_wh = (max(round(width * enlarge), 1), max(round(height * enlarge), 1))
    smooth = cv2.INTER_LINEAR if enlarge >= 1 else cv2.INTER_AREA
    canvas = cv2.resize(picture, drawn_wh, interpolation=smooth)
    # Pixel x reaches from x − ½ to x + ½, before and after: its centre goes to (x + ½)·factor − ½.
    points = (landmarks_px[:, :2] + 0.5) * (np.array(drawn_wh) / (width, height)) - 0.5
    known = np.asarray(np.isfinite(points).all(axis=1))
    fixed = np.rint(np.where(known[:, None], points, 0) * 2**_SUBPIXEL_BITS).astype(np.int32)
    for start, stop, closed in _LINES:
        if known[start:stop].all():
            cv2.polylines(canvas, [fixed[start:stop]], closed, _GREEN, 1, cv2.LINE_AA, _SUBPIXEL_BITS)
    side_px = max(drawn_wh) if crop_px is None else crop_px * enlarge
    radius = round(max(_DOT_RADIUS * side_px, 1.2) * 2**_SUBPIXEL_BITS)
    for point in fixed[known]:
        cv2.circle(canvas, point.tolist(), radius, _RED, -1, cv2.LINE_AA, _SUBPIXEL_BITS)
    return canvas


def map_mesh(
    position_map: Float[np.ndarray, "s s 3"], covered: Bool[np.ndarray, "s s"]
) -> tuple[Float[np.ndarray, "v 3"], Int32[np.ndarray, "t 3"]]:
    """A position map as a mesh in crop pixels: texels are vertices, two triangles for four covered neighbours."""
    return position_map.reshape(-1, 3), _map_triangles(covered.tobytes(), len(covered)).copy()


@lru_cache(maxsize=4)  # the maps of a data set cover the same texels
def _map_triangles(covered_bytes: bytes, size: int) -> Int32[np.ndarray, "t 3"]:
    covered = np.frombuffer(covered_bytes, bool).reshape(size, size)
    index = np.arange(size * size, dtype=np.int32).reshape(size, size)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    whole = covered[:-1, :-1] & covered[:-1, 1:] & covered[1:, :-1] & covered[1:, 1:]
    return np.concatenate([np.stack(t, axis=-1)[whole] for t in ((a, c, b), (b, c, d))])


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
    return _shaded(picture, position_map, buffers, triangles, strength)


def _shaded(
    picture: Picture, position_map: np.ndarray, buffers: RasterBuffers, triangles: np.ndarray, strength: float
) -> Picture:
    # Normals of vertices, not of triangles: where texels are narrower than the stored 1/64 px those are noise.
    toward_viewer = np.abs(vertex_normals(position_map.reshape(-1, 3), triangles)[:, 2:])
    facing = interpolate(buffers, toward_viewer.astype(np.float32), triangles)
    drawn = (1 - strength) * picture + strength * (40 + 215 * facing)
    return np.where(buffers.covered[..., None], np.rint(drawn), picture).astype(np.uint8)


def overlay_values(
    picture: Picture,
    position_map: Float[np.ndarray, "s s 3"],
    covered: Bool[np.ndarray, "s s"],
    values: Float[np.ndarray, "s s"],
) -> Picture:
    """A quantity of the atlas (the weight mask) carried to the picture, in colours by its :func:`ranks`."""
    buffers, triangles = raster_of_map(position_map, covered)
    return _colored(picture, buffers, triangles, ranks(values))


def _colored(picture: Picture, buffers: RasterBuffers, triangles: np.ndarray, levels: np.ndarray) -> Picture:
    colors = color_values(interpolate(buffers, levels.reshape(-1, 1), triangles)[..., 0])
    return np.where(buffers.covered[..., None], np.rint(0.35 * picture + 0.65 * colors), picture).astype(np.uint8)


def ranks(values: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Each value's place among those that occur, from 0 to 1: the weights 0, 3, 4 and 16 then lie equally far apart."""
    levels, place = np.unique(values, return_inverse=True)
    return (place.reshape(values.shape) / max(len(levels) - 1, 1)).astype(np.float32)


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
    buffers, triangles = raster_of_map(xyz, covered)
    pictures = (
        image,
        draw_landmarks(image, sample["landmarks_px"], enlarge=side / len(image)),
        _shaded(image, xyz, buffers, triangles, strength=0.6),
        color_position_map(xyz, covered),
        _colored(image, buffers, triangles, ranks(weight_mask)),
    )
    return [_resized(picture, side) for picture in pictures]


PART_COLORS = np.array(
    [(0, 0, 0), (60, 160, 250), (60, 220, 250), (160, 90, 40), (220, 150, 60), (230, 70, 110), (160, 30, 90),
     (120, 210, 90), (150, 150, 150)], dtype=np.uint8,
)  # fmt: skip
"""Of no part and DenseReg's eight."""

_FACE_COLORS = np.array(
    [(240, 240, 240), (250, 190, 90), (110, 190, 250), (140, 220, 120), (230, 130, 220), (200, 200, 80)], dtype=np.uint8
)
_IGNORE_COLOR = (200, 40, 40)


def plain_panels(sample: Mapping[str, np.ndarray], *, side: int) -> dict[str, Picture]:
    """The picture, and its landmarks (68 3), or of several faces (F 68 3): NaN ones are left out."""
    image = _cut(sample, sample["image"])
    factor = side / max(image.shape[:2])
    picture = _scaled(image, factor)
    to_drawn = np.divide(picture.shape[1::-1], image.shape[1::-1])
    for landmarks in sample["landmarks_px"].reshape(-1, 68, 3):
        picture = draw_landmarks(picture, (landmarks[:, :2] + 0.5) * to_drawn - 0.5, enlarge=1)
    return {"image": in_square(image, side), "landmarks": _centred(picture, side)}


def field_panels(sample: Mapping[str, np.ndarray], *, side: int) -> dict[str, Picture]:
    """u, v, parts, and labels (one colour for each face, red: ignore), of those that the sample has."""
    panels: dict[str, Picture] = {}
    if "uv" in sample:
        face = (sample["label"] == 1)[..., None]
        for k, name in enumerate("uv"):
            panels[name] = np.where(face, color_values(sample["uv"][..., k]), 0).astype(np.uint8)
    if "part" in sample:
        panels["parts"] = PART_COLORS[sample["part"]]
    if "label" in sample:
        whose = sample["face_index"] if "face_index" in sample else np.where(sample["label"] == 1, 0, -1)
        labels = np.where((whose >= 0)[..., None], _FACE_COLORS[whose % len(_FACE_COLORS)], 0)
        panels["label"] = np.where((sample["label"] == 255)[..., None], _IGNORE_COLOR, labels).astype(np.uint8)
    return {name: in_square(_cut(sample, panel), side) for name, panel in panels.items()}


def colored_mask(sample: Mapping[str, np.ndarray], *, side: int) -> Picture:
    """The user's mask, a hue for each label."""
    mask = _cut(sample, sample["mask"])
    hues = np.stack([mask.astype(int) * 47 % 180, np.full(mask.shape, 200), np.where(mask > 0, 230, 0)], axis=-1)
    return in_square(cv2.cvtColor(hues.astype(np.uint8), cv2.COLOR_HSV2RGB), side)


def heat_picture(values: Float[np.ndarray, "h w"], *, side: int) -> Picture:
    """Values in [0, 1] in colours."""
    return in_square(color_values(values), side)


def _cut(sample: Mapping[str, np.ndarray], picture: np.ndarray) -> np.ndarray:
    """A padded picture without its padding."""
    if "size_hw" not in sample:
        return picture
    height, width = (int(n) for n in sample["size_hw"])
    return picture[:height, :width]


def in_square(picture: Picture, side: int) -> Picture:
    """The picture in a square, its longer side as long as that, centred on black."""
    return _centred(_scaled(picture, side / max(picture.shape[:2])), side)


def _scaled(picture: Picture, factor: float) -> Picture:
    height, width = (max(round(n * factor), 1) for n in picture.shape[:2])
    smooth = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return cv2.resize(np.ascontiguousarray(picture), (width, height), interpolation=smooth)


def _centred(picture: Picture, side: int) -> Picture:
    height, width = picture.shape[:2]
    square = np.zeros((side, side, 3), dtype=np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = picture
    return square


def _resized(picture: Picture, side: int) -> Picture:
    smooth = cv2.INTER_AREA if side < len(picture) else cv2.INTER_LINEAR
    return cv2.resize(picture, (side, side), interpolation=smooth)


def flat_weights(weight_mask: Float[np.ndarray, "s s"], side: int) -> Picture:
    """The weight mask as it lies in the atlas, in colours."""
    return cv2.resize(color_values(ranks(weight_mask)), (side, side), interpolation=cv2.INTER_NEAREST)


def in_rows(blocks: Sequence[Picture], *, across: int) -> Picture:
    """Pictures of one size, at most `across` in a row; what the last row lacks is white. Raises ValueError for none."""
    if not blocks:
        raise ValueError("a contact sheet needs at least one sample")
    across = min(across, len(blocks))
    blocks = [*blocks, *[np.full_like(blocks[0], 255)] * (-len(blocks) % across)]
    return np.vstack([np.hstack(blocks[i : i + across]) for i in range(0, len(blocks), across)])


def contact_sheet(
    samples: Sequence[Mapping[str, np.ndarray]],
    weight_mask: Float[np.ndarray, "s s"],
    *,
    side: int = 160,
    across: int = 2,
) -> Picture:
    """Samples with their panels, `across` in a row, each under its source id."""
    blocks = [titled(np.hstack(sample_panels(s, weight_mask, side=side)), str(s["source_id"])) for s in samples]
    return in_rows(blocks, across=across)


def sample_sheet(
    sample: Mapping[str, np.ndarray], weight_mask: Float[np.ndarray, "s s"], *, side: int = 384
) -> Picture:
    """One sample large: its panels and the weight mask as it lies in the atlas."""
    panels = [*sample_panels(sample, weight_mask, side=side), flat_weights(weight_mask, side)]
    titles = (*PANELS, "weight mask")
    tiles = [titled(panel, title) for panel, title in zip(panels, titles, strict=True)]
    return titled(in_rows(tiles, across=3), str(sample["source_id"]))


def encode_png(picture: Picture) -> bytes:
    """The picture as a PNG file's bytes."""
    done, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 6])
    if not done:
        raise RuntimeError(f"OpenCV could not encode a picture of shape {picture.shape} as PNG")
    return data.tobytes()


def titled(picture: Picture, title: str) -> Picture:
    """The picture under a strip with its title, in smaller letters where it is long."""
    strip = np.full((18, picture.shape[1], 3), 30, dtype=np.uint8)
    # OpenCV's font knows ASCII alone: accents go, other scripts become question marks.
    letters = "".join(c for c in unicodedata.normalize("NFKD", title) if not unicodedata.combining(c))
    text = letters.encode("ascii", "replace").decode()
    wide = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, _LETTERS, 1)[0][0]
    letters_size = max(_LETTERS * min(1.0, (picture.shape[1] - 12) / max(wide, 1)), _SMALLEST_LETTERS)
    cv2.putText(strip, text, (4, 13), cv2.FONT_HERSHEY_SIMPLEX, letters_size, _WHITE, 1, cv2.LINE_AA)
    return np.vstack([strip, picture])
