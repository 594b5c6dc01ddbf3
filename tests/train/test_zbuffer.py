"""The z-buffer's twin in torch keeps the laws of the z-buffer, and shows the same triangles."""

import importlib.util
import inspect
from pathlib import Path

import numpy as np
import pytest
import torch

import render.zbuffer
from geometry import load_model
from geometry.camera import ScaledOrthographicCamera
from geometry.morphable_model import Coefficients
from geometry.rotation import rotation_from_euler
from train import zbuffer

_spec = importlib.util.spec_from_file_location(
    "facefoundry_zbuffer_laws", Path(__file__).parents[1] / "render" / "test_zbuffer.py"
)
laws = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(laws)

LAWS = [
    law for name, law in vars(laws).items() if name.startswith("test_") and "draw" in inspect.signature(law).parameters
]
DEVICES = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])


def draw_on(device: str):
    """A function like render.rasterize that draws on `device`."""

    def draw(vertices, triangles, *, size_hw, cull=True):
        buffers = zbuffer.rasterize(
            torch.from_numpy(vertices).to(device), torch.from_numpy(triangles).to(device), size_hw=size_hw, cull=cull
        )
        return render.zbuffer.RasterBuffers(
            *(part.cpu().numpy() for part in (buffers.triangle_id, buffers.barycentric, buffers.depth))
        )

    return draw


def arguments_of(law):
    """The cases of a law beside its `draw`: those that pytest would give it."""
    cases = [{}]
    for mark in getattr(law, "pytestmark", ()):
        name, values = mark.args
        if name != "draw":
            cases = [{**case, name: value} for case in cases for value in values]
    return cases


@DEVICES
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_the_twin_keeps_the_law(law, device):
    for case in arguments_of(law):
        law(draw=draw_on(device), **case)


def test_there_are_laws_to_keep():
    assert len(LAWS) >= 15


@DEVICES
def test_a_batch_shows_the_triangles_that_the_compiled_kernel_shows(device):
    rng = np.random.default_rng(6)
    vertices, triangles = laws.bumpy_sheet(rng, 60, 120)
    meshes = (vertices + rng.normal(size=(2, 3, 1, 3)) * (4, 4, 1)).astype(np.float32)
    ours = draw_on(device)(meshes, triangles, size_hw=(120, 110))
    theirs = render.zbuffer.rasterize(meshes, triangles, size_hw=(120, 110))
    assert ours.triangle_id.shape == (2, 3, 120, 110)
    differ = ours.triangle_id != theirs.triangle_id
    assert differ.mean() <= 1e-4  # near-ties in depth, where a device rounds otherwise
    np.testing.assert_allclose(ours.depth, theirs.depth, rtol=0, atol=1e-4)
    np.testing.assert_allclose(ours.barycentric[~differ], theirs.barycentric[~differ], rtol=0, atol=1e-5)


@DEVICES
@pytest.mark.parametrize("size", [256, 451])
def test_heads_show_the_triangles_that_the_compiled_kernel_shows(device, size):
    model = load_model("built-in")
    rng = np.random.default_rng(3)
    heads = []
    for yaw in (-1.4, -0.3, 0.8, 1.35):
        vertices = model.vertices(Coefficients(model.draw_identity(rng), model.draw_expression(rng)))
        rotation = rotation_from_euler(rng.normal(0, 0.2), yaw, rng.normal(0, 0.2))
        heads.append(
            ScaledOrthographicCamera(size / 200, rotation, np.array([size / 2, 0.55 * size, 0])).project(vertices)
        )
    meshes, triangles = np.stack(heads).astype(np.float32), np.ascontiguousarray(model.triangles)
    ours = draw_on(device)(meshes, triangles, size_hw=(size, size))
    theirs = render.zbuffer.rasterize(meshes, triangles, size_hw=(size, size))
    assert theirs.covered.mean() > 0.3
    differ = ours.triangle_id != theirs.triangle_id
    assert differ.mean() <= 1e-4
    np.testing.assert_allclose(ours.depth, theirs.depth, rtol=0, atol=1e-5 * np.ptp(meshes[..., 2]))
    np.testing.assert_allclose(ours.barycentric[~differ], theirs.barycentric[~differ], rtol=0, atol=1e-5)


@DEVICES
def test_of_many_meshes_the_one_that_is_not_finite_is_named(device):
    meshes = np.repeat(laws.VERTICES[None], 6, axis=0).reshape(2, 3, -1, 3)
    meshes[1, 1, 2, 1] = np.nan
    with pytest.raises(ValueError, match="vertex 2 of mesh 4 is .*not finite"):
        draw_on(device)(meshes, laws.TRIANGLES, size_hw=(8, 8))


def test_what_is_done_piece_by_piece_is_what_is_done_at_once(monkeypatch):
    vertices, triangles = laws.bumpy_sheet(np.random.default_rng(7), 12, 50)
    meshes = np.stack([vertices, vertices[::-1], vertices * 1.1])
    at_once = draw_on("cpu")(meshes, triangles, size_hw=(50, 40), cull=False)
    monkeypatch.setattr(zbuffer, "_PIXELS_AT_ONCE", 97)
    laws.assert_same(draw_on("cpu")(meshes, triangles, size_hw=(50, 40), cull=False), at_once)


def test_no_meshes_are_no_pictures():
    buffers = zbuffer.rasterize(torch.zeros(0, 3, 3), torch.tensor([[0, 1, 2]]), size_hw=(4, 5))
    assert buffers.triangle_id.shape == (0, 4, 5)
    assert zbuffer.interpolate(buffers, torch.zeros(3, 2), torch.tensor([[0, 1, 2]])).shape == (0, 4, 5, 2)


@DEVICES
def test_values_go_to_pixels_as_in_the_compiled_kernel_and_gradients_come_back(device):
    rng = np.random.default_rng(9)
    vertices, triangles = laws.bumpy_sheet(rng, 9, 30)
    meshes = vertices + rng.normal(size=(4, 1, 3))
    on_device = torch.from_numpy(triangles).to(device)
    buffers = zbuffer.rasterize(torch.from_numpy(meshes).to(device), on_device, size_hw=(30, 25))
    expected = render.zbuffer.rasterize(meshes, triangles, size_hw=(30, 25))
    for values in (rng.normal(size=(len(vertices), 2)), rng.normal(size=(4, len(vertices), 2))):
        leaf = torch.from_numpy(values).to(device).requires_grad_()
        picture = zbuffer.interpolate(buffers, leaf, on_device)
        np.testing.assert_allclose(
            picture.detach().cpu(), render.zbuffer.interpolate(expected, values, triangles), rtol=0, atol=1e-5
        )
        picture.sum().backward()
        assert float(leaf.grad.sum()) == pytest.approx(2 * expected.covered.sum(), rel=1e-5)  # weights sum to one
