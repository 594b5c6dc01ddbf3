"""Targets made on the device where they are used: position maps and correspondence fields from a sample's parameters.

A sample's identity, expression and ``crop_from_model`` are a kilobyte; its map and its field are a megabyte. So the small ones
are read, moved by the augmentation and sent, and the device makes the large ones: maps as one product of the batch's
coefficients with the texels' own basis (:mod:`storage.decoding` on the CPU), fields by the z-buffer's torch twin
(:mod:`render.correspondence` on the CPU).
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from geometry.frames import Similarity2D
from geometry.morphable_model import MorphableModel, SurfacePoints
from render.atlas_raster import AtlasRaster
from render.correspondence import FACE
from render.correspondence_kernel import OPENING, SURFACE, UNPLACED
from render.quantization import BACKGROUND, IGNORE
from storage.dataset import ShardedDataset
from storage.schema import DerivedTarget
from storage.store import MissingObject
from train.augmentation import moved_pixels
from train.zbuffer import interpolate, rasterize

Batch = dict[str, Any]
PARAMETERS = ("identity", "expression", "crop_from_model", "mirrored")
FIELDS = ("uv", "label", "depth", "part")
_MOVED = "augmented_from_crop"
_POINTS_AT_ONCE = 4096


class LinearSurface:
    """Surface points of a model on a device: ``points = mean + basis · coefficients``, axis by axis.

    basis  (3·P, k + 1) x of all points, then y, then z; the last column is the mean
    """

    def __init__(self, model: MorphableModel, points: SurfacePoints, device: torch.device) -> None:
        columns = []
        for start in range(0, len(points.corners), _POINTS_AT_ONCE):
            some = slice(start, start + _POINTS_AT_ONCE)
            rows = model.rows(SurfacePoints(points.corners[some], points.weights[some]))
            one = np.concatenate([rows.identity, rows.expression, rows.mean[..., None]], axis=-1)
            columns.append(one.astype(np.float32))
        basis = np.moveaxis(np.concatenate(columns), 1, 0)  # (3 P k+1)
        self.basis = torch.from_numpy(np.ascontiguousarray(basis.reshape(-1, basis.shape[-1]))).to(device)

    def points(self, coefficients: Float32[Tensor, "n k"], affines: Float[Tensor, "n 3 4"]) -> Float32[Tensor, "n 3 p"]:
        """The points of each face, moved by its affine map."""
        moved = affines.float()
        in_model = torch.addmm(self.basis[:, -1], coefficients, self.basis[:, :-1].T).unflatten(1, (3, -1))
        return torch.baddbmm(moved[:, :, 3:], moved[:, :, :3], in_model)


class DeviceTargets:
    """What is read in place of some targets of a data set, and how these are made of it."""

    def __init__(self, dataset: ShardedDataset, targets: Iterable[str], device: str | torch.device) -> None:
        """`targets` are those that the batch is to have; :attr:`made` says which of them are made here."""
        self.wanted, self.device = tuple(targets), torch.device(device)
        names = dataset.schema.names
        has_parameters = set(PARAMETERS) <= set(names)
        self.makes_map = has_parameters and "position_map" in self.wanted and _is_parametric(dataset)
        fields = [name for name in FIELDS if name in self.wanted]
        self.made_fields = tuple(fields) if has_parameters and _draws_fields(dataset) else ()
        self.made = ("position_map",) * self.makes_map + self.made_fields
        added = (*PARAMETERS, *((_MOVED,) if _MOVED in names else ())) if self.made else ()
        kept = [name for name in self.wanted if name not in self.made]
        self.read = tuple(dict.fromkeys((*kept, *added)))
        """The targets to be read instead."""
        self._dataset = dataset
        self._surfaces: dict[str, LinearSurface] = {}
        self._template: dict[str, Tensor] = {}

    def __call__(self, read: Batch, moved: Batch) -> Batch:
        """The batch with what is made here, and without what was read for it alone.

        `read` is the batch as the loader's workers gave it, `moved` the same on the device: what decides the order of work is
        looked at where nobody has to wait for it.
        """
        coefficients = torch.cat([moved["identity"], moved["expression"]], dim=1).float()
        mirrored = read["mirrored"].bool()
        if self.makes_map:
            moved["position_map"] = self._maps(coefficients, moved["crop_from_model"], mirrored)
        if self.made_fields:
            size = int(self._dataset.schema[self.made_fields[0]].sample_shape[0])
            whole = self._fields(coefficients, moved["crop_from_model"], mirrored, size)
            if _MOVED in read:
                inside = self._inside(read[_MOVED], size)
                outside = {"label": IGNORE}
                whole = {name: _kept(values, inside, outside.get(name, 0)) for name, values in whole.items()}
            moved |= {name: whole[name] for name in self.made_fields}
        extra = set(self.read) - set(self.wanted) - {_MOVED}
        return {name: value for name, value in moved.items() if name not in extra}

    # -------------------------------------------------------------------------------------------- position maps

    def _maps(self, coefficients: Tensor, affines: Tensor, mirrored: Bool[Tensor, " n"]) -> Float32[Tensor, "n 3 s s"]:
        sides = [side for side in (False, True) if bool((mirrored == side).any())]
        if len(sides) == 1:
            maps = self._surface(mirrored=sides[0]).points(coefficients, affines)
        else:
            surfaces = [self._surface(mirrored=side) for side in sides]
            maps = coefficients.new_empty((len(coefficients), 3, len(surfaces[0].basis) // 3))
            for side, surface in zip(sides, surfaces, strict=True):
                mine = (mirrored == side).nonzero()[:, 0].to(self.device)
                maps[mine] = surface.points(coefficients[mine], affines[mine])
        covered = self._table("atlas_covered").float()
        return maps.unflatten(2, covered.shape).mul_(covered)

    def _surface(self, *, mirrored: bool) -> LinearSurface:
        """All texels' basis, 0 where none is covered; of mirrored samples of the vertices on the other side (mirrored UV)."""
        key = "mirrored map" if mirrored else "map"
        if key not in self._surfaces:
            model = self._dataset.model()
            names = ("atlas_corners", "atlas_weights", "atlas_covered")
            raster = AtlasRaster.from_tables(*(self._dataset.table(name) for name in names))
            if mirrored:
                raster = raster.mirrored(_mirror_of(model))
            weights = np.where(raster.covered[..., None], raster.weights, 0).reshape(-1, 3).astype(np.float64)
            points = SurfacePoints(raster.corners.reshape(-1, 3), weights)
            self._surfaces[key] = LinearSurface(model, points, self.device)
        return self._surfaces[key]

    # --------------------------------------------------------------------------------------------------- fields

    def _fields(
        self, coefficients: Tensor, affines: Tensor, mirrored: Bool[Tensor, " n"], size: int
    ) -> dict[str, Tensor]:
        """`uv` (n 2 s s), `label`, `depth` and `part` (n s s) of one face a picture, as a build draws them."""
        if "vertices" not in self._surfaces:
            model = self._dataset.model()
            points = SurfacePoints.at_vertices(np.arange(model.n_vertices))
            self._surfaces["vertices"] = LinearSurface(model, points, self.device)
        vertices = self._surfaces["vertices"].points(coefficients, affines).mT
        if len(other := mirrored.nonzero()[:, 0].to(self.device)):
            if "mirror" not in self._template:
                mirror = _mirror_of(self._dataset.model()).astype(np.int64)
                self._template["mirror"] = torch.from_numpy(mirror).to(self.device)
            vertices = vertices.index_copy(0, other, vertices[other][:, self._template["mirror"]])
        triangles, role = self._table("field_triangles"), self._table("field_role")
        seen = rasterize(vertices.contiguous(), triangles, size_hw=(size, size))
        kind = torch.where(seen.covered, role[seen.triangle_id.clamp(min=0).long()].long(), OPENING)
        face = kind == SURFACE
        uv = interpolate(seen, self._table("field_uv").float(), triangles).clamp(0, 1) * face[..., None]
        low = torch.where(face, seen.depth, torch.inf).amin(dim=(1, 2), keepdim=True)
        high = torch.where(face, seen.depth, -torch.inf).amax(dim=(1, 2), keepdim=True)
        extent = torch.where(high > low, high - low, 1.0)
        parts = self._table("part_map")
        last = len(parts) - 1
        row, column = ((1 - uv[..., 1]) * last + 0.5).long(), (uv[..., 0] * last + 0.5).long()
        label = torch.where(face, FACE, torch.where(kind == UNPLACED, IGNORE, BACKGROUND))
        return {
            "uv": uv.movedim(-1, 1).contiguous(),
            "label": label.to(torch.uint8),
            "depth": torch.where(face, (seen.depth - low) / extent, 0.0),
            "part": torch.where(face, parts[row, column], 0).to(torch.uint8),
        }

    def _inside(self, moves: Float[Tensor, "n 3 3"], size: int) -> Bool[Tensor, "n s s"]:
        """The pixels that show some of the crop that was read: beside it nothing is known."""
        ones = torch.ones((len(moves), size, size), dtype=torch.uint8, device=self.device)
        return moved_pixels(ones, [Similarity2D(move) for move in moves.double().numpy()], size_px=size).bool()

    def _table(self, name: str) -> Tensor:
        if name not in self._template:
            self._template[name] = torch.from_numpy(np.array(self._dataset.table(name))).to(self.device)
        return self._template[name]


def _is_parametric(dataset: ShardedDataset) -> bool:
    target = dataset.schema["position_map"]
    return isinstance(target, DerivedTarget) and target.decoder == "position_map_from_parameters"


def _draws_fields(dataset: ShardedDataset) -> bool:
    """Whether the fields are of one face of the model in each picture, and the template is at hand."""
    if "face_index" in dataset.schema.names:
        return False
    try:
        dataset.table("field_triangles")
    except MissingObject:
        return False
    return True


def _kept(values: Tensor, inside: Bool[Tensor, "n s s"], outside: int) -> Tensor:
    chosen = inside[:, None] if values.ndim == 4 else inside
    return torch.where(chosen, values, torch.as_tensor(outside, dtype=values.dtype, device=values.device))


def _mirror_of(model: MorphableModel) -> np.ndarray:
    if model.mirror is None:
        raise ValueError(f"mirrored samples need the mirror map of {model.name}, which has none")
    return np.asarray(model.mirror)


def made_on_device(
    dataset: ShardedDataset, targets: Iterable[str] | None, device: str | torch.device
) -> DeviceTargets | None:
    """What of a batch can be made on `device`; None where nothing is."""
    found = DeviceTargets(dataset, dataset.schema.names if targets is None else targets, device)
    return found if found.made else None
