"""A head with what it wears, photographed: skin, eyes, teeth, tongue, hair, glasses and shirt as one picture.

What labels speak of is the head alone; the rest hides some of it, as in photographs.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float32, Int64

from geometry.albedo import Appearance
from geometry.built_in import load_built_in
from geometry.built_in_file import PARTS
from geometry.camera import PerspectiveCamera, ScaledOrthographicCamera
from geometry.rotation import euler_from_rotation
from render.clothes import Clothes, shirt_surface
from render.glasses import Glasses, glasses_surfaces
from render.hair import Hair, hair_surface
from render.harmonic_light import HarmonicLight, flat_light
from render.lit_surface import Layer, Surface, fine_buffers, joined, light_layer, surface_normals
from render.physical_view import StudioLight, physical_layer
from render.shading import ColorTransform, PhongLight
from render.zbuffer import RasterBuffers

_EYE_GLOSS = 0.3
"""The sampler's gloss of eyeballs lies above, that of skin and teeth below."""


@dataclass(frozen=True, slots=True)
class Outfit:
    """What one person wears."""

    hair: Hair
    glasses: Glasses | None
    clothes: Clothes


@dataclass(frozen=True, slots=True)
class Paint:
    """One person's colours on all parts of the head: linear albedo, share mirrored, exponent of the highlight."""

    albedo: Float32[np.ndarray, "v 3"]
    gloss: Float32[np.ndarray, "v"]
    shininess: Float32[np.ndarray, "v"]

    @classmethod
    def of(cls, appearance: Appearance) -> "Paint":
        """What the sampler drew; nothing is mirrored where no sky is seen, within a mouth or behind a lid."""
        open_sky = (load_built_in("all").file.ambient_occlusion_root / 65535.0) ** 2
        eyes = appearance.gloss > _EYE_GLOSS
        part = load_built_in("all").part
        # The sampler's mouths are shut; in an open one teeth and tongue get more light than the file's occlusion says
        teeth, tongue = np.isin(part, [PARTS.index("teeth_u"), PARTS.index("teeth_l")]), part == PARTS.index("tongue")
        power = np.where(teeth, 0.22, np.where(tongue, 0.6, 0.0))
        lifted = appearance.albedo * np.maximum(open_sky, 0.02)[:, None] ** -power[:, None]
        return cls(
            np.clip(lifted, 0, 1).astype(np.float32),
            (np.where(eyes, 0.06, 0.8 * appearance.gloss) * open_sky).astype(np.float32),
            np.where(eyes, 200, 14).astype(np.float32),
        )


@cache
def skin_of_head() -> Int64[np.ndarray, "s"]:
    """The vertices of `load_built_in("all")` that are those of `load_built_in()`, in its order."""
    return np.flatnonzero(load_built_in("all").part == 0)


@dataclass(frozen=True, slots=True)
class DressedHead:
    """One person with one expression, ready to be photographed from anywhere."""

    solid: Surface
    """Head, hair and frame; the head's vertices come first."""
    lenses: Surface | None
    lens_opacity: float
    clothes: Clothes
    skin: Float32[np.ndarray, "s 3"]
    skin_normals: Float32[np.ndarray, "s 3"]

    @classmethod
    def of(cls, vertices: Float32[np.ndarray, "v 3"], paint: Paint, outfit: Outfit) -> "DressedHead":
        """Dress a head, given by the vertices (mm) of all parts."""
        head = load_built_in("all")
        normals = surface_normals(vertices, head.triangles)
        bare = Surface.of(
            vertices,
            head.triangles,
            albedo=paint.albedo,
            gloss=paint.gloss,
            shininess=paint.shininess,
            normals=normals,
        )
        skin, skin_normals = vertices[skin_of_head()], normals[skin_of_head()]
        parts, lenses = [bare], None
        if (hair := hair_surface(outfit.hair, skin, skin_normals)) is not None:
            parts.append(hair)
        if outfit.glasses is not None:
            frame, lenses = glasses_surfaces(outfit.glasses, skin, vertices[head.landmark_vertices])
            parts.append(frame)
        opacity = outfit.glasses.opacity if outfit.glasses is not None else 0.0
        return cls(joined(parts), lenses, opacity, outfit.clothes, skin, skin_normals)

    def photograph(
        self,
        *,
        camera: ScaledOrthographicCamera | PerspectiveCamera,
        light: PhongLight | HarmonicLight | StudioLight,
        color: ColorTransform,
        background: Float32[np.ndarray, "h w 3"],
        supersampling: int = 2,
    ) -> Float32[np.ndarray, "h w 3"]:
        """The picture before a background, RGB in [0, 1], as sharp as the raster.

        A studio's light needs a square picture and pyrender; NoRenderer tells what to install.
        """
        size_hw = background.shape[0], background.shape[1]
        pitch, yaw, roll = (float(angle) for angle in euler_from_rotation(camera.rotation))
        shirt = shirt_surface(self.clothes, self.skin, self.skin_normals, pitch=pitch, yaw=yaw, roll=roll)
        whole = joined([self.solid, shirt])
        buffers = fine_buffers(
            whole.vertices, whole.triangles, camera=camera, size_hw=size_hw, supersampling=supersampling
        )

        def lit(surface: Surface, seen: RasterBuffers) -> Layer:
            if isinstance(light, StudioLight):  # panes, whose own light is only a tint
                return light_layer(
                    surface, seen, rotation=camera.rotation, light=flat_light(light.ambient), color=color,
                    supersampling=supersampling,
                )  # fmt: skip
            return light_layer(
                surface, seen, rotation=camera.rotation, light=light, color=color, supersampling=supersampling
            )

        if isinstance(light, StudioLight):
            layer = physical_layer(
                whole, camera=camera, light=light, color=color, side_px=size_hw[0], supersampling=supersampling
            )
        else:
            layer = lit(whole, buffers)
        picture = layer.over(background)
        if self.lenses is None:
            return picture
        # only the window that the lenses are seen in
        places = camera.project(self.lenses.vertices)[:, :2]
        low = np.clip(np.floor(places.min(axis=0)).astype(int), 0, size_hw[::-1])
        high = np.clip(np.ceil(places.max(axis=0)).astype(int) + 1, 0, size_hw[::-1])
        if (high <= low).any():
            return picture
        left, top, right, bottom = int(low[0]), int(low[1]), int(high[0]), int(high[1])
        n = supersampling
        panes = fine_buffers(
            self.lenses.vertices, self.lenses.triangles, camera=camera, size_hw=(bottom - top, right - left),
            supersampling=n, corner_xy=(left, top),
        )  # fmt: skip
        before = buffers.depth[n * top : n * bottom, n * left : n * right]
        panes.triangle_id[before >= panes.depth] = -1
        glass = lit(self.lenses, panes)
        share = (glass.coverage * np.float32(self.lens_opacity))[..., None]
        window = picture[top:bottom, left:right]
        picture[top:bottom, left:right] = glass.colour * share + window * (1 - share)
        return picture
