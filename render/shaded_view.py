"""A shaded picture of a mesh from any side, by pyrender on EGL. For people only: labels come from our own z-buffer.

pyrender 0.1.45 was written for NumPy 1 and for PyOpenGL 3.1.0, and that for Pythons before 3.12: `np.infty` is put back before
it is imported, the type of `ctypes.byref` is told to PyOpenGL under its new name, and EGL is chosen where nothing else was,
because the default asks for a display. Needs the `render` extra and the system's EGL library (Debian: libegl1 and
libgl1-mesa-dri).
"""

import os
from types import ModuleType

import numpy as np
from jaxtyping import Float, Int, UInt8

from geometry.display_colour import GAMMA
from geometry.extras import how_to_get
from geometry.mesh import vertex_normals
from geometry.rotation import rotation_from_euler


class NoRenderer(RuntimeError):
    """pyrender, or the system library that it draws with, is not there."""


def shaded_view(
    vertices: Float[np.ndarray, "v 3"],
    triangles: Int[np.ndarray, "t 3"],
    *,
    yaw: float = 0.0,
    pitch: float = 0.0,
    side: int = 384,
    colors: UInt8[np.ndarray, "v 3"] | None = None,
) -> UInt8[np.ndarray, "s s 3"]:
    """The mesh turned by `yaw` and `pitch` (radians) about its middle, filling a `side` × `side` picture.

    Positive `yaw` turns the face to the viewer's left, as in 300W-LP; positive `pitch` turns it up. What looks at the viewer
    keeps its `colors`, what looks aside is darker. Vertices are in a
    right-handed frame (x right, y up, z toward the viewer): the model frame, or crop pixels with y turned up.
    Raises NoRenderer with what to install.
    """
    pyrender = load_pyrender()
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    turned = (vertices - (low + high) / 2) @ rotation_from_euler(pitch, yaw, 0.0).T
    turned = turned / (np.abs(turned).max() * 1.05)
    levels = np.full((len(turned), 3), 190, dtype=np.uint8) if colors is None else colors
    primitive = pyrender.Primitive(
        positions=turned.astype(np.float32),
        normals=vertex_normals(turned, triangles).astype(np.float32),
        indices=triangles.astype(np.uint32),
        color_0=np.column_stack(
            [(levels / 255) ** GAMMA, np.ones(len(turned))]
        ),  # linear: the shader ends with the curve
        mode=4,
        material=pyrender.MetallicRoughnessMaterial(metallicFactor=0.0, roughnessFactor=0.7, doubleSided=True),
    )
    scene = pyrender.Scene(ambient_light=(0.25, 0.25, 0.25), bg_color=(255, 255, 255))
    scene.add(pyrender.Mesh([primitive]))
    pose = np.eye(4)
    pose[2, 3] = 3.0
    scene.add(pyrender.OrthographicCamera(xmag=1.0, ymag=1.0, znear=0.1, zfar=6.0), pose=pose)
    scene.add(pyrender.DirectionalLight(intensity=2.5), pose=pose)
    try:
        renderer = pyrender.OffscreenRenderer(side, side)
    except Exception as error:  # EGL fails in ways of its own for every driver
        raise NoRenderer(f"{type(error).__name__}: {error}. {_ADVICE}") from error
    try:
        color, _ = renderer.render(scene)
    finally:
        renderer.delete()
    return np.array(color[..., :3])


_ADVICE = (
    f"Shaded views need pyrender ({how_to_get('render')}) and the system's EGL (Debian, Ubuntu: apt-get install libegl1 "
    "libgl1 libgl1-mesa-dri)"
)


_PARAMETER = "_ctypes.CArgObject"
"""What `ctypes.byref` gives, since Python 3.12; textures and shadows are made with it."""


def load_pyrender() -> ModuleType:
    """pyrender, ready to draw without a display. Raises NoRenderer with what to install."""
    os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
    os.environ.setdefault("PYGLET_HEADLESS", "1")  # pyrender imports pyglet, which would load X11
    if not hasattr(np, "infty"):
        setattr(np, "infty", np.inf)  # noqa: B010 (an assignment looks like a use of what NumPy 2 took away)
    try:
        import pyrender
        from OpenGL.plugins import FormatHandler
    except (ImportError, OSError, AttributeError) as error:
        raise NoRenderer(f"{type(error).__name__}: {error}. {_ADVICE}") from error
    known = FormatHandler.by_name("ctypesparameter").check
    if _PARAMETER not in known:
        known.append(_PARAMETER)
    return pyrender
