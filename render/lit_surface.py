"""A mesh under light before a background, for bulk: one z-buffer n times as fine, one compiled pass over its pixels.

Two lights: 300W-LP's Phong model, whose textures and sums are display-referred as in the original, and spherical
harmonics, where albedo, light and sums are linear and the result goes through the display's curve once, after the finer
pixels are averaged. :func:`render.portrait.draw_portrait` is the slower reference of the first.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int32

from geometry.camera import PerspectiveCamera, ScaledOrthographicCamera
from geometry.display_colour import GAMMA
from geometry.mesh import check_triangles
from render.harmonic_light import N_HARMONICS, HarmonicLight
from render.shading import ColorTransform, PhongLight
from render.surface_shading_kernel import develop_colours, light_surface, sum_triangle_normals, unit_rows
from render.zbuffer import RasterBuffers, rasterize

_CURVE_STEPS = 4096
_CURVE = (np.arange(_CURVE_STEPS + 1, dtype=np.float32) / _CURVE_STEPS) ** np.float32(1 / GAMMA)
"""The display's curve v ** (1/2.2), as a table: off by less than half a level of 255 above 0.001."""


@dataclass(frozen=True, slots=True)
class Surface:
    """A mesh in the model frame (mm) and what light meets on every vertex.

    A row of `rows` is: the unit normal (3), the linear albedo in [0, 1] (3), the gloss (the share that is mirrored), and
    the highlight's exponent, a whole number.
    """

    vertices: Float32[np.ndarray, "v 3"]
    triangles: Int32[np.ndarray, "t 3"]
    rows: Float32[np.ndarray, "v 8"]

    @classmethod
    def of(
        cls,
        vertices: Float32[np.ndarray, "v 3"],
        triangles: Int32[np.ndarray, "t 3"],
        *,
        albedo: Float[np.ndarray, "v 3"] | Float[np.ndarray, "3"],
        gloss: Float[np.ndarray, "v"] | float,
        shininess: Float[np.ndarray, "v"] | float,
        normals: Float32[np.ndarray, "v 3"] | None = None,
    ) -> "Surface":
        """The mesh with its area-weighted normals or given ones; one albedo, gloss, shininess may stand for all."""
        rows = np.empty((len(vertices), 8), dtype=np.float32)
        rows[:, :3] = surface_normals(vertices, triangles) if normals is None else normals
        rows[:, 3:6], rows[:, 6], rows[:, 7] = albedo, gloss, shininess
        return cls(vertices, triangles, rows)

    @property
    def normals(self) -> Float32[np.ndarray, "v 3"]:
        """The unit normals."""
        return self.rows[:, :3]


def joined(surfaces: list[Surface]) -> Surface:
    """Several surfaces as one, vertices and triangles in their order."""
    starts = np.cumsum([0, *(len(surface.vertices) for surface in surfaces)])[:-1]
    return Surface(
        np.concatenate([surface.vertices for surface in surfaces]),
        np.concatenate([surface.triangles + np.int32(start) for surface, start in zip(surfaces, starts, strict=True)]),
        np.concatenate([surface.rows for surface in surfaces]),
    )


def surface_normals(
    vertices: Float32[np.ndarray, "v 3"], triangles: Int32[np.ndarray, "t 3"]
) -> Float32[np.ndarray, "v 3"]:
    """:func:`geometry.mesh.vertex_normals` with sums in single precision: equal but for rounding.

    Pictures of people are drawn with these; other roundings would be other bytes, and so another recipe.
    """
    check_triangles(triangles, len(vertices))
    sums = np.zeros((len(vertices), 3), dtype=np.float32)
    sum_triangle_normals(np.ascontiguousarray(vertices), np.ascontiguousarray(triangles), sums)
    unit_rows(sums)
    return sums


@dataclass(frozen=True, slots=True)
class Layer:
    """A picture with holes: `colour` (display-referred, [0, 1]) where `coverage` (share of the pixel) is above 0."""

    colour: Float32[np.ndarray, "h w 3"]
    coverage: Float32[np.ndarray, "h w"]

    def over(self, background: Float32[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w 3"]:
        """The layer before a background."""
        share = self.coverage[..., None]
        return self.colour * share + background * (1 - share)


def fine_buffers(
    vertices: Float32[np.ndarray, "v 3"],
    triangles: Int32[np.ndarray, "t 3"],
    *,
    camera: ScaledOrthographicCamera | PerspectiveCamera,
    size_hw: tuple[int, int],
    supersampling: int,
    corner_xy: tuple[int, int] = (0, 0),
) -> RasterBuffers:
    """What is seen in a raster `supersampling` times as fine as the picture in either direction.

    `size_hw` pixels of the picture, from `corner_xy` on, are drawn.

    Under a perspective camera depth and weights are linear within a triangle, which they are not quite: on triangles of a
    millimetre at arm's length the difference is below a thousandth of a pixel.
    """
    n = supersampling
    # the centre of pixel x lies at n·x + (n − 1)/2 among the finer pixels
    fine = camera.project(vertices) * np.float32(n)
    fine[:, :2] += np.float32((n - 1) / 2) - n * np.array(corner_xy, dtype=np.float32)
    return rasterize(fine, triangles, size_hw=(n * size_hw[0], n * size_hw[1]))


def light_layer(
    surface: Surface,
    buffers: RasterBuffers,
    *,
    rotation: Float[np.ndarray, "3 3"],
    light: PhongLight | HarmonicLight,
    color: ColorTransform,
    supersampling: int,
) -> Layer:
    """The lit pixels of `buffers`, which show `surface`; `rotation` turns the model's axes to the camera's.

    Under Phong's light gloss is the light's own and that of the surface is not used; under harmonics `color` gives the
    white balance and contrast of the picture after the display's curve.
    """
    height, width = (extent // supersampling for extent in buffers.depth.shape)
    sky, reflected = np.zeros((2, N_HARMONICS, 3))
    if isinstance(light, PhongLight):
        sky[0] = light.ambient
        lamp, shininess = light.direction, round(light.shininess)
        lamp_colour, highlight = light.directional, light.specular * light.directional
    else:
        sky, reflected = light.irradiance_polynomial, light.radiance_polynomial
        lamp, shininess = light.lamp, 0
        lamp_colour, highlight = np.zeros(3), light.highlight
    halfway = lamp + (0.0, 0.0, 1.0)
    halfway = halfway / max(float(np.linalg.norm(halfway)), 1e-12)  # zero when the lamp stands exactly behind
    is_phong = isinstance(light, PhongLight)
    colour, coverage = np.empty((height, width, 3), np.float32), np.empty((height, width), np.float32)
    light_surface(
        buffers.triangle_id, buffers.barycentric, np.ascontiguousarray(surface.triangles), surface.rows,
        rotation.astype(np.float32), *(np.ascontiguousarray(value.T, dtype=np.float32) for value in (sky, reflected)),
        *(np.ascontiguousarray(value, dtype=np.float32) for value in (lamp, halfway, lamp_colour, highlight)),
        is_phong, shininess, _CURVE, colour, coverage,
    )  # fmt: skip
    develop_colours(colour, not is_phong, _CURVE, color.matrix.astype(np.float32), color.offset.astype(np.float32))
    return Layer(colour, coverage)


def in_colours(picture: Float32[np.ndarray, "h w 3"], color: ColorTransform) -> Float32[np.ndarray, "h w 3"]:
    """A display-referred picture in [0, 1] through a colour transform."""
    levels = np.ascontiguousarray(picture * np.float32(255))
    develop_colours(levels, False, _CURVE, color.matrix.astype(np.float32), color.offset.astype(np.float32))
    return levels
