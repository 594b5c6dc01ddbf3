"""Correspondence fields: which place of the template is seen at each pixel (DenseReg, Güler et al. 2017, sec. 2).

The horizontal and vertical coordinate u^h, u^v ∈ [0, 1] of a template laid flat, carried to the visible pixels of a
photograph by a z-buffer; with them the depth, the part of the face, and whose face it is. u^h grows to the viewer's
right and u^v upward, as UV does everywhere in this project.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int16, Int32, UInt8

from geometry.morphable_model import REGION_NAMES, MorphableModel
from geometry.uv import UVAtlas
from render.correspondence_kernel import OPENING, SURFACE, UNPLACED, blank_openings, depth_ranges, fill_field
from render.face_buffers import FaceBuffers, draw_faces
from render.quantization import BACKGROUND, quantize
from render.zbuffer import RasterBuffers, rasterize

FACE = 1


@dataclass(frozen=True, slots=True)
class CorrespondenceField:
    """What is known of each pixel of a picture.

    uv              (u^h, u^v) in [0, 1] where label is FACE; 0 elsewhere
    depth           z between the farthest (0) and the nearest (1) visible point of the same face; 0 elsewhere
    part            what the template's part map says at uv; 0 elsewhere
    label           0 (BACKGROUND): no face; 1 (FACE); 255 (IGNORE): nothing may be learned here
    face_index      whose surface it is, an index in the list of faces; −1: nobody's
    depth_range_px  for each face the z of depth 0 and of depth 1, pixels; NaN where nothing of the face is seen
    """

    uv: Float32[np.ndarray, "h w 2"]
    depth: Float32[np.ndarray, "h w"]
    part: UInt8[np.ndarray, "h w"]
    label: UInt8[np.ndarray, "h w"]
    face_index: Int16[np.ndarray, "h w"]
    depth_range_px: Float32[np.ndarray, "n 2"]

    @property
    def is_face(self) -> Bool[np.ndarray, "h w"]:
        """Pixels that have coordinates."""
        return self.label == FACE

    def quantized(self, n_bins: int) -> tuple[UInt8[np.ndarray, "h w 2"], Float32[np.ndarray, "h w 2"]]:
        """Classes and residuals of both coordinates, as :func:`render.quantization.quantize` defines them."""
        return quantize(self.uv, n_bins, label=np.repeat(self.label[..., None], 2, axis=-1))


@dataclass(frozen=True, slots=True)
class FieldTemplate:
    """What all faces of a data set share: what is drawn, and what it is called.

    triangles  (T 3) the model's own, then those that close its eyes (so far :func:`with_eyes_closed`), then its mouth
    role       (T,) SURFACE: has coordinates. UNPLACED: surface that the atlas left out (a cylinder's seam): its pixels
               are to be ignored. OPENING: what closes the mouth, so that the back of the head is not seen through it:
               its pixels are background
    uv         (V 2) coordinates of every vertex
    part_map   (S S) the part of each texel, see :mod:`render.parts`
    """

    triangles: Int32[np.ndarray, "t 3"]
    role: UInt8[np.ndarray, " t"]
    uv: Float32[np.ndarray, "v 2"]
    part_map: UInt8[np.ndarray, "s s"]

    @classmethod
    def of(cls, model: MorphableModel, atlas: UVAtlas, part_map: UInt8[np.ndarray, "s s"]) -> "FieldTemplate":
        """The template of `model` laid flat by `atlas`.

        Eyes are closed where the atlas closes them, so that an eye has coordinates as one with an eyeball would.
        Raises ValueError for an atlas of another model.
        """
        if len(atlas.uv) != model.n_vertices:
            raise ValueError(
                f"the atlas places {len(atlas.uv)} vertices and {model.name} has {model.n_vertices}: "
                "atlas and model must belong together, in one choice of the model's parts"
            )
        surface, openings = with_eyes_closed(model), model.closing_triangles[~closes_eye(model)]
        template = cls.of_surface(np.concatenate([surface, openings]), atlas, part_map)
        role = template.role.copy()
        over_eyes = slice(len(model.triangles), len(surface))
        role[over_eyes] = np.where(role[over_eyes] == UNPLACED, np.uint8(OPENING), role[over_eyes])
        role[len(surface) :] = OPENING
        return cls(template.triangles, role, template.uv, template.part_map)

    @classmethod
    def of_surface(
        cls, triangles: Int32[np.ndarray, "t 3"], atlas: UVAtlas, part_map: UInt8[np.ndarray, "s s"]
    ) -> "FieldTemplate":
        """The template of any surface: its triangles have coordinates where `atlas` holds them."""
        role = np.where(atlas.holds(triangles), np.uint8(SURFACE), np.uint8(UNPLACED))
        uv = atlas.uv.astype(np.float32)
        return cls(np.ascontiguousarray(triangles), role, uv, np.ascontiguousarray(part_map))


def closes_eye(model: MorphableModel) -> Bool[np.ndarray, " c"]:
    """Which of the model's closing triangles lie over an eye."""
    return (model.regions[model.closing_triangles] == REGION_NAMES.index("eyes")).all(axis=1)


def with_eyes_closed(model: MorphableModel) -> Int32[np.ndarray, "t 3"]:
    """The model's triangles and those over its eyes: the surface to be laid flat for a field."""
    return np.ascontiguousarray(np.concatenate([model.triangles, model.closing_triangles[closes_eye(model)]]))


def draw_field(
    template: FieldTemplate,
    faces_px: Sequence[Float[np.ndarray, "v 3"]],
    *,
    size_hw: tuple[int, int],
    scales: Sequence[float] | None = None,
    ignored: Bool[np.ndarray, "h w"] | None = None,
) -> CorrespondenceField:
    """The field of a picture with these faces, their vertices in its pixels; who hides whom: :func:`draw_faces`.

    Where `ignored` is set and no face is drawn, the label is IGNORE: other people's faces, which nobody annotated.
    """
    drawn = draw_faces(faces_px, template.triangles, size_hw=size_hw, scales=scales)
    return correspondence_field(drawn, template, ignored=ignored)


def draw_fields(
    template: FieldTemplate, faces_px: Float[np.ndarray, "n v 3"], *, size_hw: tuple[int, int]
) -> list[CorrespondenceField]:
    """The fields of many pictures of one size with one face each.

    What :func:`draw_field` says of each, sooner: sixteen faces are drawn at a time (:func:`render.zbuffer.rasterize`).
    """
    pictures = rasterize(faces_px, template.triangles, size_hw=size_hw)
    return [correspondence_field(FaceBuffers.of_one(pictures[i]), template) for i in range(len(faces_px))]


def without_openings(drawn: FaceBuffers, template: FieldTemplate) -> FaceBuffers:
    """What was drawn with the template's triangles, less what closes mouths: for all maps but the field.

    (:func:`correspondence_field` takes either.) What lies behind an open mouth stays hidden.
    """
    seen = drawn.buffers
    copies = (seen.triangle_id.copy(), seen.barycentric.copy(), seen.depth.copy())
    face_index = drawn.face_index.copy()
    blank_openings(*copies, face_index, template.role)
    return FaceBuffers(RasterBuffers(*copies), face_index, drawn.n_faces)


def correspondence_field(
    drawn: FaceBuffers, template: FieldTemplate, *, ignored: Bool[np.ndarray, "h w"] | None = None
) -> CorrespondenceField:
    """The field of what was drawn with the template's own triangles.

    Raises ValueError for buffers of other triangles (as far as the counts can tell), or an `ignored` of another size.
    """
    buffers = drawn.buffers
    size_hw = buffers.triangle_id.shape
    if (last := int(buffers.triangle_id.max(initial=-1))) >= len(template.triangles):
        raise ValueError(
            f"the buffers show triangle {last} and the template has {len(template.triangles)}: draw template.triangles"
        )
    ignored = np.zeros(size_hw, dtype=bool) if ignored is None else ignored
    if ignored.shape != size_hw:
        raise ValueError(f"ignored places {ignored.shape} do not fit a picture of {size_hw[0]} × {size_hw[1]} pixels")
    low = np.full(drawn.n_faces, np.inf, dtype=np.float32)
    high = np.full(drawn.n_faces, -np.inf, dtype=np.float32)
    depth_ranges(buffers.triangle_id, buffers.depth, drawn.face_index, template.role, low, high)
    extent = np.where(high > low, high - low, np.float32(1))  # a face parallel to the picture has depth 0
    field = CorrespondenceField(
        uv=np.zeros((*size_hw, 2), dtype=np.float32),
        depth=np.zeros(size_hw, dtype=np.float32),
        part=np.zeros(size_hw, dtype=np.uint8),
        label=np.full(size_hw, BACKGROUND, dtype=np.uint8),
        face_index=np.full(size_hw, -1, dtype=np.int16),
        depth_range_px=np.where(np.isfinite(low), [low, high], np.float32(np.nan)).T.astype(np.float32),
    )
    fill_field(
        buffers.triangle_id, buffers.barycentric, buffers.depth, drawn.face_index, template.triangles, template.role,
        template.uv, template.part_map, low, 1 / extent, ignored,
        field.uv, field.depth, field.part, field.label, field.face_index,
    )  # fmt: skip
    return field


def unannotated_boxes(
    boxes_px: Float[np.ndarray, "b 4"], faces_landmarks_px: Sequence[Float[np.ndarray, "_ _"]]
) -> Float[np.ndarray, "unannotated 4"]:
    """Of a detector's boxes (left, top, right, bottom) those that hold no annotated landmark (the paper, sec. 4.1).

    Landmarks that are NaN lie in no box.
    """
    points = np.concatenate([np.zeros((0, 2)), *(landmarks[:, :2] for landmarks in faces_landmarks_px)])
    low, high = boxes_px[:, None, :2], boxes_px[:, None, 2:]
    holds = ((points >= low) & (points <= high)).all(axis=-1)  # (b p)
    return boxes_px[~np.any(holds, axis=1)]


def box_mask(boxes_px: Float[np.ndarray, "b 4"], *, size_hw: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """The pixels whose centres lie in any of the boxes (left, top, right, bottom), borders included."""
    mask = np.zeros(size_hw, dtype=bool)
    for left, top, right, bottom in boxes_px.tolist():
        rows = slice(max(int(np.ceil(top)), 0), max(int(np.floor(bottom)) + 1, 0))
        columns = slice(max(int(np.ceil(left)), 0), max(int(np.floor(right)) + 1, 0))
        mask[rows, columns] = True
    return mask
