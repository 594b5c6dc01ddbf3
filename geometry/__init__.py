"""Frames, cameras, meshes, morphable models, fitting and unwrapping: the geometry everything else stands on.

The names below are imported when first used, so that ``import geometry`` costs nothing and a process that needs a
camera does not load MATLAB readers or compiled kernels.
"""

import importlib

from geometry.kernel_cache import choose_cache_folder

choose_cache_folder()  # before the first kernel is imported, here or in `render` and `storage`

_HOME = {
    "Coefficients": "geometry.morphable_model",
    "MorphableModel": "geometry.morphable_model",
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


def __getattr__(name: str) -> object:
    """Import the module that holds `name` and hand out its object."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
