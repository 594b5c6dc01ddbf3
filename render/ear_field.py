"""Dense fields of ears, from 55 landmarks (thin-plate splines) or from the mesh of a whole head (z-buffer).

Both give the same :class:`~render.correspondence.CorrespondenceField`: (u, v) of the template ear (:mod:`geometry.ear`), a
part, a label. The first is what DenseReg did with pictures of ears (Güler et al. 2017, section 4.6); the second says how far
off that is, on drawn heads.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Float, UInt8

from geometry.built_in import load_built_in
from geometry.ear import EAR_OUTLINE, N_EAR_LANDMARKS, Side, load_ear_template
from geometry.frames import Similarity2D, texel_from_uv
from geometry.thin_plate_spline import FoldReport, correspondence_field, fit_thin_plate_spline
from render.atlas_raster import nearest_texels
from render.correspondence import FACE, CorrespondenceField, FieldTemplate
from render.correspondence_kernel import OPENING, SURFACE

PART_MAP_SIZE = 512

_PART_CORNERS: Mapping[str, tuple[int, ...]] = MappingProxyType({
    "helix": (*range(14), *range(34, 19, -1)),
    "scapha": (*range(28, 35), *range(50, 55)),
    "antihelix": (34, *range(50, 55), *range(49, 41, -1)),
    "triangular fossa": (49, 54, *range(28, 20, -1)),
    "concha": (*range(35, 50), 21, 20),
    "tragus": (0, 20, *range(35, 40), 19),
    "lobe": (*range(13, 20), *range(39, 43), 34),
})  # fmt: skip

EAR_PARTS = tuple(_PART_CORNERS)
"""Code k + 1 of a part map is entry k. Parts are polygons of landmarks; the antitragus is the lobe's border to the concha."""

LEAST_LANDMARKS = 12
LEAST_SPREAD = 0.5
"""Of the convex hull of the template's landmarks, the share that the known ones must span."""

DEFAULT_SMOOTHING = 0.1
"""Of the spline: `docs/ears.md` has what it costs and saves."""


@dataclass(frozen=True, slots=True)
class EarField:
    """A field from landmarks: which ear it is (on a left one the template lies mirrored), and how the spline fared."""

    field: CorrespondenceField
    side: Side
    folds: FoldReport


@dataclass(frozen=True, slots=True)
class FlatEar:
    """The template ear laid flat: all that a field from landmarks needs of it.

    landmarks_uv  (55 2) u to the nose and v up on a right ear, in [0, 1]
    part_map      (S S) the part of each texel, row 0 on top where v = 1; texels beside the ear have the nearest one's
    """

    landmarks_uv: Float[np.ndarray, "55 2"]
    part_map: UInt8[np.ndarray, "s s"]

    def check(self, landmarks_px: Float[np.ndarray, "_ _"]) -> None:
        """Raise ValueError where too few landmarks are known, or only those of too small a part of the ear."""
        from scipy.spatial import ConvexHull

        if landmarks_px.shape != (N_EAR_LANDMARKS, 2):
            raise ValueError(f"landmarks of shape {landmarks_px.shape}: an ear has {N_EAR_LANDMARKS}, each (x, y)")
        known = _known(landmarks_px)
        n = int(known.sum())
        if n < LEAST_LANDMARKS:
            raise ValueError(
                f"{n} of the {N_EAR_LANDMARKS} landmarks are known, and {LEAST_LANDMARKS} are needed: annotate more"
            )
        # in the plane a hull's "volume" is its area
        share = float(ConvexHull(self.landmarks_uv[known]).volume / ConvexHull(self.landmarks_uv).volume)
        if share < LEAST_SPREAD:
            raise ValueError(
                f"the {n} known landmarks span {share:.0%} of the ear, and {LEAST_SPREAD:.0%} are needed, because "
                "beyond them a spline only guesses: annotate some on the other side"
            )

    def side(self, landmarks_px: Float[np.ndarray, "55 2"]) -> Side:
        """Which ear the landmarks are on, from whether the template lies mirrored. Raises as :meth:`check`."""
        self.check(landmarks_px)
        known = _known(landmarks_px)
        uv, px = self.landmarks_uv[known], landmarks_px[known]
        affine, *_ = np.linalg.lstsq(uv - uv.mean(axis=0), px - px.mean(axis=0), rcond=None)
        return "right" if np.linalg.det(affine) < 0 else "left"  # v runs up and y down

    def field(
        self,
        landmarks_px: Float[np.ndarray, "55 2"],
        *,
        size_hw: tuple[int, int],
        smoothing: float = DEFAULT_SMOOTHING,
        largest_residual: float = 0.05,
    ) -> EarField:
        """The field of a picture of one ear, from its landmarks there (x, y; pixel centres are integers; NaN: unknown).

        A spline takes the picture to the template. Pixels inside the outline (:data:`~geometry.ear.EAR_OUTLINE`) get
        coordinates; unknown landmarks of the outline are put where the known ones say. Depth is not known: it is 0, and
        its range NaN. Raises ValueError as :meth:`check`, and for landmarks whose spline folds over itself
        (:func:`~geometry.thin_plate_spline.fit_without_folds`; its sentence numbers the known landmarks).
        """
        side, known = self.side(landmarks_px), _known(landmarks_px)
        found = correspondence_field(
            landmarks_px[known],
            self.landmarks_uv[known],
            size_hw=size_hw,
            outline=self._outline_px(landmarks_px, smoothing),
            smoothing=smoothing,
            largest_residual=largest_residual,
        )
        covered = found.covered
        uv = np.where(covered[..., None], np.clip(found.uv, 0, 1), np.float32(0))
        part = np.zeros(size_hw, dtype=np.uint8)
        x, y = nearest_texels(uv[covered], len(self.part_map)).T
        part[covered] = self.part_map[y, x]
        field = CorrespondenceField(
            uv=uv,
            depth=np.zeros(size_hw, dtype=np.float32),
            part=part,
            label=np.where(covered, np.uint8(FACE), np.uint8(0)),
            face_index=np.where(covered, np.int16(0), np.int16(-1)),
            depth_range_px=np.full((1, 2), np.nan, dtype=np.float32),
        )
        return EarField(field, side, found.folds)

    def _outline_px(self, landmarks_px: np.ndarray, smoothing: float) -> Float[np.ndarray, "o 2"]:
        places, known = list(EAR_OUTLINE), _known(landmarks_px)
        outline = landmarks_px[places].astype(np.float64)
        unknown = ~known[places]
        if unknown.any():
            picture_from_template = fit_thin_plate_spline(
                self.landmarks_uv[known], landmarks_px[known], smoothing=smoothing
            )
            outline[unknown] = picture_from_template.apply(self.landmarks_uv[places][unknown])
        return outline


@cache
def flat_ear() -> FlatEar:
    """The built-in model's ear."""
    landmarks_uv = load_ear_template().landmarks_uv
    return FlatEar(landmarks_uv, _part_map(landmarks_uv, PART_MAP_SIZE))


def ear_crop(landmarks_px: Float[np.ndarray, "55 2"], *, size_px: int, margin: float) -> Similarity2D:
    """The similarity that takes a square about the known landmarks to the picture that a network sees.

    The square is `margin` times as wide as the longer side of their box; its corners go to 0 and S − 1. Raises ValueError
    where the landmarks span no box.
    """
    known = landmarks_px[_known(landmarks_px)]
    low, high = known.min(axis=0, initial=np.inf), known.max(axis=0, initial=-np.inf)
    side = margin * float((high - low).max())
    if not (np.isfinite(side) and side >= 1):
        raise ValueError(f"the landmarks span a box of {side:.3g} px: no ear can be cut out")
    scale = (size_px - 1) / side
    corner = (low + high) / 2 - side / 2
    return Similarity2D.of(scale=scale, translation_px=(-scale * corner[0], -scale * corner[1]))


@cache
def head_with_ear(side: Side) -> FieldTemplate:
    """What :func:`~render.correspondence.draw_field` draws an ear's true field from: the whole built-in head ("all" parts).

    Only the template's surface has coordinates; the rest of the head hides what is behind it and is background.
    """
    ear, skin, head = load_ear_template(side), load_built_in(), load_built_in("all")
    vertices = np.searchsorted(head.template_vertices, skin.template_vertices[ear.vertices])  # both ascend
    uv = np.zeros((head.n_vertices, 2), dtype=np.float32)
    uv[vertices] = ear.atlas.uv
    on_ear = np.zeros(head.n_vertices, dtype=bool)
    on_ear[vertices] = True
    role = np.where(on_ear[head.triangles].all(axis=1), np.uint8(SURFACE), np.uint8(OPENING))
    return FieldTemplate(head.triangles, role, uv, flat_ear().part_map)


def _part_map(landmarks_uv: Float[np.ndarray, "55 2"], size: int) -> UInt8[np.ndarray, "s s"]:
    from scipy.ndimage import distance_transform_edt
    from skimage.draw import polygon

    texels = texel_from_uv(landmarks_uv, size)
    parts = np.zeros((size, size), dtype=np.uint8)
    for code, corners in enumerate(_PART_CORNERS.values(), 1):
        x, y = texels[list(corners)].T
        parts[polygon(y, x, shape=parts.shape)] = code
    rows, columns = distance_transform_edt(parts == 0, return_distances=False, return_indices=True)
    return parts[rows, columns]


def _known(landmarks_px: Float[np.ndarray, "p 2"]) -> Bool[np.ndarray, " p"]:
    return np.isfinite(landmarks_px).all(axis=1)
