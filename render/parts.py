"""The parts of a face: named once on the template, carried through UV to any picture (DenseReg, sec. 2 and 4.2).

DenseReg's eight classes (right and left eye, right and left eyebrow, upper and lower lip, nose, other) and finer ones
are drawn on the model's mean face. Nose and brows are the model's regions. Eyes and lips are outlined by curves through
their landmarks as seen from the front; what those hide (rolled-in lips, the lids' undersides) belongs to the nearest
visible vertex, measured along the surface, so that the lower lip never takes what lies behind the upper one.

Sides are the subject's: the right eye stands on the left of an unmirrored picture. 0 is no part: background.
"""

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Int, Shaped, UInt8

from geometry import landmarks as lm
from geometry.mesh import undirected_edges
from geometry.morphable_model import REGION_NAMES, MorphableModel
from geometry.uv import UVAtlas
from render.atlas_raster import AtlasRaster, nearest_texels
from render.visibility import visible_vertices

DENSEREG_PARTS = (
    "right eye", "left eye", "right eyebrow", "left eyebrow", "upper lip", "lower lip", "nose", "other",
)  # fmt: skip
"""Code k + 1 of a part map is entry k of its list."""

FINE_PARTS = (
    *DENSEREG_PARTS[:-1],
    "around the right eye", "around the left eye", "around the mouth", "forehead", "right cheek", "left cheek",
    "right ear", "left ear", "neck", "rest",
)  # fmt: skip
"""DenseReg's seven named parts under the same codes, and "other" by region and side."""

_PX_PER_MM = 4.0  # of the picture in which the outlines are drawn: a vertex every few pixels
_CURVE_STEPS = 16  # points drawn between two landmarks


def densereg_parts(model: MorphableModel) -> UInt8[np.ndarray, " v"]:
    """The part of every vertex, codes into :data:`DENSEREG_PARTS` counted from 1."""
    return np.minimum(fine_parts(model), len(DENSEREG_PARTS)).astype(np.uint8)


def fine_parts(model: MorphableModel) -> UInt8[np.ndarray, " v"]:
    """The part of every vertex, codes into :data:`FINE_PARTS` counted from 1."""
    shape = model.mean_shape.astype(np.float64)
    points = shape[model.landmark_vertices]
    on_left = _on_left(shape, points)
    parts = np.full(model.n_vertices, _code("rest"), dtype=np.uint8)
    for region, names in (
        ("brows", ("right eyebrow", "left eyebrow")),
        ("nose", ("nose", "nose")),
        ("eyes", ("around the right eye", "around the left eye")),
        ("mouth", ("around the mouth", "around the mouth")),
        ("forehead", ("forehead", "forehead")),
        ("cheek_jaw", ("right cheek", "left cheek")),
        ("ears", ("right ear", "left ear")),
        ("neck", ("neck", "neck")),
    ):
        codes = np.array([_code(name) for name in names], dtype=np.uint8)
        inside = model.regions == REGION_NAMES.index(region)
        parts[inside] = codes[on_left[inside].astype(int)]
    _outline(parts, model, shape, region="mouth", outlines=_lips(points), known=np.zeros(model.n_vertices, np.uint8))
    # The rim on which an eye is closed is the eye's, however far it lies behind the lids.
    rims = np.zeros(model.n_vertices, dtype=np.uint8)
    rims[model.closing_triangles] = np.where(on_left, _code("left eye"), _code("right eye"))[model.closing_triangles]
    _outline(parts, model, shape, region="eyes", outlines=_eyes(points), known=rims)
    return parts


def part_map(
    parts: UInt8[np.ndarray, " v"], atlas: UVAtlas, size: int, *, raster: AtlasRaster | None = None
) -> UInt8[np.ndarray, "s s"]:
    """The part of each texel: its strongest vertex's; texels beside the surface get the nearest one's.

    The last, because a pixel at the surface's rim may be nearest to a texel whose centre lies just outside. `raster` is
    the atlas at `size`, where it is at hand. Raises ValueError where the atlas covers no texel.
    """
    from scipy.ndimage import distance_transform_edt

    raster = AtlasRaster(atlas, size) if raster is None else raster
    if not raster.covered.any():
        raise ValueError(f"the atlas covers none of its {size} × {size} texels: choose a larger size")
    strongest = np.take_along_axis(raster.corners, raster.weights.argmax(axis=-1)[..., None], axis=-1)[..., 0]
    rows, columns = distance_transform_edt(~raster.covered, return_distances=False, return_indices=True)
    return parts[strongest[rows, columns]]


def carry_mask(
    mask: Shaped[np.ndarray, "s t *c"], uv: Float[np.ndarray, "h w 2"], is_face: Bool[np.ndarray, "h w"]
) -> Shaped[np.ndarray, "h w *c"]:
    """A mask painted in UV (a picture's array, row 0 on top where v = 1) as it lies in a field's picture.

    Each pixel takes the nearest texel's value as it is, so labels stay labels; pixels without a coordinate get 0.
    Raises ValueError for a mask that is not square.
    """
    if mask.shape[0] != mask.shape[1]:
        raise ValueError(f"a mask of UV space is square, this one has {mask.shape[0]} rows of {mask.shape[1]} texels")
    carried = np.zeros((*is_face.shape, *mask.shape[2:]), dtype=mask.dtype)
    x, y = nearest_texels(uv[is_face], len(mask)).T
    carried[is_face] = mask[y, x]
    return carried


def _code(name: str) -> int:
    return FINE_PARTS.index(name) + 1


def _on_left(shape: Float[np.ndarray, "v 3"], points: Float[np.ndarray, "68 3"]) -> Bool[np.ndarray, " v"]:
    """Vertices nearer to the left eye than to the right one: the other side of the plane between them."""
    right, left = (points[eye].mean(axis=0) for eye in (lm.RIGHT_EYE, lm.LEFT_EYE))
    return (shape - (left + right) / 2) @ (left - right) > 0


def _eyes(points: np.ndarray) -> list[tuple[str, np.ndarray]]:
    outlines = []
    for name, eye in (("right eye", lm.RIGHT_EYE), ("left eye", lm.LEFT_EYE)):
        corner, *lids = points[eye, :2]
        upper, lower = [corner, *lids[:3]], [lids[2], *lids[3:], corner]
        outlines.append((name, np.concatenate([_curve(upper), _curve(lower)])))
    return outlines


def _lips(points: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Each lip from its outer border to the line between the lips, half-way between the inner landmarks."""
    outer, inner = points[lm.OUTER_LIPS, :2], points[lm.INNER_LIPS, :2]
    right, left = outer[0], outer[6]
    line = [right, *((inner[k] + inner[-k % 8]) / 2 for k in range(5)), left]
    upper = np.concatenate([_curve(outer[:7]), _curve(line[::-1])])
    lower = np.concatenate([_curve([*outer[6:], right]), _curve(line)])
    return [("upper lip", upper), ("lower lip", lower)]


def _curve(places: Sequence[np.ndarray] | np.ndarray) -> Float[np.ndarray, "c 2"]:
    """A smooth curve through the places: a natural cubic spline over the lengths of the chords."""
    from scipy.interpolate import CubicSpline

    knots = np.array(places)
    lengths = np.concatenate([[0], np.cumsum(np.maximum(np.linalg.norm(np.diff(knots, axis=0), axis=1), 1e-9))])
    steps = np.linspace(0, lengths[-1], _CURVE_STEPS * (len(knots) - 1) + 1)
    return CubicSpline(lengths, knots, bc_type="natural")(steps)


def _outline(
    parts: UInt8[np.ndarray, " v"],
    model: MorphableModel,
    shape: Float[np.ndarray, "v 3"],
    *,
    region: str,
    outlines: Sequence[tuple[str, np.ndarray]],
    known: UInt8[np.ndarray, " v"],
) -> None:
    """Name the vertices of a region inside the outlines, and those hidden behind; where `known` is not 0 it holds."""
    from skimage.measure import points_in_poly

    candidates = np.flatnonzero(model.regions == REGION_NAMES.index(region))
    if not len(candidates):
        return
    named = parts[candidates]
    for name, outline in outlines:
        named[points_in_poly(shape[candidates, :2], outline)] = _code(name)
    named = np.where(known[candidates] > 0, known[candidates], named)
    hidden = ~_seen_from_front(model, shape)[candidates] & (known[candidates] == 0)
    parts[candidates] = _named_by_neighbours(model, candidates, named, hidden)


def _seen_from_front(model: MorphableModel, shape: Float[np.ndarray, "v 3"]) -> Bool[np.ndarray, " v"]:
    low, high = shape.min(axis=0), shape.max(axis=0)
    picture = (shape - (low[0], high[1], 0)) * (_PX_PER_MM, -_PX_PER_MM, _PX_PER_MM)
    width, height = np.ceil((high - low)[:2] * _PX_PER_MM).astype(int) + 1
    triangles = np.ascontiguousarray(np.concatenate([model.triangles, model.closing_triangles]))
    return visible_vertices(picture, triangles, size_hw=(int(height), int(width)))


def _named_by_neighbours(
    model: MorphableModel,
    vertices: Int[np.ndarray, " c"],
    names: UInt8[np.ndarray, " c"],
    hidden: Bool[np.ndarray, " c"],
) -> UInt8[np.ndarray, " c"]:
    """`names`, the hidden vertices' replaced by the name of the visible one that is nearest along the edges."""
    if hidden.all() or not hidden.any():
        return names
    place = np.full(model.n_vertices, -1)
    place[vertices] = np.arange(len(vertices))
    edges, _ = undirected_edges(model.triangles)
    edges = edges[(place[edges] >= 0).all(axis=1)]
    lengths = np.linalg.norm(np.diff(model.mean_shape[edges].astype(np.float64), axis=1)[:, 0], axis=1)
    graph = sp.csr_array((np.maximum(lengths, 1e-9), place[edges].T), shape=(len(vertices),) * 2)
    sources = np.flatnonzero(~hidden)
    _, _, nearest = sp.csgraph.dijkstra(graph, directed=False, indices=sources, min_only=True, return_predecessors=True)
    reached = nearest >= 0
    return np.where(reached, names[np.where(reached, nearest, 0)], names)
