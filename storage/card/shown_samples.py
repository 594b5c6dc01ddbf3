"""Single samples for a page: the picture, what can be laid over it, and the numbers to sort by.

Overlays are pictures with transparency, drawn from the stored labels alone: `map` is the surface of the position map,
shaded, so that a label that is off shows at once; `field` the place on the atlas of each pixel (u red, v green);
`parts` the parts. Landmarks travel as numbers and are drawn by the page.
"""

import base64
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, Int32, UInt8

from geometry.mesh import vertex_normals
from render.preview import PART_COLORS, map_mesh
from render.zbuffer import RasterBuffers, interpolate, rasterize
from storage.dataset import ShardedDataset
from storage.sample_index import sample_index

_READ_AT_ONCE = 16
OVERLAYS = ("map", "field", "parts")
_QUALITY = 82
_MAP_ALPHA, _FIELD_ALPHA, _PARTS_ALPHA = 175, 165, 175
_BLUISH = np.rint(np.arange(256)[:, None] * (0.80, 0.96, 1.0)).astype(np.uint8)
"""The colour of each grey that a surface is shaded with."""


def spread_over(n_samples: int, most: int) -> list[int]:
    """At most so many numbers of samples, evenly over all."""
    chosen: list[int] = np.unique(np.linspace(0, max(n_samples - 1, 0), min(most, n_samples)).astype(int)).tolist()
    return chosen


def encode_webp(picture: UInt8[np.ndarray, "h w c"]) -> bytes:
    """RGB, or RGB and opacity, as WebP."""
    code = cv2.COLOR_RGB2BGR if picture.shape[-1] == 3 else cv2.COLOR_RGBA2BGRA
    done, data = cv2.imencode(".webp", cv2.cvtColor(picture, code), [cv2.IMWRITE_WEBP_QUALITY, _QUALITY])
    if not done:
        raise RuntimeError(f"OpenCV could not encode a picture of shape {picture.shape} as WebP")
    return data.tobytes()


class SampleLayers:
    """Draws samples of a data set, none larger than `side`; reads what it draws and nothing else."""

    def __init__(self, dataset: ShardedDataset, *, side: int) -> None:
        self.dataset, self.side = dataset, side
        wanted = ("image", "position_map", "covered", "uv", "label", "part", "landmarks_px", "fitted_px", "size_hw")
        self._names = [name for name in wanted if name in dataset.schema.names]
        self.overlays = [name for name in OVERLAYS if self._needs(name) <= set(self._names)]

    def _needs(self, overlay: str) -> set[str]:
        stored_field = {"uv", "label"}
        map_ = {"position_map", "covered"}
        field = stored_field if stored_field <= set(self._names) else map_
        return {"map": map_, "field": field, "parts": {"part"}}[overlay] | {"image"}

    def numbers(self, sample: int) -> dict[str, Any]:
        """The row of :func:`rows` of one sample."""
        return next(rows(self.dataset, np.array([sample])))

    def described(self, sample: int) -> dict[str, Any]:
        """Numbers, landmarks (a list of faces, each a list of (x, y) or null) and the size of the picture they count in."""
        read = self.dataset.read([sample], [name for name in self._names if name in ("landmarks_px", "size_hw")])
        return self._described(self.numbers(sample), {name: values[0] for name, values in read.items()})

    def _described(self, row: dict[str, Any], read: dict[str, Any]) -> dict[str, Any]:
        size_hw = read["size_hw"].tolist() if "size_hw" in read else self.dataset.schema["image"].sample_shape[:2]
        row |= {"height": int(size_hw[0]), "width": int(size_hw[1])}
        if "landmarks_px" in read:
            row["landmarks"] = _faces(read["landmarks_px"])
        return row

    def picture(self, sample: int) -> bytes:
        """The picture as WebP."""
        return encode_webp(self._fitted(_cut(self._read(sample, {"image"}), "image")))

    def overlay(self, sample: int, name: str) -> bytes:
        """An overlay as WebP with opacity. Raises KeyError for one that this data set does not have."""
        if name not in self.overlays:
            raise KeyError(f"no overlay {name!r}; this data set has {', '.join(self.overlays) or 'none'}")
        return encode_webp(self._fitted(self._drawn(self._read(sample, self._needs(name)), [name])[name]))

    def inline(self, samples: Sequence[int], *, threads: int = 1) -> list[dict[str, Any]]:
        """All of each sample in one: :meth:`described`, and every picture as a ``data:`` address."""
        drawn: list[dict[str, Any]] = []
        with ThreadPoolExecutor(threads) as pool:
            for start in range(0, len(samples), _READ_AT_ONCE):
                some = samples[start : start + _READ_AT_ONCE]
                read = self.dataset.read(some, self._names)
                each = [{name: values[place] for name, values in read.items()} for place in range(len(some))]
                drawn += pool.map(self._inline, rows(self.dataset, np.array(some)), each, self._surfaces(read))
        return drawn

    def _inline(self, row: dict[str, Any], read: dict[str, Any], surface: "_Surface | None") -> dict[str, Any]:
        row = self._described(row, read) | {"image": _address(encode_webp(self._fitted(_cut(read, "image"))))}
        drawn = self._drawn(read, self.overlays, surface)
        row |= {name: _address(encode_webp(self._fitted(picture))) for name, picture in drawn.items()}
        if "position_map" in read:
            row["inside"] = _inside(read["position_map"], read["covered"], read["image"].shape[:2])
        return row

    def _surfaces(self, read: dict[str, Any]) -> "Sequence[_Surface | None]":
        """The surface of each sample of a batch, where overlays show it: drawn together they take a third of the time."""
        n_samples = len(read["image"])
        if "map" not in self.overlays:
            return [None] * n_samples
        return _Surface.of_batch(read["position_map"], read["covered"], read["image"].shape[1:3])

    def _read(self, sample: int, names: set[str]) -> dict[str, Any]:
        wanted = [name for name in self._names if name in names | {"size_hw"}]
        return {name: values[0] for name, values in self.dataset.read([sample], wanted).items()}

    def _drawn(
        self, read: dict[str, Any], names: Sequence[str], surface: "_Surface | None" = None
    ) -> dict[str, UInt8[np.ndarray, "h w 4"]]:
        drawn: dict[str, UInt8[np.ndarray, "h w 4"]] = {}
        if "parts" in names:
            part = _cut(read, "part")
            drawn["parts"] = _translucent(PART_COLORS[part], part > 0, _PARTS_ALPHA)
        if "field" in names and "uv" in read:
            drawn["field"] = _field_colors(_cut(read, "uv"), _cut(read, "label") == 1)
        if missing := [name for name in names if name not in drawn]:
            maps, covered = read["position_map"][None], read["covered"][None]
            surface = surface or _Surface.of_batch(maps, covered, read["image"].shape[:2])[0]
            drawn |= {name: surface.field() if name == "field" else surface.shaded() for name in missing}
        return drawn

    def _fitted(self, picture: UInt8[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "h2 w2 c"]:
        height, width = picture.shape[:2]
        factor = self.side / max(height, width)
        if factor >= 1:
            return np.ascontiguousarray(picture)
        size = (max(round(width * factor), 1), max(round(height * factor), 1))
        return cv2.resize(np.ascontiguousarray(picture), size, interpolation=cv2.INTER_AREA)


def rows(dataset: ShardedDataset, numbers: Int[np.ndarray, " n"]) -> Iterator[dict[str, Any]]:
    """For each sample what a page filters and sorts by: `n`, `id`, `yaw`, `pitch`, `roll` (degrees), `residual` (px)."""
    index = sample_index(dataset, numbers)
    names = {"yaw_deg": "yaw", "pitch_deg": "pitch", "roll_deg": "roll", "residual_px": "residual"}
    columns = {short: index[name] for name, short in names.items() if name in index}
    ids = index["source_id"].tolist() if "source_id" in index else [""] * len(numbers)
    for place, number in enumerate(index["index"].tolist()):
        row: dict[str, Any] = {"n": number, "id": ids[place]}
        if "copy_index" in index:
            row["copy"] = int(index["copy_index"][place])
        for short, column in columns.items():
            value = float(column[place])
            row[short] = round(value, 2) if math.isfinite(value) else None
        yield row


def _faces(landmarks: Float[np.ndarray, "*f p d"]) -> list[list[list[float] | None]]:
    faces = landmarks[..., :2].reshape(-1, landmarks.shape[-2], 2)
    kept = [face for face in faces if np.isfinite(face).all(axis=1).any()]
    return [[[round(x, 1), round(y, 1)] if math.isfinite(x + y) else None for x, y in face.tolist()] for face in kept]


def _cut(read: dict[str, Any], name: str) -> np.ndarray:
    """A padded picture without its padding."""
    if "size_hw" not in read:
        return np.ascontiguousarray(read[name])
    height, width = (int(n) for n in read["size_hw"])
    return np.ascontiguousarray(read[name][:height, :width])


@dataclass(frozen=True, slots=True)
class _Surface:
    """What of a position map is seen in its picture."""

    texels: Float[np.ndarray, "v 3"]
    triangles: Int32[np.ndarray, "t 3"]
    buffers: RasterBuffers
    size: int

    @classmethod
    def of_batch(
        cls, position_maps: Float[np.ndarray, "n s s 3"], covered: Bool[np.ndarray, "n s s"], size_hw: tuple[int, int]
    ) -> list["_Surface"]:
        """Of each map of a data set: all cover the same texels."""
        texels = np.ascontiguousarray(position_maps).reshape(len(position_maps), -1, 3)
        _, triangles = map_mesh(position_maps[0], covered[0])
        buffers = rasterize(texels, triangles, size_hw=size_hw, cull=False)
        return [cls(texels[place], triangles, buffers[place], covered.shape[1]) for place in range(len(texels))]

    def shaded(self) -> UInt8[np.ndarray, "h w 4"]:
        toward_viewer = np.abs(vertex_normals(self.texels, self.triangles)[:, 2:]).astype(np.float32)
        grey = np.rint(50 + 200 * interpolate(self.buffers, toward_viewer, self.triangles)[..., 0].clip(0, 1))
        return _translucent(_BLUISH[grey.astype(np.uint8)], self.buffers.covered, _MAP_ALPHA)

    def field(self) -> UInt8[np.ndarray, "h w 4"]:
        rows_, columns = np.mgrid[: self.size, : self.size].astype(np.float32) / np.float32(self.size - 1)
        uv = np.stack([columns.ravel(), 1 - rows_.ravel()], axis=-1)
        return _field_colors(interpolate(self.buffers, uv, self.triangles), self.buffers.covered)


def _field_colors(uv: np.ndarray, where: np.ndarray) -> UInt8[np.ndarray, "h w 4"]:
    u, v = np.clip(uv[..., 0], 0, 1), np.clip(uv[..., 1], 0, 1)
    return _translucent(np.stack([40 + 215 * u, 40 + 215 * v, 235 - 120 * u], axis=-1), where, _FIELD_ALPHA)


def _translucent(colors: np.ndarray, where: np.ndarray, alpha: int) -> UInt8[np.ndarray, "h w 4"]:
    picture = np.zeros((*where.shape, 4), dtype=np.uint8)
    rounded = colors if colors.dtype == np.uint8 else np.rint(colors)
    np.copyto(picture[..., :3], rounded, where=where[..., None], casting="unsafe")
    np.copyto(picture[..., 3], alpha, where=where, casting="unsafe")
    return picture


def _inside(position_map: np.ndarray, covered: np.ndarray, size_hw: tuple[int, int]) -> float:
    """The share of covered texels whose place lies inside the picture."""
    x, y = position_map[..., 0], position_map[..., 1]
    height, width = size_hw
    inside = (x >= -0.5) & (x < width - 0.5) & (y >= -0.5) & (y < height - 0.5)
    return float(np.mean(inside[covered]))


def _address(webp: bytes) -> str:
    return "data:image/webp;base64," + base64.b64encode(webp).decode()
