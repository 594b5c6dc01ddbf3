"""Targets `field`: the place of the template at each pixel, its depth, and what is known (DenseReg, Güler et al. 2017).

Stored continuous, so that readers take any number of bins (:func:`render.quantization.quantize`).
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from flows.targets.family import Ground, Table, TargetFamily
from flows.targets.scene import Scene
from storage.field_targets import field_targets
from storage.schema import Target


class FieldTargets(TargetFamily):
    """`uv`, `depth`, `label`, visibility of landmarks and vertices; with several faces whose each pixel is."""

    needs_template = True

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    @classmethod
    def planned(cls, ground: Ground, files: Mapping[str, Path]) -> "FieldTargets":
        """The template is the ground's, and nothing else is needed."""
        return cls(ground)

    @classmethod
    def prepared(cls, ground: Ground, table: Table) -> "FieldTargets":
        """The same."""
        return cls(ground)

    def targets(self) -> tuple[Target, ...]:
        """Its stored targets."""
        layout = self._ground.layout
        return field_targets(layout.size_hw, max_faces=layout.max_faces, n_vertices=self._ground.model.n_vertices)

    def values(self, scene: Scene) -> dict[str, object]:
        """The field and what is seen."""
        layout, field = self._ground.layout, scene.field
        values: dict[str, object] = {
            "uv": layout.padded(field.uv),
            "depth": layout.padded(field.depth),
            "label": layout.padded(field.label),
            "depth_range_px": layout.stacked(field.depth_range_px, empty=np.nan),
            "landmark_visible": layout.stacked(scene.landmark_visible, empty=False),
            "vertex_visible": layout.stacked([np.packbits(seen) for seen in scene.vertex_visible], empty=0),
        }
        if layout.max_faces is not None:
            values["face_index"] = layout.padded(field.face_index + np.int16(1)) - np.int16(1)  # padding is nobody's
        return values
