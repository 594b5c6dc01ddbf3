"""One picture with its faces, as all families of targets see it: what several of them need is worked out once."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Float32, Shaped

from geometry.mesh import Mesh
from geometry.morphable_model import MorphableModel
from geometry.optimal_cylinder import optimal_cylindrical
from geometry.uv import UVAtlas
from render.correspondence import CorrespondenceField, FieldTemplate, correspondence_field
from render.face_buffers import FaceBuffers, draw_faces
from render.parts import densereg_parts, part_map
from render.visibility import vertices_seen_in
from render.zbuffer import RasterBuffers

PART_MAP_SIZE = 1024


@dataclass(frozen=True, slots=True)
class SceneFace:
    """One face in the sample's pixels: its vertices, its 68 landmarks, and how large it is (px/mm)."""

    vertices_px: Float32[np.ndarray, "v 3"]
    landmarks_px: Float[np.ndarray, "68 3"]
    scale: float


@dataclass(frozen=True)
class Scene:
    """The faces of a picture of `size_hw`, in its pixels; at `ignored` places nobody is annotated.

    `buffers` are those of the only face, where the z-buffer drew several pictures at once.
    """

    size_hw: tuple[int, int]
    faces: tuple[SceneFace, ...]
    model: MorphableModel
    template: FieldTemplate | None
    ignored: Bool[np.ndarray, "h w"] | None = None
    buffers: RasterBuffers | None = None

    @cached_property
    def drawn(self) -> FaceBuffers:
        """The z-buffer: every family takes from this one."""
        if self.buffers is not None:
            return FaceBuffers.of_one(self.buffers)
        return draw_faces(
            [face.vertices_px for face in self.faces],
            self._template.triangles,
            size_hw=self.size_hw,
            scales=[face.scale for face in self.faces],
        )

    @cached_property
    def field(self) -> CorrespondenceField:
        """The correspondence field."""
        return correspondence_field(self.drawn, self._template, ignored=self.ignored)

    @cached_property
    def vertex_visible(self) -> tuple[Bool[np.ndarray, " v"], ...]:
        """For each face which of its vertices are seen, self-occlusion and other faces considered."""
        return tuple(
            vertices_seen_in(self.drawn, face.vertices_px, self.model.triangles, index=index)
            for index, face in enumerate(self.faces)
        )

    @cached_property
    def landmark_visible(self) -> tuple[Bool[np.ndarray, "68"], ...]:
        """The same of the landmarks' vertices."""
        return tuple(seen[self.model.landmark_vertices] for seen in self.vertex_visible)

    @property
    def _template(self) -> FieldTemplate:
        if self.template is None:
            raise ValueError("this scene was made without a template: no family of targets said that it needs one")
        return self.template


def field_template(model: MorphableModel, atlas: UVAtlas | None) -> FieldTemplate:
    """The template of `model` laid flat by `atlas`; without one by the unfolded cylinder (seconds, once a process)."""
    if atlas is not None:
        return _laid_flat(model, atlas)
    if model.fingerprint not in _CYLINDERS:
        mesh = Mesh(model.mean_shape.astype(np.float64), model.triangles)
        _CYLINDERS.clear()
        _CYLINDERS[model.fingerprint] = _laid_flat(
            model, optimal_cylindrical(mesh, closing_triangles=model.closing_triangles)
        )
    return _CYLINDERS[model.fingerprint]


_CYLINDERS: dict[str, FieldTemplate] = {}
"""The last model's template, by the model's fingerprint: models are too large to be keys themselves."""


def _laid_flat(model: MorphableModel, atlas: UVAtlas) -> FieldTemplate:
    return FieldTemplate.of(model, atlas, part_map(densereg_parts(model), atlas, PART_MAP_SIZE))


def template_tables(template: FieldTemplate | None) -> dict[str, np.ndarray]:
    """The template as tables of a version."""
    if template is None:
        return {}
    return {
        "field_triangles": template.triangles,
        "field_role": template.role,
        "field_uv": template.uv,
        "part_map": template.part_map,
    }


def template_of_tables(table: Callable[[str], Shaped[np.ndarray, "..."]]) -> FieldTemplate:
    """The template that :func:`template_tables` laid down."""
    return FieldTemplate(table("field_triangles"), table("field_role"), table("field_uv"), table("part_map"))
