"""The five systems' networks: parameter counts that public weights fix, shapes, and what their layers promise."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import sparse as sp
from torch import nn

from geometry.hierarchy import PAPER_LEVELS, MeshHierarchy, build_hierarchy
from geometry.mesh import Mesh
from train import mesh_gcn, mesh_gcn_network
from train.backbones import RESNET_101, ResNet, bilinear_deconvolution, load_pretrained
from train.dan_network import (
    DeepAlignmentNetwork,
    distance_heatmaps,
    inverse_similarity,
    moved,
    similarity_to,
    warped,
)
from train.densereg_network import DenseNetwork, decode_quantised, plain_heads, quantised_heads
from train.fan3d_network import DepthRegressor, Hourglass, LandmarkRegressor, PartDetector
from train.graph_layers import ChebyshevConvolution, laplacian, rescaled_laplacian, sparse_tensor
from train.mesh_gcn_network import MeshRegressor, mesh_loss
from train.prnet_network import PositionMapNetwork


def n_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(autouse=True)
def _same_numbers_every_time():
    torch.manual_seed(0)


# ------------------------------------------------------------------------------------------------------ counts


def test_prnet_has_the_published_weights_count_and_shapes():
    network = PositionMapNetwork()
    assert n_parameters(network) == 13_353_618
    statistics = [b for name, b in network.named_buffers() if "num_batches" not in name]
    assert n_parameters(network) + sum(b.numel() for b in statistics) == 13_365_508
    assert sum(isinstance(m, nn.ConvTranspose2d) for m in network.modules()) == 17
    assert sum(isinstance(m, nn.Conv2d | nn.ConvTranspose2d) for m in network.modules()) == 53


def test_dan_has_the_released_networks_counts_in_every_stage():
    network = DeepAlignmentNetwork(torch.rand(68, 2), n_stages=3)
    counts = [sum(p.numel() for p in network.stage_parameters(stage)) for stage in range(3)]
    assert counts == [11_144_136, 11_951_246, 11_951_246]
    assert n_parameters(network) == sum(counts)


@pytest.mark.parametrize(
    ("heads", "count"),
    [
        (quantised_heads(10, background_residual=True), 42_590_316),  # as released
        (quantised_heads(10, background_residual=True, depth_channels=4), 42_598_512),  # with its depth head
        (quantised_heads(10), 42_586_218),  # the paper's K residual units an axis
        (quantised_heads(10, depth_channels=1), 42_588_267),
    ],
)
def test_densereg_has_the_released_and_the_papers_counts(heads, count):
    assert n_parameters(DenseNetwork(heads)) == count


class MultiScaleModule(nn.Module):
    """The block of the public face-alignment network: three 3×3 in a row, all three kept (Bulat and Tzimiropoulos 2017)."""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        half, quarter = out_channels // 2, out_channels // 4

        def activated(i, o, kernel):
            convolution = nn.Conv2d(i, o, kernel, padding=kernel // 2, bias=False)
            return nn.Sequential(nn.BatchNorm2d(i), nn.ReLU(), convolution)

        self.first, self.second, self.third = (
            activated(i, o, 3) for i, o in ((in_channels, half), (half, quarter), (quarter, quarter))
        )
        self.shortcut = nn.Identity() if in_channels == out_channels else activated(in_channels, out_channels, 1)


def test_fan3d_has_the_counts_of_resnet_200_and_of_the_public_hourglass():
    assert n_parameters(DepthRegressor(66)) == 62_959_490
    block = MultiScaleModule
    public = nn.ModuleList(
        [
            nn.Sequential(
                nn.Conv2d(3, 64, 7, 2, 3), nn.BatchNorm2d(64), block(64, 128), block(128, 128), block(128, 256)
            ),
            Hourglass(4, 256, block=block, upsampling=lambda: nn.Upsample(scale_factor=2)),
            nn.Sequential(block(256, 256), nn.Conv2d(256, 256, 1), nn.BatchNorm2d(256), nn.Conv2d(256, 68, 1)),
        ]
    )
    assert n_parameters(public) == 6_249_668
    # Ours, frozen so that a change is seen.
    assert n_parameters(LandmarkRegressor(66)) == 8_110_850
    assert n_parameters(PartDetector(66)) == 62_744_008


def test_the_graph_layer_has_the_counts_of_the_public_autoencoder():
    layers = [(3, 16), (16, 16), (16, 16), (16, 32), (32, 32), (32, 16), (16, 16), (16, 16), (16, 3)]
    counts = [n_parameters(ChebyshevConvolution(i, o, n_terms=6)) for i, o in layers]
    assert counts[:5] == [304, 1552, 1552, 3104, 6176]
    dense = (640 * 8 + 8) + (8 * 640 + 640)  # 20 vertices of 32 channels to a code of 8 and back
    encoder = counts[0] + counts[1] + counts[2] + counts[3]
    decoder = counts[4] + sum(
        n_parameters(ChebyshevConvolution(i, o, n_terms=6)) for i, o in [(32, 16), (16, 16), (16, 16)]
    )
    last = n_parameters(ChebyshevConvolution(16, 3, n_terms=6))
    assert encoder + decoder + last + dense == 30_056 + 3  # its last layer alone has no bias


def test_mesh_gcn_has_its_own_count_and_less_than_the_papers_size(monkeypatch):
    """The paper says 84.5 MB and prints no layer table; ours, frozen so that a change is seen."""
    monkeypatch.setattr(mesh_gcn_network, "rescaled_laplacian", lambda triangles, n: sp.eye_array(n, format="csr"))
    sides = [130, *(int(n**0.5) for n in reversed(PAPER_LEVELS))]
    meshes = tuple(Mesh(np.zeros((side**2, 3), np.float32), np.zeros((1, 3), np.int32)) for side in sides)
    up = tuple(sp.csr_array((fine**2, coarse**2)) for fine, coarse in pairwise(sides))
    hierarchy = MeshHierarchy("", meshes, (), (), up, ())
    config = mesh_gcn.paper()
    network = MeshRegressor(
        hierarchy, torch.zeros(130**2, 3), channels=config.channels, embedding=config.embedding,
        aggregation=config.aggregation,
    )  # fmt: skip
    assert n_parameters(network) == 12_238_979
    assert 4 * n_parameters(network) / 1e6 < 84.5


def test_resnet_101_has_the_classifiers_names_and_shapes():
    network = ResNet(RESNET_101)
    assert n_parameters(network) == 42_500_160
    assert {"conv1.weight", "layer1.0.downsample.0.weight", "layer3.22.bn3.running_var"} <= network.state_dict().keys()


def small_resnet(**changes):
    return ResNet((1, 1, 1, 1), width=8, **changes)


def as_classifier(state):
    return state | {"fc.weight": torch.zeros(10, 256), "fc.bias": torch.zeros(10)}


def as_segmenter(state):
    """Torchvision's DeepLab: the trunk under `backbone.`, heads beside it."""
    return {f"backbone.{name}": value for name, value in state.items()} | {"classifier.4.weight": torch.zeros(21, 8)}


@pytest.mark.parametrize(
    "wrapped",
    [
        as_classifier,
        as_segmenter,
        lambda state: {"epoch": 3, "state_dict": {f"module.{name}": v for name, v in as_classifier(state).items()}},
        lambda state: {"model": as_classifier(state)},
        lambda state: {name: v for name, v in as_classifier(state).items() if "num_batches" not in name},
    ],
    ids=["classifier", "segmenter", "several GPUs", "training's file", "before torch 0.4.1"],
)
def test_weights_are_taken_from_the_usual_files_whatever_they_are_wrapped_in(tmp_path, wrapped):
    small = small_resnet()
    for value in small.state_dict().values():
        value.copy_(torch.rand(value.shape)) if value.is_floating_point() else value.zero_()
    torch.save(wrapped(small.state_dict()), tmp_path / "w.pth")
    dilated = small_resnet(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4))
    load_pretrained(dilated, tmp_path / "w.pth")
    torch.testing.assert_close(dilated.state_dict(), small.state_dict())


def test_weights_of_another_network_and_files_without_weights_are_refused(tmp_path):
    torch.save(as_classifier(small_resnet().state_dict()), tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"does not hold the weights of this ResNet .*layer2\.1\."):
        load_pretrained(ResNet((1, 2, 1, 1), width=8), tmp_path / "w.pth")
    with pytest.raises(ValueError, match="does not hold the weights of this ResNet .*size mismatch"):
        load_pretrained(ResNet((1, 1, 1, 1), width=4), tmp_path / "w.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    (tmp_path / "text.pth").write_text("weights")
    for name in ("list", "text"):
        with pytest.raises(ValueError, match="holds no weights that can be read"):
            load_pretrained(small_resnet(), tmp_path / f"{name}.pth")


# ------------------------------------------------------------------------------------------------------ shapes


def test_networks_keep_the_sizes_that_they_promise():
    images = torch.rand(2, 3, 64, 64)
    assert PositionMapNetwork(4)(images).shape == (2, 3, 64, 64)
    for reduction, side in ((2, 32), (4, 16)):
        smaller = PositionMapNetwork(4, reduction=reduction)
        assert smaller(images).shape == (2, 3, side, side)
        assert n_parameters(smaller) == n_parameters(PositionMapNetwork(4)), "only strides change"
    dense = DenseNetwork(quantised_heads(4, depth_channels=1), blocks=(1, 1, 1, 1), width=8)(torch.rand(2, 3, 57, 65))
    assert {name: tuple(m.shape) for name, m in dense.items()} == {
        "u_class": (2, 5, 57, 65),
        "u_residual": (2, 4, 57, 65),
        "v_class": (2, 5, 57, 65),
        "v_residual": (2, 4, 57, 65),
        "depth": (2, 1, 57, 65),
    }
    assert plain_heads()["uv"] == 2
    parts = PartDetector(5, blocks=(1, 1, 1, 1), width=8)(images)
    assert parts.shape == (2, 5, 64, 64)
    assert LandmarkRegressor(5, channels=16, depth=3)(torch.cat([parts, images], 1)).shape == (2, 5, 64, 64)
    assert DepthRegressor(5, blocks=(1, 1, 1, 1), width=8)(torch.cat([images, parts], 1)).shape == (2, 5)


def test_prnet_refuses_sides_that_cannot_be_halved_five_times():
    with pytest.raises(ValueError, match="pictures of 100 px cannot be halved five times"):
        PositionMapNetwork(4)(torch.rand(1, 3, 100, 100))


def test_prnets_same_padding_keeps_a_pixel_where_tensorflow_does():
    # A kernel with one 1 at (1, 1): TensorFlow's SAME for 4 × 4 pads one before and two after, so nothing moves.
    network = PositionMapNetwork(4)
    layer = network.encoder[0]
    with torch.no_grad():
        layer.convolution.weight.zero_()
        layer.convolution.weight[0, 0, 1, 1] = 1
    images = torch.rand(1, 3, 32, 32)
    moved_image = layer.eval()(images)[0, 0]
    torch.testing.assert_close(moved_image, images[0, 0] / (1 + 1e-3) ** 0.5)
    deconvolution = network.decoder[0]
    with torch.no_grad():
        deconvolution.deconvolution.weight.zero_()
        deconvolution.deconvolution.weight[0, 0, 1, 1] = 1
    features = torch.rand(1, 128, 8, 8)
    torch.testing.assert_close(deconvolution.eval()(features)[0, 0], features[0, 0] / (1 + 1e-3) ** 0.5)


def test_a_bilinear_deconvolution_enlarges_a_plane_exactly():
    y, x = torch.meshgrid(torch.arange(6.0), torch.arange(6.0), indexing="ij")
    enlarged = bilinear_deconvolution(1, factor=4)((2 * x + 3 * y)[None, None])[0, 0]
    fine = (torch.arange(24) + 0.5) / 4 - 0.5
    expected = 2 * fine[None, :] + 3 * fine[:, None]
    torch.testing.assert_close(enlarged[4:-4, 4:-4], expected[4:-4, 4:-4])


# --------------------------------------------------------------------------------------------------------- DAN


def canonical() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).uniform(20, 90, (68, 2)))


def similarity(scale: float, degrees: float, x: float, y: float) -> torch.Tensor:
    angle = np.deg2rad(degrees)
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    return torch.tensor([[[cos, -sin, x], [sin, cos, y]]], dtype=torch.float64)


def test_a_turned_shape_becomes_canonical():
    turned = moved(canonical()[None], similarity(1.3, 30, 5, -7))
    back = moved(turned, similarity_to(turned, canonical()))
    assert (back - canonical()).abs().max() < 1e-10


def test_dan_without_updates_returns_its_input():
    network = DeepAlignmentNetwork(canonical(), n_stages=3, widths=(4, 4, 4, 4), hidden=8).eval()
    for i, stage in enumerate(network.stages):
        nn.init.zeros_(stage.fc2.weight)
        nn.init.normal_(stage.fc2.bias, std=9.0) if i == 0 else nn.init.zeros_(stage.fc2.bias)
    first, second, third = network(torch.rand(2, 1, 112, 112))
    assert (first - network.canonical).abs().max() > 10
    assert (third - first).abs().max() < 1e-4
    assert (second - first).abs().max() < 1e-4


def test_gradients_pass_through_the_transform_and_the_heatmap():
    network = DeepAlignmentNetwork(canonical(), n_stages=2, widths=(4, 4, 4, 4), hidden=8)
    network(torch.rand(3, 1, 112, 112))[-1].square().mean().backward()
    gradient = network.stages[0].fc2.weight.grad
    assert gradient is not None
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0


def test_the_image_and_the_landmarks_are_moved_by_the_same_similarity():
    y, x = torch.meshgrid(torch.arange(112.0), torch.arange(112.0), indexing="ij")
    spot = torch.tensor([[[70.0, 40.0]]])
    image = torch.exp(-((x - 70) ** 2 + (y - 40) ** 2) / 18)[None, None]
    matrices = similarity(0.9, -25, 12, 30).float()
    result = warped(image, matrices, size_px=112)[0, 0]
    centre = torch.stack([(result * x).sum(), (result * y).sum()]) / result.sum()
    assert (centre - moved(spot, matrices)[0, 0]).abs().max() < 0.05
    torch.testing.assert_close(moved(moved(spot, matrices), inverse_similarity(matrices)), spot)


def test_the_torch_heatmap_is_the_stored_ones_twin():
    from render.heatmaps import distance_heatmap

    shapes = canonical()[:5]
    shapes[0] = torch.tensor([-3.0, 50.0])
    expected = distance_heatmap(shapes.numpy(), size_hw=(112, 112))
    torch.testing.assert_close(distance_heatmaps(shapes[None], size_px=112)[0, 0].float(), torch.from_numpy(expected))


# ---------------------------------------------------------------------------------------------------- DenseReg


@pytest.mark.parametrize("background_residual", [False, True])
def test_densereg_decodes_what_was_quantised(background_residual):
    from render.quantization import quantize

    n_bins = 10
    u = np.concatenate([np.linspace(0, 1, 101), np.arange(11) / 10]).astype(np.float32)[None, :]
    classes, residual = quantize(u, n_bins)
    scores = (
        nn.functional.one_hot(torch.from_numpy(classes.astype(np.int64)), n_bins + 1).permute(2, 0, 1)[None].float()
    )
    units = torch.full((1, n_bins + background_residual, *u.shape), 7.0)  # only the true bin's unit may be read
    units.scatter_(
        1,
        torch.from_numpy(classes.astype(np.int64) - 1 + background_residual)[None, None],
        torch.from_numpy(residual)[None, None],
    )
    decoded, labels = decode_quantised(scores, units)
    np.testing.assert_allclose(decoded[0].numpy(), u, atol=1e-6)
    np.testing.assert_array_equal(labels[0], classes)


def test_densereg_gives_no_coordinate_to_the_background():
    scores = torch.zeros(1, 5, 2, 2)
    scores[:, 0] = 1
    decoded, labels = decode_quantised(scores, torch.rand(1, 4, 2, 2))
    assert decoded.isnan().all()
    assert (labels == 0).all()


# ------------------------------------------------------------------------------------------------------ graphs


def lopsided_mesh(n: int = 12) -> Mesh:
    x, y = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    z = 0.1 * x**2 - 0.05 * y * x
    corner = (np.arange(n - 1)[:, None] * n + np.arange(n - 1)).ravel()
    triangles = np.concatenate(
        [np.stack([corner, corner + n, corner + 1], 1), np.stack([corner + n, corner + n + 1, corner + 1], 1)]
    )
    vertices = np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1).astype(np.float32)
    return Mesh(vertices, triangles.astype(np.int32))


def test_chebyshev_layers_equal_their_spectral_definition():
    mesh = lopsided_mesh(9)
    n = len(mesh.vertices)
    plain = laplacian(mesh.triangles, n).toarray()
    values, vectors = np.linalg.eigh(plain)
    layer = ChebyshevConvolution(3, 5).double()
    x = torch.randn(2, n, 3, dtype=torch.float64)
    matrix = sparse_tensor(rescaled_laplacian(mesh.triangles, n), dtype=torch.float64)
    found = layer(x, matrix).detach().numpy()

    scaled = 2 * values / values[-1] - 1
    polynomials = np.stack([np.ones(n), scaled, 2 * scaled**2 - 1])  # T0, T1, T2 of the eigenvalues
    theta = layer.weight.detach().numpy()
    expected = np.zeros((2, n, 5)) + layer.bias.detach().numpy()
    for i in range(3):
        for o in range(5):
            response = (polynomials * theta[:, i, o, None]).sum(axis=0)
            expected[..., o] += x.numpy()[..., i] @ (vectors * response) @ vectors.T
    np.testing.assert_allclose(found, expected, atol=1e-10)


@pytest.mark.filterwarnings("ignore")
def test_chebyshev_layers_equal_torch_geometrics_on_the_same_weights():
    geometric = pytest.importorskip("torch_geometric.nn")
    mesh = lopsided_mesh(6)
    n = len(mesh.vertices)
    plain = laplacian(mesh.triangles, n)
    edges = torch.from_numpy(np.stack(sp.triu(plain, k=1).nonzero()))
    reference = geometric.ChebConv(4, 7, 3, normalization=None)
    layer = ChebyshevConvolution(4, 7)
    with torch.no_grad():
        for k in range(3):
            reference.lins[k].weight.copy_(layer.weight[k].T)
        reference.bias.copy_(layer.bias)
    largest = torch.tensor(float(np.linalg.eigvalsh(plain.toarray())[-1]))
    x = torch.rand(n, 4)
    expected = reference(x, torch.cat([edges, edges.flip(0)], 1), lambda_max=largest)
    found = layer(x[None], sparse_tensor(rescaled_laplacian(mesh.triangles, n)))[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_the_rescaled_spectrum_fills_minus_one_to_one():
    for n in (5, 12):  # the dense and the sparse way to the largest eigenvalue
        mesh = lopsided_mesh(n)
        values = np.linalg.eigvalsh(rescaled_laplacian(mesh.triangles, n * n).toarray())
        assert values[0] == pytest.approx(-1)
        assert values[-1] == pytest.approx(1)


@pytest.fixture(scope="module")
def small_hierarchy():
    return build_hierarchy(lopsided_mesh(20), levels=(16, 64, 256))


@pytest.mark.parametrize("aggregation", ["none", "u-net", "no-up", "no-down", "full"])
def test_every_aggregation_regresses_every_vertex(small_hierarchy, aggregation):
    base = torch.rand(400, 3)
    network = MeshRegressor(small_hierarchy, base, channels=16, embedding=16, aggregation=aggregation)
    vertices = network(torch.rand(2, 3, 32, 32))
    assert vertices.shape == (2, 400, 3)
    vertices.square().mean().backward()
    idle = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert idle == []


def test_mesh_gcn_refuses_levels_and_pictures_that_do_not_fit(small_hierarchy):
    odd = build_hierarchy(lopsided_mesh(8), levels=(16, 50))
    with pytest.raises(ValueError, match="have no square feature maps"):
        MeshRegressor(odd, torch.zeros(64, 3))
    network = MeshRegressor(small_hierarchy, torch.zeros(400, 3), channels=16, embedding=16)
    with pytest.raises(ValueError, match="this network reads 32 × 32 px"):
        network(torch.rand(1, 3, 64, 64))


def test_mesh_gcn_refuses_weights_of_other_levels(small_hierarchy):
    """The levels are selected anew when a checkpoint is read; an older program may have selected others."""
    network = MeshRegressor(small_hierarchy, torch.zeros(400, 3), channels=16, embedding=16)
    saved = network.state_dict()
    network.load_state_dict(saved)
    older = replace(small_hierarchy, fingerprint="0" * 32)
    with pytest.raises(RuntimeError, match="other coarse levels of the mesh than this program selects"):
        MeshRegressor(older, torch.zeros(400, 3), channels=16, embedding=16).load_state_dict(saved)


def test_the_papers_loss_is_joined_and_its_gradient_stays_finite():
    x = torch.tensor([-5.0 - 1e-4, -5.0 + 1e-4, 0.0, 2.0, 1e6], requires_grad=True)
    loss = mesh_loss(x)
    assert loss[0].item() == pytest.approx(loss[1].item(), abs=2e-3)
    assert loss[3].item() == pytest.approx(5 * (np.exp(0.5) - 1))
    assert loss[4].item() == pytest.approx(1e6 + 5 * (np.exp(1.25) - 1) - 5)
    loss.sum().backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad[[0, 3, 4]], [-1, 1.25 * np.exp(0.5), 1], rtol=1e-5)
