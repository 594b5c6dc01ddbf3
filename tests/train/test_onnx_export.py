"""Exported networks give what torch gives, and a file that does not is never kept."""

import re

import numpy as np
import pytest
import torch

from geometry.extras import how_to_get
from geometry.hierarchy import build_hierarchy
from geometry.mesh import Mesh
from train import dan, mesh_gcn, onnx_export
from train.graph_layers import on_vertices, padded_rows, rescaled_laplacian, sparse_tensor
from train.restore import Restored
from train.shape_model import ShapeModel
from train.training_data import TrainingData


def small_sphere() -> Mesh:
    """A lopsided sphere of 162 vertices."""
    import trimesh

    ball = trimesh.creation.icosphere(subdivisions=2, radius=40.0)
    return Mesh(np.array(ball.vertices, dtype=np.float64) * (1, 1.3, 0.8), np.array(ball.faces, dtype=np.int32))


def restored(system, tmp_path) -> Restored:
    data = TrainingData(
        "toy", "0", "0", "nobody", "0", ("CC0",), 64, 1.5, "mean", None, frozenset(), np.zeros((68, 2)), None,
        ShapeModel.of(np.random.default_rng(0).normal(size=(9, 68, 2))), {},
    )  # fmt: skip
    system.network.eval().requires_grad_(False)
    return Restored(system, data, tmp_path / "toy.pt", "0" * 64, 0)


@pytest.fixture
def small_dan():
    torch.manual_seed(0)
    config = dan.DANConfig.model_validate(dan.tiny().model_dump() | {"size_px": 32, "widths": (4, 8), "hidden": 16})
    statistics = {
        "mean_landmarks": 16 + 32 * torch.rand(68, 2),
        "mean_picture": torch.rand(32, 32),
        "deviation": torch.ones(32, 32),
    }
    return dan.DAN(config, statistics)


def test_rows_padded_for_onnx_are_the_sparse_matrix():
    mesh = small_sphere()
    matrix = sparse_tensor(rescaled_laplacian(mesh.triangles, len(mesh.vertices)))
    features = torch.randn(3, len(mesh.vertices), 5)
    torch.testing.assert_close(on_vertices(padded_rows(matrix), features), on_vertices(matrix, features))


@pytest.mark.filterwarnings("ignore")
def test_a_mesh_network_is_exported_with_any_batch(tmp_path):
    pytest.importorskip("onnxruntime")
    import onnxruntime

    torch.manual_seed(0)
    mesh = small_sphere()
    config = mesh_gcn.MeshGcnConfig.model_validate(
        mesh_gcn.tiny().model_dump() | {"levels": (16, 64), "channels": 8, "embedding": 8}
    )
    state = {
        "crop_px": 64,
        "vertices": torch.from_numpy(mesh.vertices.astype(np.float32)),
        "triangles": torch.from_numpy(mesh.triangles),
        "landmark_vertices": torch.arange(68),
        "mean_face": torch.from_numpy(mesh.vertices.astype(np.float32)) + 32,
    }
    system = mesh_gcn.MeshGcn(config, hierarchy=build_hierarchy(mesh, levels=config.levels), state=state)
    done = onnx_export.export_onnx(restored(system, tmp_path), tmp_path / "mesh.onnx")
    assert max(done.differences.values()) < 1e-3
    session = onnxruntime.InferenceSession(str(done.path), providers=["CPUExecutionProvider"])
    vertices, landmarks = session.run(None, {"images": np.zeros((5, 3, 64, 64), dtype=np.float32)})
    assert vertices.shape == (5, 162, 3)
    np.testing.assert_array_equal(landmarks, vertices[:, :68])


@pytest.mark.filterwarnings("ignore")
def test_a_file_that_differs_from_torch_is_not_kept(small_dan, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(onnx_export, "TOLERANCE_PX", -1.0)
    with pytest.raises(onnx_export.ExportDiffers, match="landmarks_px differs by"):
        onnx_export.export_onnx(restored(small_dan, tmp_path), tmp_path / "dan.onnx")
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_a_sentence_says_what_to_install(small_dan, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(onnx_export.MissingOnnx, match=re.escape(how_to_get("onnx"))):
        onnx_export.export_onnx(restored(small_dan, tmp_path), tmp_path / "dan.onnx")


@pytest.mark.parametrize("size", [33, 64, 97])
def test_resizing_as_a_product_is_torchs_own(size):
    images = torch.rand(2, 3, 64, 64)
    weights = onnx_export.resize_weights(64, size)
    expected = torch.nn.functional.interpolate(
        images, size=(size, size), mode="bilinear", align_corners=True, antialias=size < 64
    )
    torch.testing.assert_close(weights @ images @ weights.T, expected, atol=1e-5, rtol=0)
