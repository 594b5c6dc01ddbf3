"""Where a turned face takes its colours from: its own place in the photograph, or a substitute for skin that was not shown.

**Mirror image.** A vertex of the face that the photograph hides, or shows at a slant, may be well seen on the other side.
Light is not symmetric, so the colour is multiplied by the ratio of the shading here and there, colour ≈ c₀ + c·n being
fitted to the skin that is seen (first order of Ramamoorthi and Hanrahan's 2001 series, in the file's display-referred
numbers). **The strip before the silhouette.** The neck and the jaw's underside go on behind it; they are painted with
what lies as far before it, up to some millimetres, and so are the folds of ears. What is left keeps its own place, and so the
colours of the silhouette.

How much of a substitute is taken depends on the view: only where the surface faces the new view much more than it faced
the camera. A picture that is not turned therefore takes none.
"""

from dataclasses import dataclass

import numpy as np
import scipy.spatial
from jaxtyping import Bool, Float32, Int32, UInt8

from geometry.landmarks import JAW
from geometry.morphable_model import REGION_NAMES, MorphableModel
from render.places import colours_at

FACING = 0.12  # cosine to the view from which a place counts as shown
_WELL_FACING = 0.40
_SLANT = (0.25, 0.60)  # of a place's facing then to its facing now: below the substitute, above its own
_FULL_TURN = np.radians(10.0)
_BRIGHTEST_GAIN = 1.8
_DARKEST_SHADING = 8.0  # grey levels
_CHIN, _NOSE_TIP = 8, 30
_NECK_WIDTH = 0.85  # of the jaw: a neck that is wider has become a shoulder
_FADE_MM = 20.0
_NAPE_MM = 35.0  # behind the ears
_STRIP_MM = 15.0
_STRIP = 0.35  # of its depth behind the silhouette: how far before it a hidden place looks for its colour
_MOST_PAINTERS, _PAINTERS = 2000, 4  # seen vertices to choose from, and of how many a hidden one gets the mean
_FEWEST_SEEN = 50


@dataclass(frozen=True)
class ProfilingModel:
    """What profiling needs of a morphable model, once for all pictures.

    triangles   its surface with eyes and mouth closed
    mirror      (V) the vertex on the other side of each
    symmetric   (V) the face from ear to ear: skin that may be taken from its mirror image
    below       (V) the neck, and what lies lower than the tip of the nose: skin that goes on behind the silhouette
    fade        (V) from 0 at the tip of the nose's height to 1 below it, so that what is painted has no upper edge
    ears        (V) whose folds hide each other
    left_out    (V) shoulders and nape, where the neck is wider than the jaw or behind the ears: surroundings
    """

    triangles: Int32[np.ndarray, "t 3"]
    mirror: Int32[np.ndarray, " v"]
    symmetric: Bool[np.ndarray, " v"]
    below: Bool[np.ndarray, " v"]
    fade: Float32[np.ndarray, " v"]
    ears: Bool[np.ndarray, " v"]
    left_out: Bool[np.ndarray, " v"]
    chin: int
    landmarks: Int32[np.ndarray, "68"]

    @classmethod
    def of(cls, model: MorphableModel) -> "ProfilingModel":
        """Its tables; a model without a mirror table gets the nearest vertex of the mirrored mean face."""
        mean = model.mean_shape
        mirror = model.mirror
        if mirror is None:
            mirror = (
                scipy.spatial.cKDTree(mean).query(mean * np.array([-1, 1, 1], dtype=np.float32))[1].astype(np.int32)
            )
        landmarks = mean[model.landmark_vertices]
        jaw, nose_tip = landmarks[JAW], landmarks[_NOSE_TIP]
        ears, neck = (model.regions == REGION_NAMES.index(name) for name in ("ears", "neck"))
        across, jaw_width = np.abs(mean[:, 0]), np.abs(jaw[:, 0]).max()
        flares = neck & (mean[:, 1] < jaw[_CHIN, 1]) & (across > _NECK_WIDTH * jaw_width)
        ear_to_ear = min(jaw[0, 2], jaw[-1, 2])
        nape = mean[:, 2] < ear_to_ear - _NAPE_MM
        lips = model.regions == REGION_NAMES.index("mouth")
        left_out = neck & (nape | (mean[:, 1] <= mean[flares, 1].max(initial=-np.inf)))
        return cls(
            triangles=np.concatenate([model.triangles, model.closing_triangles]),
            mirror=mirror,
            symmetric=~ears & ~neck & (mean[:, 2] > ear_to_ear),
            below=~ears & ~lips & ~nape & ~left_out & (neck | (mean[:, 1] < nose_tip[1])),
            fade=np.where(neck | ears, 1, _smoothstep((nose_tip[1] - mean[:, 1]) / _FADE_MM)).astype(np.float32),
            ears=ears & ~nape,
            left_out=left_out,
            chin=int(model.landmark_vertices[_CHIN]),
            landmarks=model.landmark_vertices,
        )


@dataclass(frozen=True, slots=True)
class FaceTexture:
    """Of each vertex: its place in the picture, how well the picture shows it, and the substitute.

    places      (V 2) in the picture (px)
    facing      (V) cosine between normal and view in the picture, 0 where hidden
    colours     (V 3) the substitute, grey levels
    worth       (V) from 0, there is none, to 1
    """

    places: Float32[np.ndarray, "v 2"]
    facing: Float32[np.ndarray, " v"]
    colours: Float32[np.ndarray, "v 3"]
    worth: Float32[np.ndarray, " v"]

    @classmethod
    def of(
        cls,
        image: UInt8[np.ndarray, "h w 3"],
        model: ProfilingModel,
        surface_px: Float32[np.ndarray, "v 3"],
        *,
        normals: Float32[np.ndarray, "v 3"],
        toward: Float32[np.ndarray, " v"],
        seen: Bool[np.ndarray, " v"],
        px_per_mm: float,
    ) -> "FaceTexture":
        """Of a face in a picture; `normals` in any frame that is fixed to the light.

        `toward` is the cosine between normal and view, `seen` what the picture shows.
        """
        facing = np.where(seen, np.maximum(toward, 0), 0).astype(np.float32)
        places = surface_px[:, :2].astype(np.float32)
        own = colours_at(image, places).astype(np.float32)
        colours = own[model.mirror] * _light_here_over_there(own, normals, facing, model.mirror)
        worth = np.where(model.symmetric, _smoothstep((facing[model.mirror] - FACING) / (_WELL_FACING - FACING)), 0)

        rim = model.below & (np.abs(toward) < FACING)
        middle = float(np.median(surface_px[rim, 2])) if rim.any() else -np.inf
        for part in (model.below, model.ears):
            painters = np.flatnonzero(part & (facing > _WELL_FACING))
            wanting = np.flatnonzero(part & (facing <= _WELL_FACING))
            if len(painters) < _FEWEST_SEEN:
                continue
            painters = painters[:: len(painters) // _MOST_PAINTERS + 1]
            targets = surface_px[wanting].astype(np.float64)
            behind = np.maximum(middle - targets[:, 2], 0)
            targets[:, 2] += behind + np.minimum(_STRIP * behind, _STRIP_MM * px_per_mm)
            _, nearest = scipy.spatial.cKDTree(surface_px[painters]).query(targets, k=_PAINTERS)
            mirrored = worth[wanting, None]
            colours[wanting] = mirrored * colours[wanting] + (1 - mirrored) * own[painters[nearest]].mean(axis=1)
            worth[wanting] = np.maximum(worth[wanting], model.fade[wanting])
        return cls(places, facing, colours, worth.astype(np.float32))

    def share(self, facing_now: Float32[np.ndarray, " v"], *, turn: float) -> Float32[np.ndarray, " v"]:
        """How much of each vertex's colour is the substitute's in a view that it faces by so much.

        `turn` is the angle between the views (radians): what is not turned takes nothing.
        """
        low, high = _SLANT
        slant = self.facing / np.maximum(facing_now, 1e-3)
        wanted = _smoothstep(np.array(turn / _FULL_TURN)) * (1 - _smoothstep((slant - low) / (high - low)))
        return np.where(facing_now > 0, wanted * self.worth, 0).astype(np.float32)


def _smoothstep(value: np.ndarray) -> np.ndarray:
    t = np.clip(value, 0, 1)
    return np.asarray(t * t * (3 - 2 * t))


def _light_here_over_there(
    colours: np.ndarray, normals: np.ndarray, facing: np.ndarray, mirror: np.ndarray
) -> Float32[np.ndarray, "v 3"]:
    """Shading at each vertex over shading at its mirror image."""
    seen = np.flatnonzero(facing > FACING)[::4]
    if len(seen) < _FEWEST_SEEN:
        return np.ones((len(normals), 3), dtype=np.float32)
    with_one = np.column_stack([np.ones(len(normals), dtype=np.float32), normals])
    fitted, *_ = np.linalg.lstsq(with_one[seen], colours[seen], rcond=None)
    shading = np.maximum(with_one @ fitted, np.float32(_DARKEST_SHADING))
    return np.clip(shading / shading[mirror], 1 / _BRIGHTEST_GAIN, _BRIGHTEST_GAIN).astype(np.float32)
