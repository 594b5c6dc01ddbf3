"""The names of `geometry`, for type checkers; written by `python infra/stubs.py`."""

from geometry.camera import ScaledOrthographicCamera as ScaledOrthographicCamera
from geometry.cylinder import cylindrical as cylindrical
from geometry.fit import LandmarkFitter as LandmarkFitter
from geometry.fit import fit_landmarks as fit_landmarks
from geometry.fit_result import Fit as Fit
from geometry.fit_result import FitConfig as FitConfig
from geometry.frames import Similarity2D as Similarity2D
from geometry.hierarchy import build_hierarchy as build_hierarchy
from geometry.hierarchy import cached_hierarchy as cached_hierarchy
from geometry.mesh import Mesh as Mesh
from geometry.mesh_files import load_mesh as load_mesh
from geometry.model_archive import open_model as open_model
from geometry.model_archive import save_model as save_model
from geometry.models import describe_model as describe_model
from geometry.models import load_model as load_model
from geometry.morphable_model import Coefficients as Coefficients
from geometry.morphable_model import DenseModel as DenseModel
from geometry.morphable_model import MorphableModel as MorphableModel
from geometry.optimal_cylinder import optimal_cylindrical as optimal_cylindrical
from geometry.thin_plate_spline import fit_thin_plate_spline as fit_thin_plate_spline
from geometry.unwrap import tutte as tutte
from geometry.uv import UVAtlas as UVAtlas
