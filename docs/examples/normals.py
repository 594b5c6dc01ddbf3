"""Targets `normals`: the direction of the skin's surface at each pixel of a crop, as a package of your own adds it."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from flows.targets.family import Ground, Table, TargetFamily
from flows.targets.scene import Scene
from geometry.mesh import vertex_normals
from render.zbuffer import interpolate
from storage.schema import Target


class NormalTargets(TargetFamily):
    """`normal`: unit vectors in the crop's frame (x right, y down, z toward the viewer), 0 where there is no face."""

    needs_template = True  # so that each scene comes with its z-buffer

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    @classmethod
    def planned(cls, ground: Ground, files: Mapping[str, Path]) -> "NormalTargets":
        """Once, where the build is planned: costly things are worked out here and handed on by `tables`."""
        if ground.layout.max_faces is not None:
            raise ValueError("normals are made of one face: build them from crops")
        return cls(ground)

    @classmethod
    def prepared(cls, ground: Ground, table: Table) -> "NormalTargets":
        """The same in every worker, from the tables."""
        return cls(ground)

    def targets(self) -> tuple[Target, ...]:
        """What is stored of each sample."""
        height, width = self._ground.layout.size_hw
        return (
            Target(
                name="normal",
                dtype="float32",
                sample_shape=(height, width, 3),
                axes=("row", "column", "xyz"),
                description="outward unit normal of the skin in the crop's frame; 0 0 0 where there is no face",
                limits=(-1.0, 1.0),
                channels_first=True,
                compression="lz4_shuffle",
            ),
        )

    def values(self, scene: Scene) -> dict[str, object]:
        """Of one sample: the corners' normals, carried to the pixels, of length one again."""
        (face,) = scene.faces
        triangles = self._ground.template.triangles
        corners = -vertex_normals(face.vertices_px, triangles)  # y runs down here, so triangles are seen from within
        normals = interpolate(scene.drawn.buffers, corners.astype(np.float32), triangles)
        length = np.linalg.norm(normals, axis=-1, keepdims=True)
        return {"normal": np.divide(normals, length, out=np.zeros_like(normals), where=length > 0)}
