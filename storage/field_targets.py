"""The targets of correspondence fields and parts, of one face's crop or of a whole photograph, each declared once."""

from storage.codes import FixedPoint
from storage.schema import Target

UNIT_CODE = FixedPoint(steps_per_unit=32768, offset=0)
"""[0, 1] in steps of 2⁻¹⁵: off by at most 1.5e-5, which is 0.004 texels of an atlas of 256²; 0 and 1 are exact."""


def field_targets(size_hw: tuple[int, int], *, max_faces: int | None, n_vertices: int) -> tuple[Target, ...]:
    """The field; `max_faces` is None in crops of one face."""
    faces, axis = ((), ()) if max_faces is None else ((max_faces,), ("face",))
    whose = () if max_faces is None else (_face_index(size_hw),)
    return (
        Target(
            name="uv",
            dtype="float32",
            sample_shape=(*size_hw, 2),
            axes=("row", "column", "horizontal_vertical"),
            description="place on the template: u to the viewer's right, v upward, in [0, 1], where label is 1; else 0",
            code=UNIT_CODE,
            compression="lz4_shuffle",
            channels_first=True,
        ),
        Target(
            name="depth",
            dtype="float32",
            sample_shape=size_hw,
            axes=("row", "column"),
            description="z from the farthest (0) to the nearest (1) visible point of the same face; else 0",
            code=UNIT_CODE,
            compression="lz4_shuffle",
        ),
        Target(
            name="label",
            dtype="uint8",
            sample_shape=size_hw,
            axes=("row", "column"),
            description="0: no face; 1: face; 255: ignore, nothing may be learned here",
            compression="lz4_bitshuffle",
        ),
        *whose,
        Target(
            name="depth_range_px",
            dtype="float32",
            sample_shape=(*faces, 2),
            axes=(*axis, "farthest_nearest"),
            unit="px",
            description="z of depth 0 and of depth 1; NaN where nothing is seen",
            allow_nan=True,
        ),
        landmark_visibility(max_faces),
        Target(
            name="vertex_visible",
            dtype="uint8",
            sample_shape=(*faces, -(-n_vertices // 8)),
            axes=(*axis, "eight_vertices"),
            description="which of the model's vertices are seen: bits, the first one is the highest (numpy.unpackbits)",
            compression="lz4_bitshuffle",
        ),
    )


def landmark_visibility(max_faces: int | None) -> Target:
    """Which landmarks are seen."""
    return Target(
        name="landmark_visible",
        dtype="bool",
        sample_shape=(68,) if max_faces is None else (max_faces, 68),
        axes=("landmark",) if max_faces is None else ("face", "landmark"),
        description="which of the 68 landmarks nothing of any face hides, inside the picture",
    )


def part_targets(size_hw: tuple[int, int], *, with_mask: bool) -> tuple[Target, ...]:
    """DenseReg's parts, and the user's mask."""
    part = Target(
        name="part",
        dtype="uint8",
        sample_shape=size_hw,
        axes=("row", "column"),
        description="0: none; 1 right eye, 2 left eye, 3 right eyebrow, 4 left eyebrow, 5 upper lip, 6 lower lip, "
        "7 nose, 8 other (right is the subject's)",
        compression="lz4_bitshuffle",
    )
    mask = Target(
        name="mask",
        dtype="uint8",
        sample_shape=size_hw,
        axes=("row", "column"),
        description="the label of the mask that was painted over the atlas; 0 where there is no coordinate",
        compression="lz4_bitshuffle",
    )
    return (part, mask) if with_mask else (part,)


def _face_index(size_hw: tuple[int, int]) -> Target:
    return Target(
        name="face_index",
        dtype="int16",
        sample_shape=size_hw,
        axes=("row", "column"),
        description="whose surface is seen, a place among the faces; −1: nobody's",
        compression="lz4_bitshuffle",
    )
