"""Frames, cameras, meshes, morphable models, fitting and unwrapping: the geometry everything else stands on.

==================================================  ================================================================
frames, camera, rotation                            the conventions: begin here
mesh, mesh_*, uv, nearest, nearest_*, plane_areas   surfaces
morphable_model, models, model_*                    3DMMs, and the readers of their files
built_in, built_in_file, face_units, ear            the built-in head; albedo, linear_albedo, painted_surface and
                                                    display_colour: its looks
landmarks, regions                                  what is where on a face
fit, fit_*, contour_paths                           landmark fits: `fit` is the interface, `fit_solver` the mathematics
unwrap, cylinder, optimal_cylinder                  surfaces laid flat; beneath them edge_weights, natural_boundary,
                                                    intrinsic_delaunay, unfolding, scaffold, sound_surface,
                                                    hole_closing, loop_filling; atlas_*: what comes out
hierarchy, hierarchy_report, decimation*            ever coarser meshes for graph networks
thin_plate_spline                                   dense correspondence from sparse landmarks
npz_files, extras, lazy_names, kernel_cache         what has nothing to do with faces
==================================================  ================================================================

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
