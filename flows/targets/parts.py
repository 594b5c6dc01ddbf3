"""Targets `parts`: DenseReg's eight classes at each pixel, and a mask of the user's own, carried through UV.

The user paints a square PNG over the atlas of the fields (row 0 is v = 1; the table `part_map` shows where things are in
it). A grey picture's values are the labels. In a coloured one each colour is a label, numbered in the order of
the colours; the table `mask_colors` tells which is which.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from flows.targets.family import Ground, Table, TargetFamily
from flows.targets.scene import Scene
from render.parts import carry_mask
from storage.bad_sample import BadSample
from storage.field_targets import part_targets
from storage.images import MAX_IMAGE_FILE_BYTES, decode_image
from storage.regular_files import read_regular_file
from storage.schema import Target
from storage.store import MissingObject

MASK_FILE = "mask"
"""The name under which the build is given the picture."""

_MOST_COLORS = 255
_PNG, _PNG_BITS_AT = b"\x89PNG", 24


class PartTargets(TargetFamily):
    """`part`, and `mask` where there is one."""

    needs_template = True

    def __init__(
        self, ground: Ground, mask: UInt8[np.ndarray, "s s"] | None, colors: UInt8[np.ndarray, "n 3"] | None
    ) -> None:
        self._ground, self._mask, self._colors = ground, mask, colors

    @classmethod
    def planned(cls, ground: Ground, files: Mapping[str, Path]) -> "PartTargets":
        """With the mask among the files."""
        mask, colors = read_mask(files[MASK_FILE]) if MASK_FILE in files else (None, None)
        return cls(ground, mask, colors)

    @classmethod
    def prepared(cls, ground: Ground, table: Table) -> "PartTargets":
        """The same from the tables."""
        try:
            return cls(ground, table("mask"), None)
        except MissingObject:
            return cls(ground, None, None)

    def tables(self) -> dict[str, np.ndarray]:
        """The mask's labels (S S) and, of a coloured one, its colours: label k is ``mask_colors[k − 1]``."""
        tables = {"mask": self._mask, "mask_colors": self._colors}
        return {name: table for name, table in tables.items() if table is not None}

    def targets(self) -> tuple[Target, ...]:
        """Its stored targets."""
        return part_targets(self._ground.layout.size_hw, with_mask=self._mask is not None)

    def values(self, scene: Scene) -> dict[str, object]:
        """The field's own parts, and the mask read at its u and v."""
        layout, field = self._ground.layout, scene.field
        values: dict[str, object] = {"part": layout.padded(field.part)}
        if self._mask is not None:
            values["mask"] = layout.padded(carry_mask(self._mask, field.uv, field.is_face))
        return values


def read_mask(path: Path) -> tuple[UInt8[np.ndarray, "s s"], UInt8[np.ndarray, "n 3"] | None]:
    """The labels of a painted mask, and of a coloured one its colours; 0 is for pixels without a coordinate too.

    Raises ValueError for what is no square PNG of 8 bits, or has more than 255 colours (soft brushes mix them).
    """
    try:
        content = read_regular_file(path, limit_bytes=MAX_IMAGE_FILE_BYTES, follow_links=True)
        picture = decode_image(content)
    except BadSample as bad:
        raise ValueError(f"the mask {path}: {bad.sentence}") from None
    if not content.startswith(_PNG) or content[_PNG_BITS_AT] == 16:
        raise ValueError(
            f"the mask {path} is no PNG of 8 bits a channel: JPEG mixes labels, and of 16 bits half would be lost"
        )
    if picture.shape[0] != picture.shape[1]:
        raise ValueError(
            f"the mask {path} has {picture.shape[1]} × {picture.shape[0]} pixels: UV space is square, paint a square"
        )
    if (picture == picture[..., :1]).all():
        return np.ascontiguousarray(picture[..., 0]), None
    colors, labels = np.unique(picture.reshape(-1, 3), axis=0, return_inverse=True)
    if len(colors) > _MOST_COLORS:
        raise ValueError(
            f"the mask {path} has {len(colors)} colours, and a label is one byte: paint with hard edges, and save as PNG"
        )
    return (labels.reshape(picture.shape[:2]) + 1).astype(np.uint8), colors
