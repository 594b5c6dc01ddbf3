"""A dressed head shaded by pyrender: metallic-roughness materials and cast shadows, slower than :mod:`render.lit_surface`.

Vertices are handed over where they fall in the picture, and seen through an orthographic window of its size: whatever the
camera, pixels lie where our own z-buffer has them. Normals are given, so that light does not see this.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Float32

from geometry.camera import PerspectiveCamera, ScaledOrthographicCamera
from render.lit_surface import Layer, Surface, in_colours
from render.shaded_view import NoRenderer, load_pyrender
from render.shading import ColorTransform

_NEAR_TO_FAR_SIDES = 4.0


@dataclass(frozen=True, slots=True)
class StudioLight:
    """One lamp that casts shadows and light from everywhere, linear RGB; `lamp` points toward it in camera axes."""

    lamp: Float[np.ndarray, "3"]
    colour: Float[np.ndarray, "3"]
    ambient: Float[np.ndarray, "3"]


def draw_studio_light(rng: np.random.Generator, *, contrast: float, brightness: float, tint: float) -> StudioLight:
    """A lamp before the face and mostly above it; arguments as of :func:`render.harmonic_light.draw_harmonic_light`."""
    elevation, azimuth = rng.uniform(-0.1, 0.9), rng.uniform(-1.2, 1.2)
    lamp = np.array([np.cos(elevation) * np.sin(azimuth), np.sin(elevation), np.cos(elevation) * np.cos(azimuth)])
    tones = np.exp(rng.normal(0, tint, (2, 1)) * np.array([1.0, 0.1, -1.0]))
    lamp_share = 0.35 + 0.6 * contrast
    return StudioLight(lamp, 1.3 * brightness * lamp_share * tones[0], brightness * (1 - lamp_share) * tones[1])


def physical_layer(
    surface: Surface,
    *,
    camera: ScaledOrthographicCamera | PerspectiveCamera,
    light: StudioLight,
    color: ColorTransform,
    side_px: int,
    supersampling: int = 2,
) -> Layer:
    """The surface alone in a square picture. Raises NoRenderer with what to install."""
    pyrender = load_pyrender()
    n_fine = side_px * supersampling
    places = camera.project(surface.vertices.astype(np.float64))
    middle = (side_px - 1) / 2
    seen = np.column_stack([places[:, 0] - middle, middle - places[:, 1], places[:, 2] - places[:, 2].max()]) / side_px
    albedo, gloss = surface.rows[:, 3:6], surface.rows[:, 6]
    colours = np.column_stack([albedo, np.ones(len(albedo), np.float32)])  # linear: the shader ends with the curve
    primitive = pyrender.Primitive(
        positions=seen.astype(np.float32),
        normals=surface.normals @ camera.rotation.T.astype(np.float32),
        indices=surface.triangles.astype(np.uint32),
        color_0=colours,
        mode=4,
        material=pyrender.MetallicRoughnessMaterial(
            metallicFactor=0.0, roughnessFactor=float(np.clip(1 - 4 * gloss.mean(), 0.35, 0.9))
        ),
    )
    scene = pyrender.Scene(ambient_light=light.ambient, bg_color=(0.0, 0.0, 0.0, 0.0))
    scene.add(pyrender.Mesh([primitive]))
    pose = np.eye(4)
    pose[2, 3] = 1.0
    scene.add(pyrender.OrthographicCamera(xmag=0.5, ymag=0.5, znear=0.05, zfar=_NEAR_TO_FAR_SIDES), pose=pose)
    scene.add(pyrender.DirectionalLight(color=light.colour, intensity=np.pi), pose=_facing(light.lamp))
    try:
        renderer = pyrender.OffscreenRenderer(n_fine, n_fine)
    except Exception as error:  # EGL fails in ways of its own for every driver
        raise NoRenderer(f"{type(error).__name__}: {error}") from error
    try:
        flags = pyrender.RenderFlags.RGBA | pyrender.RenderFlags.SHADOWS_DIRECTIONAL
        fine, _ = renderer.render(scene, flags=flags)
    finally:
        renderer.delete()
    colour, share = fine[..., :3].astype(np.float32) / 255, (fine[..., 3] > 0).astype(np.float32)
    small = cv2.resize(np.dstack([colour * share[..., None], share]), (side_px, side_px), interpolation=cv2.INTER_AREA)
    coverage = np.ascontiguousarray(small[..., 3])
    return Layer(in_colours(small[..., :3] / np.maximum(coverage, 1e-6)[..., None], color), coverage)


def _facing(lamp: Float[np.ndarray, "3"]) -> Float32[np.ndarray, "4 4"]:
    """A pose whose −z axis runs from the lamp to the head."""
    z = lamp / np.linalg.norm(lamp)
    x = np.cross([0.0, 1.0, 0.0] if abs(z[1]) < 0.95 else [1.0, 0.0, 0.0], z)
    x /= np.linalg.norm(x)
    pose = np.eye(4, dtype=np.float32)
    pose[:3, :3] = np.column_stack([x, np.cross(z, x), z])
    pose[:3, 3] = 2 * z
    return pose
