"""Targets `heatmaps`: what DAN's and 3DFAW's pictures of landmarks are drawn from, and the pictures, drawn on reading.

A sample's 68 Gaussians of 256² are 18 MB and follow from 68 points: points, boxes and visibility are stored, and a
picture is drawn when a reader names it.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from flows.targets.family import Ground, Table, TargetFamily
from flows.targets.scene import Scene
from storage.heatmap_targets import derived_heatmaps, heatmap_targets
from storage.schema import DerivedTarget, Target


class HeatmapTargets(TargetFamily):
    """`landmark_visible` and `face_box_px`; derived `dan_heatmap`, `landmark_discs`, `landmark_heatmaps`, `landmark_z`."""

    needs_template = True

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    @classmethod
    def planned(cls, ground: Ground, files: Mapping[str, Path]) -> "HeatmapTargets":
        """Nothing has to be worked out. Raises ValueError for samples of several faces."""
        if ground.layout.max_faces is not None:
            raise ValueError(
                "heatmaps are drawn of one face: build them from crops (300wlp-posmaps --targets heatmaps)"
            )
        return cls(ground)

    @classmethod
    def prepared(cls, ground: Ground, table: Table) -> "HeatmapTargets":
        """The same."""
        return cls(ground)

    def targets(self) -> tuple[Target, ...]:
        """Its stored targets."""
        return heatmap_targets()

    def derived(self) -> tuple[DerivedTarget, ...]:
        """The pictures that readers draw."""
        return derived_heatmaps(self._ground.layout.size_hw)

    def values(self, scene: Scene) -> dict[str, object]:
        """What is seen, and the box of all 68 landmarks."""
        (face,) = scene.faces
        xy = face.landmarks_px[:, :2]
        return {
            "landmark_visible": scene.landmark_visible[0],
            "face_box_px": np.concatenate([xy.min(axis=0), xy.max(axis=0)]).astype(np.float32),
        }
