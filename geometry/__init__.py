"""Frames, cameras, meshes, morphable models, fitting and unwrapping: the geometry everything else stands on.

The names below are imported when first used, so that ``import geometry`` costs nothing and a process that needs a
camera does not load MATLAB readers or compiled kernels.
"""

from geometry.kernel_cache import choose_cache_folder
from geometry.lazy_names import lazy_names

choose_cache_folder()  # before the first kernel is imported, here or in `render` and `storage`

_HOME = {
    "Coefficients": "geometry.morphable_model",
    "DenseModel": "geometry.morphable_model",
    "Fit": "geometry.fit_result",
    "FitConfig": "geometry.fit_result",
    "LandmarkFitter": "geometry.fit",
    "Mesh": "geometry.mesh",
    "MorphableModel": "geometry.morphable_model",
    "ScaledOrthographicCamera": "geometry.camera",
    "Similarity2D": "geometry.frames",
    "UVAtlas": "geometry.uv",
    "build_hierarchy": "geometry.hierarchy",
    "cached_hierarchy": "geometry.hierarchy",
    "cylindrical": "geometry.cylinder",
    "describe_model": "geometry.models",
    "fit_landmarks": "geometry.fit",
    "fit_thin_plate_spline": "geometry.thin_plate_spline",
    "load_mesh": "geometry.mesh_files",
    "load_model": "geometry.models",
    "open_model": "geometry.model_archive",
    "optimal_cylindrical": "geometry.optimal_cylinder",
    "save_model": "geometry.model_archive",
    "tutte": "geometry.unwrap",
}

__all__ = sorted(_HOME)
__getattr__ = lazy_names(__name__, _HOME)


def __dir__() -> list[str]:
    return __all__
