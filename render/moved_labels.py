"""How each label moves with its picture: one similarity for all of them, and left and right where it mirrors.

Positions move by the similarity, depth by its scale √|det|. Labels of pixels go to the nearest pixel whole. In a mirrored
picture landmarks get new names, texels the surface of the other side, parts and coordinates those of their counterparts.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Shaped

from geometry.camera import compose_affine
from geometry.frames import Similarity2D
from geometry.landmarks import SCHEMES
from render.mirrored_atlas import MirroredAtlas, mirrored_part_codes
from render.parts import DENSEREG_PARTS
from render.quantization import IGNORE
from render.warp import warp_labels

_FACE = 1
_PARTS = mirrored_part_codes(DENSEREG_PARTS)


@dataclass(frozen=True, slots=True)
class Move:
    """Where a sample goes. The atlases are asked for where it is mirrored: of the position map, and of the field."""

    augmented_from_crop: Similarity2D
    size_px: int
    atlas: MirroredAtlas | None = None
    field_atlas: MirroredAtlas | None = None

    @property
    def is_mirrored(self) -> bool:
        """Whether left and right change sides."""
        return self.augmented_from_crop.is_mirrored


def moved_points(points: Float[np.ndarray, "*n p d"], move: Move) -> Float[np.ndarray, "*n p d"]:
    """Landmarks of one of :data:`geometry.landmarks.SCHEMES`, told by their number, renamed where mirrored."""
    moved = move.augmented_from_crop.apply(points).astype(points.dtype)
    return moved[..., _renamed(points.shape[-2]), :] if move.is_mirrored else moved


def moved_map(xyz: Float32[np.ndarray, "s s 3"], move: Move) -> Float32[np.ndarray, "s s 3"]:
    """A position map: every covered texel moved, and taken from the other side where mirrored (mirrored UV).

    Uncovered texels stay 0. Raises ValueError where the atlas is needed and not given.
    """
    affine = move.augmented_from_crop.affine3d.astype(np.float32)
    if move.is_mirrored:
        atlas = _needed(move.atlas, "position_map")
        return _applied(affine, atlas.values(xyz), atlas.covered)
    covered = np.asarray(xyz.any(axis=-1)) if move.atlas is None else move.atlas.covered
    return _applied(affine, xyz, covered)


def _applied(affine: np.ndarray, xyz: np.ndarray, covered: np.ndarray) -> np.ndarray:
    moved = np.empty_like(xyz)
    (a, b, _, c), (d, e, _, f), (*_, scale, _) = affine.tolist()
    x, y, inside = xyz[..., 0], xyz[..., 1], covered.astype(np.float32)
    moved[..., 0] = (x * np.float32(a) + y * np.float32(b) + np.float32(c)) * inside
    moved[..., 1] = (x * np.float32(d) + y * np.float32(e) + np.float32(f)) * inside
    moved[..., 2] = xyz[..., 2] * np.float32(scale)
    return moved


def moved_affine(affine: Float[np.ndarray, "3 4"], move: Move) -> Float[np.ndarray, "3 4"]:
    """`crop_from_model` of the moved crop."""
    return compose_affine(move.augmented_from_crop.affine3d, affine)


def moved_similarity(crop_from_image: Float[np.ndarray, "3 3"], move: Move) -> Float[np.ndarray, "3 3"]:
    """`crop_from_image` of the moved crop."""
    return move.augmented_from_crop.matrix @ crop_from_image


def moved_uv(
    uv: Float32[np.ndarray, "h w 2"], is_face: Bool[np.ndarray, "h w"], move: Move
) -> Float32[np.ndarray, "_ _ 2"]:
    """Coordinates of a correspondence field; 0 where there is no face, before as after."""
    size_hw = (move.size_px, move.size_px)
    moved = warp_labels(uv, move.augmented_from_crop, size_hw=size_hw)
    if move.is_mirrored:
        faces = warp_labels(is_face, move.augmented_from_crop, size_hw=size_hw)
        moved[faces] = _needed(move.field_atlas, "uv").uv(moved[faces])
    return moved


def inside_picture(points: Float[np.ndarray, "*n p d"], size_px: int) -> Bool[np.ndarray, "*n p"]:
    """Which points lie at a pixel of the picture."""
    inside = (points[..., :2] > -0.5) & (points[..., :2] < size_px - 0.5)
    return np.asarray(inside.all(axis=-1))


Sample = Mapping[str, Any]
"""One sample's targets by name, as `ds[i]` has them."""
_Mover = Callable[[Any, Move, Sample], Any]


def _points(value: Any, move: Move, sample: Sample) -> Any:
    return moved_points(value, move)


def _pixels(outside: float | int) -> _Mover:
    def moved(value: Any, move: Move, sample: Sample) -> Any:
        return warp_labels(value, move.augmented_from_crop, size_hw=(move.size_px, move.size_px), outside=outside)

    return moved


def _parts(value: Any, move: Move, sample: Sample) -> Any:
    moved = _pixels(0)(value, move, sample)
    return _PARTS[moved] if move.is_mirrored else moved


def _painted(value: Any, move: Move, sample: Sample) -> Any:
    if move.is_mirrored:
        raise ValueError(
            "a painted mask's labels have no left and right that anybody knows of, and this sample is mirrored: "
            "leave the target `mask` out, or take an augmentation that does not flip"
        )
    return _pixels(0)(value, move, sample)


def _visible(value: Any, move: Move, sample: Sample) -> Any:
    renamed = value[..., _renamed(value.shape[-1])] if move.is_mirrored else value
    return renamed & inside_picture(moved_points(_of(sample, "landmarks_px", "landmark_visible"), move), move.size_px)


def _box(value: Any, move: Move, sample: Sample) -> Any:
    points = moved_points(_of(sample, "landmarks_px", "face_box_px"), move)[:, :2]
    return np.concatenate([points.min(axis=0), points.max(axis=0)]).astype(value.dtype)


def _scaled(value: Any, move: Move, sample: Sample) -> Any:
    return np.asarray(value * move.augmented_from_crop.scale, dtype=np.asarray(value).dtype)


def _stays(value: Any, move: Move, sample: Sample) -> Any:
    return value


MOVERS: Mapping[str, _Mover] = MappingProxyType(
    {
        "position_map": lambda value, move, sample: moved_map(value, move),
        "landmarks_px": _points,
        "marched_landmarks_px": _points,
        "landmark_visible": _visible,
        "face_box_px": _box,
        "crop_from_image": lambda value, move, sample: moved_similarity(value, move),
        "augmented_from_crop": lambda value, move, sample: moved_similarity(value, move),
        "crop_from_model": lambda value, move, sample: moved_affine(value, move),
        "z_offset_px": _scaled,
        "depth_range_px": _scaled,
        "mirrored": lambda value, move, sample: np.asarray(value, dtype=bool) ^ move.is_mirrored,
        "uv": lambda value, move, sample: moved_uv(value, _of(sample, "label", "uv") == _FACE, move),
        "label": _pixels(IGNORE),
        "depth": _pixels(0),
        "face_index": _pixels(-1),
        "part": _parts,
        "mask": _painted,
        "occluded": _pixels(0),
        "covered": _stays,
        "identity": _stays,
        "expression": _stays,
        "pose": _stays,
        "landmark_residual_px": _stays,
        "source_id": _stays,
        "copy_index": _stays,
        "seed": _stays,
        "augmentation": _stays,
    }
)
"""By a target's name how its values move; `image` is not among them. Identity, expression and pose are the photograph's:
`mirrored` says whether the map holds the vertices of the other side."""


def check_movable(names: frozenset[str]) -> None:
    """Raise ValueError for targets of which nobody knows how they move."""
    unknown = sorted(names - set(MOVERS) - {"image"})
    if unknown:
        raise ValueError(
            f"an augmented sample cannot have {', '.join(unknown)}: how that moves with the picture is not known; "
            f"read other targets ({', '.join(MOVERS)})"
        )


def moved_labels(sample: Sample, move: Move) -> dict[str, Any]:
    """All of a sample's targets but `image`, moved. Raises ValueError as :func:`check_movable`."""
    check_movable(frozenset(sample))
    return {name: MOVERS[name](value, move, sample) for name, value in sample.items() if name != "image"}


def _renamed(n_points: int) -> Shaped[np.ndarray, " p"]:
    for scheme in SCHEMES.values():
        if len(scheme) == n_points:
            return scheme.mirror
    raise ValueError(f"{n_points} landmarks are no known scheme, so nobody knows which is which in a mirrored picture")


def _needed(atlas: MirroredAtlas | None, name: str) -> MirroredAtlas:
    if atlas is None:
        raise ValueError(
            f"a mirrored sample's {name} holds the other side of the face, and where that lies in the atlas was not "
            "given: pass the MirroredAtlas of its atlas, or take an augmentation that does not flip"
        )
    return atlas


def _of(sample: Sample, name: str, why: str) -> Any:
    if name not in sample:
        raise ValueError(f"{why} cannot be moved without {name}: read that target too")
    return sample[name]
