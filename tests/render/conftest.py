"""The built-in model and its two atlases, each made once; and a face small enough to be worked out by hand."""

import numpy as np
import pytest

from geometry import load_model
from geometry.built_in import BuiltInModel
from geometry.mesh import Mesh
from geometry.morphable_model import REGION_NAMES, DenseModel
from geometry.unwrap import tutte
from geometry.uv import UVAtlas


@pytest.fixture(scope="session")
def built_in() -> BuiltInModel:
    return load_model("built-in")


@pytest.fixture(scope="session")
def own_atlas(built_in) -> UVAtlas:
    """The model's own atlas, eyes and mouth closed."""
    return UVAtlas(built_in.uv.astype(np.float64), np.concatenate([built_in.triangles, built_in.closing_triangles]))


@pytest.fixture(scope="session")
def tutte_atlas(built_in) -> UVAtlas:
    """A computed one on the square, which gives the face little room."""
    return tutte(Mesh(built_in.mean_shape.astype(np.float64), built_in.triangles))


@pytest.fixture(scope="session")
def sheet() -> DenseModel:
    """A bent sheet of 12 × 13 vertices with two modes: 68 of them are landmarks, and every region is somewhere."""
    rng = np.random.default_rng(5)
    rows, columns = 12, 13
    u, v = np.meshgrid(np.linspace(0, 1, columns), np.linspace(0, 1, rows))
    uv = np.stack([u.ravel(), v.ravel()], axis=1)
    mean = np.stack([160 * uv[:, 0] - 70, 190 * uv[:, 1] - 80, 60 * np.sin(3 * uv[:, 0]) + 25 * uv[:, 1] ** 2], axis=1)
    index = np.arange(rows * columns, dtype=np.int32).reshape(rows, columns)
    a, b, c, d = (x.ravel() for x in (index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]))
    return DenseModel(
        name="sheet",
        licence="CC0-1.0",
        mean=mean.astype(np.float32),
        identity_basis=rng.normal(size=(2, 3 * len(uv))).astype(np.float32),
        expression_basis=rng.normal(size=(1, 3 * len(uv))).astype(np.float32),
        identity_stddevs=np.array([2.0, 1.0]),
        expression_stddevs=np.array([1.5]),
        triangles=np.concatenate([np.stack([a, b, d], 1), np.stack([a, d, c], 1)]),
        landmark_vertices=rng.permutation(rows * columns)[:68].astype(np.int32),
        regions=(np.arange(rows * columns) // 18).clip(max=len(REGION_NAMES) - 1).astype(np.uint8),
        uv=uv,
    )
