"""Each system learns: eight samples by heart, from every kind of data set, and starts as its paper says."""

import numpy as np
import pytest
import torch

from geometry.hierarchy import PAPER_LEVELS, build_hierarchy
from geometry.mesh import Mesh
from storage.dataset import open_dataset
from train import dan, densereg, fan3d, mesh_gcn, prnet
from train.loader import make_loader
from train.mesh_gcn_network import mesh_loss
from train.prnet_network import Deconvolution, PositionMapNetwork
from train.run_config import OWN, RunConfig
from train.system import OptimiserConfig, PhaseConfig
from train.systems import SYSTEMS, system_class
from train.validation import validation_errors

EIGHT = range(8)


@pytest.fixture(scope="module")
def dataset(few_faces):
    return open_dataset(few_faces)


@pytest.fixture(scope="module")
def whole_mesh(dataset):
    """CNN+GCN on all vertices; its hierarchy takes seconds."""
    torch.manual_seed(0)
    return mesh_gcn.MeshGcn.for_dataset(mesh_gcn.tiny().model_copy(update={"loss_vertices": None}), dataset)


@pytest.fixture(autouse=True)
def _same_numbers_every_time():
    torch.manual_seed(0)


def batch_of(dataset, system):
    """Eight samples as a loader gives them."""
    loader = make_loader(dataset, batch_size=8, shards_in_flight=0, targets=system.targets)
    return next(iter(loader))


def learnt_by_heart(system, phase, prepared, *, rate, steps):
    """The share of its first loss that is left after so many steps on one batch, or when it is a hundredth."""
    for module in system.network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # what is learnt by heart must not be blotted out
    optimiser = torch.optim.Adam(list(system.learns(phase)), lr=rate)
    first = None
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = rate * min(1.0, 3 * (1 - step / steps))
        system.begin(phase)
        loss = system.losses(prepared, phase)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        first = loss.item() if first is None else first
        if loss.item() < 0.01 * first:
            break
    return loss.item() / first


def prepared_of(system, dataset):
    return system.prepare(batch_of(dataset, system), rng=torch.Generator().manual_seed(0))


def test_tiny_prnet_learns_eight_samples_by_heart(dataset):
    """By the paper's squares. By distances 1.2 % of the first loss, which is that share of the distance, are left after 300."""
    config = prnet.tiny().model_copy(update={"resolution": 32, "loss": "squares"})
    system = prnet.PRNet.for_dataset(config, dataset)
    prepared = prepared_of(system, dataset)
    assert learnt_by_heart(system, system.config.phases[-1], prepared, rate=3e-3, steps=150) < 0.01


def test_tiny_dan_learns_eight_samples_by_heart_in_each_stage(dataset):
    small = {"size_px": 32, "widths": (8, 16, 32, 64)}
    system = dan.DAN.for_dataset(dan.tiny().model_copy(update=small), dataset)
    prepared = prepared_of(system, dataset)
    for phase in system.config.phases:
        before = [value.clone() for value in system.network.stages[0].state_dict().values()]
        assert learnt_by_heart(system, phase, prepared, rate=5e-3, steps=500) < 0.01, phase.name
    after = list(system.network.stages[0].state_dict().values())
    assert all(map(torch.equal, before, after)), "the second stage changes neither weights nor statistics of the first"


def test_tiny_fan3d_learns_eight_samples_by_heart_in_each_phase(dataset):
    small = {"size_px": 32, "hourglass_channels": 64, "width": 8}
    system = fan3d.Fan3d.for_dataset(fan3d.tiny().model_copy(update=small), dataset)
    prepared = prepared_of(system, dataset)
    detector, regressor, joint, depth = system.config.phases
    for phase, rate in ((detector, 1e-2), (regressor, 5e-3), (depth, 2e-2)):
        assert learnt_by_heart(system, phase, prepared, rate=rate, steps=300) < 0.01, phase.name
    parts = {id(parameter) for parameter in system.learns(joint)}
    alone = [{id(parameter) for parameter in system.learns(phase)} for phase in (detector, regressor, depth)]
    assert parts == alone[0] | alone[1]
    assert not parts & alone[2]


@pytest.mark.parametrize("kind", ["quantised", "plain", "parts"])
def test_tiny_densereg_learns_eight_samples_by_heart(dataset, kind):
    """Five bins: at 65 px a tenth of a face is narrower than the features' stride of 8 px."""
    system = densereg.DenseReg.for_dataset(densereg.tiny(kind=kind, resolution=65, n_bins=5), dataset)
    steps = 300 if kind == "quantised" else 40
    bound = 0.01 if kind == "quantised" else 0.15  # the baselines are only shown to learn
    prepared = prepared_of(system, dataset)
    assert learnt_by_heart(system, system.config.phases[0], prepared, rate=7e-3, steps=steps) < bound


def test_tiny_mesh_gcn_learns_eight_samples_by_heart(dataset, whole_mesh):
    """With the paper's own loss, on 100 vertices of the same faces: a hundredth of it is a hundredth of the distance."""
    truth = prepared_of(whole_mesh, dataset)["vertices"] / whole_mesh._scale
    state = whole_mesh.state()
    coarse = build_hierarchy(Mesh(state["vertices"].numpy(), state["triangles"].numpy()), levels=(100,))
    kept = torch.from_numpy(coarse.kept[1].astype(np.int64))
    state = state | {
        "vertices": torch.from_numpy(coarse.meshes[1].vertices),
        "triangles": torch.from_numpy(coarse.meshes[1].triangles),
        "mean_face": state["mean_face"][kept],
    }
    config = mesh_gcn.tiny().model_copy(update={"levels": PAPER_LEVELS[:2], "loss_vertices": None})
    system = mesh_gcn.MeshGcn.from_state(config, state)
    images = system.at_network_size(batch_of(dataset, system)["image"])
    prepared = {"images": images, "vertices": truth[:, kept] * system._scale}
    assert config.loss == "ours"
    assert learnt_by_heart(system, config.phases[-1], prepared, rate=1.5e-3, steps=450) < 0.01


# ------------------------------------------------------------------------------------------ starts, losses, schedules


@pytest.mark.parametrize("seed", range(3))
def test_prnets_smooth_start_draws_maps_and_the_uniform_one_noise(seed):
    """Why small nets stood still: the share of the first map's variance that squares of 8 texels hold."""
    share = {}
    for start in ("uniform", "smooth"):
        torch.manual_seed(seed)
        network = PositionMapNetwork(8, initialisation=start)
        with torch.no_grad():
            inside = network.decoder(torch.randn(8, 256, 2, 2))[..., 8:-8, 8:-8]
        squares = torch.nn.functional.avg_pool2d(inside, 8)
        share[start] = float(squares.var(dim=(2, 3)).mean() / inside.var(dim=(2, 3)).mean())
    assert share["uniform"] < 0.25
    assert share["smooth"] > 0.5


def test_prnets_smooth_start_changes_weights_alone():
    plain, smooth = PositionMapNetwork(4), PositionMapNetwork(4, initialisation="smooth")
    assert [p.shape for p in plain.parameters()] == [p.shape for p in smooth.parameters()]
    layers = [layer for layer in smooth.decoder if isinstance(layer, Deconvolution)]
    assert len(layers) == 17


def test_prnets_weights_are_those_of_the_data_sets_mask_and_nothing_counts_outside_the_atlas(dataset):
    as_in_the_paper = {"resolution": 128, "reduction": 1, "loss": "squares", "depth_offset": 1.0}
    system = prnet.PRNet.for_dataset(prnet.tiny().model_copy(update=as_in_the_paper), dataset)
    prepared = prepared_of(system, dataset)
    mask = torch.from_numpy(dataset.table("weight_mask").copy())
    covered = torch.from_numpy(dataset.table("atlas_covered").copy()) > 0
    torch.testing.assert_close(prepared["weights"], mask * covered)
    with torch.no_grad():
        system.network.eval()
        loss = system.losses(prepared, system.config.phases[-1])["loss"]
        squared = (system.network(prepared["images"]) - prepared["codes"]).square().sum(dim=1)
    weights = (mask * covered).double()
    by_hand = sum((one.double() * weights).sum() / weights.sum() for one in squared) / 8
    torch.testing.assert_close(loss.double(), by_hand, rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", ["map", "mesh"])
def test_affine_outputs_turn_a_head_by_the_same_twelve_numbers_everywhere(kind, dataset, whole_mesh):
    turn = torch.tensor([[-0.1, 0.3, 0.0], [-0.3, -0.1, 0.2], [0.1, -0.2, 0.05]])
    shift = torch.tensor([0.02, -0.05, 0.1])
    numbers = torch.cat([turn, shift[:, None]], dim=1).flatten()
    if kind == "map":
        system = prnet.PRNet.for_dataset(prnet.tiny(), dataset)
        end = system.network.decoder[-1]
        side = system.config.resolution // 2
        found = end(numbers[None, :, None, None].expand(1, 12, side, side))[0].flatten(1).T
        mean, middle, unit = end.mean.flatten(1).T, torch.full((3,), 0.5), 1.0
        codes = system._texels(system._encoded(system.tables["mean_map"][None]))[0]
        torch.testing.assert_close(end.mean, codes, msg="the data set's mean map")
    else:
        network = whole_mesh.network
        last = network.last[1]
        before = {name: value.clone() for name, value in network.state_dict().items()}
        with torch.no_grad():
            for parameter in (last.weight, network.shortcut.weight, network.shortcut.bias):
                parameter.zero_()
            last.bias.copy_(numbers)
            network.eval()
            found = network(torch.zeros(1, 3, network.size_px, network.size_px))[0]
        network.load_state_dict(before)
        mean, middle, unit = network.base, network.base.mean(dim=0), network.size_px / 4
    expected = mean + (mean - middle) @ turn.T + unit * shift
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("kind", ["map", "mesh"])
def test_what_the_shortcuts_say_everywhere_is_said_of_every_texel_and_vertex(kind, dataset, whole_mesh):
    """Of maps of the data set's size too, though the decoder's are smaller: the mean map is not blurred."""
    numbers = 0.1 * torch.randn(12)
    if kind == "map":
        system = prnet.PRNet.for_dataset(prnet.tiny(), dataset)
        network, silent = system.network, system.network.decoder[-2].normalisation
        dense, repeated = network.shortcut[-2], numbers.repeat_interleave(16)
    else:
        system = whole_mesh
        network, silent = system.network, system.network.last[1]
        dense, repeated = network.shortcut, numbers.repeat(16)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.no_grad():
        for parameter in (silent.weight, silent.bias, dense.weight):
            parameter.zero_()
        dense.bias.copy_(repeated)
        network.eval()
        images = torch.rand(1, 3, 128, 128)
        if kind == "map":
            unit, margin = 128 * 1.5, 128 * 0.25
            found = ((system.predict_maps(images)[0] + margin) / unit).flatten(1).T
            mean = system._encoded(system.tables["mean_map"]).flatten(1).T
            middle, size = torch.full((3,), 0.5), 1.0
        else:
            found, mean = network(system.at_network_size(images))[0], network.base
            middle, size = mean.mean(dim=0), network.size_px / 4
    network.load_state_dict(before)
    rows = numbers.view(3, 4)
    expected = mean + (mean - middle) @ rows[:, :3].T + size * rows[:, 3]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize("kind", ["map", "mesh"])
def test_only_a_share_of_the_error_that_all_of_a_samples_z_have_in_common_is_counted(kind, dataset, whole_mesh):
    if kind == "map":
        system, target, loss, options = prnet.PRNet.for_dataset(prnet.tiny(), dataset), "codes", "squares", {}
        along_z = torch.tensor([0.0, 0.0, 0.3])[:, None, None]
    else:
        system, target, loss, options = whole_mesh, "vertices", "l2", {"of_loss": True}
        along_z = torch.tensor([0.0, 0.0, 10.0])
    prepared = prepared_of(system, dataset)
    system.network.eval()
    own, losses = system.config, {}
    with torch.no_grad():
        exact = system.network(prepared["images"], **options)
        for share in (0.0, 0.1, 1.0):
            system.config = own.model_copy(update={"depth_offset": share, "loss": loss})
            for axis, shift in (("z", along_z), ("x", along_z.roll(1, 0))):
                found = system.losses(prepared | {target: exact + shift}, own.phases[-1])
                losses[share, axis] = float(found["loss"])
    system.config = own
    assert losses[0.0, "z"] < 1e-6 * losses[1.0, "z"]
    assert losses[0.1, "z"] == pytest.approx(0.01 * losses[1.0, "z"], rel=1e-2)
    assert losses[0.0, "x"] == pytest.approx(losses[1.0, "x"]), "x is not forgiven"


@pytest.mark.parametrize("kind", ["map", "mesh"])
def test_in_the_coarse_phase_encoder_and_shortcut_learn_what_the_whole_says_with_a_silent_decoder(
    kind, dataset, whole_mesh
):
    system = prnet.PRNet.for_dataset(prnet.tiny(), dataset) if kind == "map" else whole_mesh
    network = system.network
    coarse, train = system.config.phases
    learnt = {id(parameter) for parameter in system.learns(coarse)}
    silent = network.decoder[-2].normalisation if kind == "map" else network.last[1]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.no_grad():
        silent.weight.zero_()
        silent.bias.zero_()
        network.eval()
        batch = batch_of(dataset, system)
        np.testing.assert_allclose(system.errors(batch, coarse), system.errors(batch, train), rtol=1e-4)
    network.load_state_dict(before)
    network.train()
    network.zero_grad()
    system.losses(prepared_of(system, dataset), coarse)["loss"].backward()
    moved = {id(parameter) for parameter in network.parameters() if parameter.grad is not None}
    network.zero_grad()
    assert moved == learnt, "nothing is learnt in vain, and nothing else is touched"
    assert {id(parameter) for parameter in system.learns(train)} == {
        id(parameter) for parameter in network.parameters()
    }


def test_a_coarse_phase_without_a_shortcut_is_refused():
    for kind, none in ((prnet.PRNetConfig, 0), (mesh_gcn.MeshGcnConfig, False)):
        phases = (PhaseConfig(name="coarse", steps=1),)
        with pytest.raises(ValueError, match="phase coarse is the shortcut's, and the config has none"):
            kind(phases=phases, shortcut=none)


def test_prnets_distances_are_squares_close_by_and_distances_far_off(dataset):
    config = prnet.tiny().model_copy(update={"depth_offset": 1.0})
    system = prnet.PRNet.for_dataset(config, dataset)
    system.network.eval()
    prepared = prepared_of(system, dataset)
    with torch.no_grad():
        exact = system.network(prepared["images"])
        for distance, expected in ((1.0, 1.0 - prnet.NEAR), (1e-3, 1e-3**2 / (2 * prnet.NEAR)), (0.0, 0.0)):
            shift = distance * torch.tensor([2.0, -1.0, 2.0])[:, None, None] / 3
            found = system.losses(prepared | {"codes": exact + shift}, config.phases[-1])["loss"]
            assert float(found) == pytest.approx(expected, rel=0.02, abs=1e-7)


def test_the_vertices_that_carry_the_loss_are_those_of_the_whole_mesh(dataset, whole_mesh):
    config = whole_mesh.config.model_copy(update={"loss_vertices": 100})
    few = mesh_gcn.MeshGcn(config, hierarchy=whole_mesh._hierarchy, state=whole_mesh.state())
    few._model = whole_mesh._model
    few.network.load_state_dict(whole_mesh.network.state_dict())
    chosen = few.network.chosen
    assert 90 < len(chosen) <= 100 < int(chosen[-1]), "spread over the whole list"
    batch = next(iter(make_loader(dataset, batch_size=8, targets=few.targets, augment="dan")))
    assert bool(batch["mirrored"].any())
    prepared, whole = (one.prepare(batch, rng=torch.Generator()) for one in (few, whole_mesh))
    torch.testing.assert_close(prepared["vertices"], whole["vertices"][:, chosen], rtol=0, atol=1e-3)
    few.network.eval()
    whole_mesh.network.eval()
    with torch.no_grad():
        found, all_of_them = few.network(whole["images"], of_loss=True), whole_mesh.network(whole["images"])
        torch.testing.assert_close(found, all_of_them[:, chosen], rtol=0, atol=1e-3)
        torch.testing.assert_close(few.network(whole["images"]), all_of_them)


def test_dan_starts_where_the_face_was_before_the_loader_moved_the_picture(dataset):
    system = dan.DAN.for_dataset(dan.tiny(), dataset)
    moved = next(iter(make_loader(dataset, batch_size=10, shards_in_flight=0, targets=system.targets, augment="dan")))
    plain = next(iter(make_loader(dataset, batch_size=10, shards_in_flight=0, targets=system.targets)))
    side = plain["image"].shape[-1]
    mirrored = torch.linalg.det(moved["augmented_from_crop"][:, :2, :2]) < 0
    assert 0 < int(mirrored.sum()) < 10, "both kinds are among them"
    before = plain["landmarks_px"][..., :2].clone()
    before[mirrored, :, 0] = side - 1 - before[mirrored, :, 0]
    found = dan._before(moved["landmarks_px"][..., :2], moved["augmented_from_crop"].float(), side=side)
    boxes = [torch.cat([shape.amin(dim=1), shape.amax(dim=1)], dim=1) for shape in (found, before)]
    torch.testing.assert_close(*boxes, atol=1e-2, rtol=0)


def test_dans_unmoved_starts_are_spread_as_the_released_code_spreads_them(dataset):
    system = dan.DAN.for_dataset(dan.tiny(), dataset)
    truth = system.statistics["mean_landmarks"][None].expand(4000, -1, -1)
    starts = system._perturbed(truth, torch.randn(4000, 4, generator=torch.Generator().manual_seed(0)))
    sides = truth[0].amax(dim=0) - truth[0].amin(dim=0)
    middle = (truth[0].amax(dim=0) + truth[0].amin(dim=0)) / 2
    arms = starts - starts.mean(dim=1, keepdim=True)
    rest = truth - truth.mean(dim=1, keepdim=True)
    real = (arms * rest).sum(dim=(1, 2)) / rest.square().sum(dim=(1, 2))
    cross = (rest[..., 0] * arms[..., 1] - rest[..., 1] * arms[..., 0]).sum(dim=1) / rest.square().sum(dim=(1, 2))
    assert float(torch.atan2(cross, real).std()) == pytest.approx(np.deg2rad(20), rel=0.05)
    assert float(torch.hypot(real, cross).std()) == pytest.approx(0.25, rel=0.05)
    pivot = torch.stack([real, cross], dim=1)
    turned = torch.stack(  # where the box's middle went: the landmarks' mean carried along, taken off
        [
            pivot[:, 0] * (middle - truth[0].mean(dim=0))[0] - pivot[:, 1] * (middle - truth[0].mean(dim=0))[1],
            pivot[:, 1] * (middle - truth[0].mean(dim=0))[0] + pivot[:, 0] * (middle - truth[0].mean(dim=0))[1],
        ],
        dim=1,
    )
    shift = starts.mean(dim=1) + turned - middle
    np.testing.assert_allclose((shift / sides).std(dim=0), 0.2, rtol=0.05)


def test_dans_start_spread_and_margin_are_shares_of_the_papers(dataset):
    config = dan.tiny().model_copy(update={"size_px": 32, "start_spread": 0.0, "margin": 0.1})
    system = dan.DAN.for_dataset(config, dataset)
    sides = system.network.canonical.amax(dim=0) - system.network.canonical.amin(dim=0)
    assert float(sides.max()) == pytest.approx(0.8 * 32, rel=1e-5)
    batch = batch_of(dataset, system)
    still = [system.prepare(batch, rng=torch.Generator().manual_seed(seed))["truth"] for seed in range(2)]
    torch.testing.assert_close(*still, atol=0, rtol=0)
    off = {}
    for spread in (0.25, 1.0):
        system.config = config.model_copy(update={"start_spread": spread})
        off[spread] = (system.prepare(batch, rng=torch.Generator().manual_seed(0))["truth"] - still[0]).norm(dim=-1)
    assert 0 < float(off[0.25].mean()) < 0.5 * float(off[1.0].mean())


def test_fan3ds_places_are_read_off_its_own_gaussians(dataset):
    """Between the pixels too; the maps of the tiny network are coarse."""
    for config in (fan3d.tiny(), fan3d.paper().model_copy(update={"size_px": 96})):
        small = {"detector_blocks": (1, 1, 1, 1), "depth_blocks": (1, 1, 1, 1), "width": 4, "hourglass_channels": 8}
        system = fan3d.Fan3d.for_dataset(config.model_copy(update=small), dataset)
        landmarks = 16 + (system.config.size_px - 33) * torch.rand(2, len(system.landmark_indices), 2)
        scale = (system.crop_px - 1) / (system.config.size_px - 1)
        found = system._places(system._gaussians(landmarks)) / scale
        torch.testing.assert_close(found, landmarks, atol=0.3, rtol=0)


def test_fan3ds_depth_without_heatmaps_hangs_on_the_picture_alone(dataset):
    small = {"size_px": 32, "hourglass_channels": 16, "width": 4}
    images = torch.rand(2, 3, 128, 128)
    for heatmaps in (True, False):
        config = fan3d.tiny().model_copy(update={**small, "depth_heatmaps": heatmaps})
        system = fan3d.Fan3d.for_dataset(config, dataset)
        system.network.eval()
        with torch.no_grad():
            before = system.predict_landmarks(images)
            system.network["regressor"].deconvolution.weight.copy_(torch.randn(66, 66, 8, 8))
            after = system.predict_landmarks(images)
        assert not torch.equal(before[..., :2], after[..., :2])
        assert torch.equal(before[..., 2], after[..., 2]) is not heatmaps


@pytest.mark.parametrize("size_px", [32, 48, 80])
def test_fan3ds_depth_ends_in_means_or_in_places_at_every_side(dataset, size_px):
    small = {"size_px": size_px, "hourglass_channels": 16, "width": 4, "hourglass_depth": 1}
    n_inputs = []
    for places in (False, True):
        config = fan3d.tiny().model_copy(update={**small, "depth_places": places})
        depth = fan3d.Fan3d.for_dataset(config, dataset).network["depth"].eval()
        n_inputs.append(depth.fc.in_features)
        assert depth(torch.rand(2, 69, size_px, size_px)).shape == (2, 66)
    side = -(-size_px // 32)
    assert n_inputs == [128, 128 * side**2]


@pytest.mark.parametrize(("n", "share", "n_found"), [(8, 0.5, 4), (5, 0.5, 3), (8, 0.25, 2)])
def test_fan3ds_depth_sees_the_heatmaps_it_finds_of_a_share_and_the_true_ones_of_the_others(dataset, n, share, n_found):
    small = {"size_px": 32, "hourglass_channels": 16, "width": 4, "found_share": share}
    config = fan3d.tiny().model_copy(update=small)
    system = fan3d.Fan3d.for_dataset(config, dataset)
    batch = {name: values[:n] for name, values in batch_of(dataset, system).items()}
    depth = config.phases[3]
    system.begin(depth)
    seen = []
    system.network["depth"].register_forward_pre_hook(lambda network, inputs: seen.append(inputs[0][:, 3:]))
    chosen = set()
    for seed in range(4):
        prepared = system.prepare(batch, rng=torch.Generator().manual_seed(seed))
        system.losses(prepared, depth)
        finds = prepared["finds"].tolist()
        assert len(set(finds)) == n_found
        chosen.add(tuple(sorted(finds)))
        true, found = system._gaussians(prepared["landmarks"]), system.heatmaps_of(prepared["images"])
        for i in range(n):
            torch.testing.assert_close(seen[-1][i], (found if i in finds else true)[i], rtol=1e-4, atol=1e-5)
    assert len(chosen) > 1, "drawn anew"


def test_densereg_takes_its_losses_in_every_so_many_rows_and_columns_of_the_same_maps(dataset):
    config = densereg.tiny(width=4, resolution=65, loss_every=4)
    system = densereg.DenseReg.for_dataset(config, dataset)
    system.network.eval()
    prepared = prepared_of(system, dataset)
    whole = densereg.DenseReg.for_dataset(densereg.tiny(width=4, resolution=65, loss_every=1), dataset)
    all_of_it = prepared_of(whole, dataset)
    for name in ("uv", "label"):
        torch.testing.assert_close(prepared[name], all_of_it[name][..., ::4, ::4], rtol=0, atol=0)
    images = prepared["images"]
    for name, thin in system.network(images, every=4).items():
        torch.testing.assert_close(thin, system.network(images)[name][..., ::4, ::4], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="every 3 rows and columns do not lead from the first to the last"):
        system.network(images, every=3)


def test_the_mesh_loss_is_continuous_and_steep_near_zero():
    at = torch.tensor([0.0, 1.0, 5.0 - 1e-5, 5.0 + 1e-5, -7.0], dtype=torch.float64)
    loss = mesh_loss(at)
    assert loss[0] == 0
    assert float(loss[3] - loss[2]) == pytest.approx(0, abs=1e-3)
    assert float(loss[1]) == pytest.approx(5 * (np.exp(0.25) - 1))
    assert float(loss[4] - loss[3]) == pytest.approx(2.0, abs=1e-3)


@pytest.mark.parametrize(
    ("decay", "at_start", "at_half", "at_end"),
    [("constant", 1, 1, 1), ("polynomial", 1, 0.5**0.9, 0), ("geometric", 1, 0.1, 0.01), ("step", 1, 0.9, 0.9**3)],
)
def test_rates_go_as_the_schedules_say(decay, at_start, at_half, at_end):
    optimiser = OptimiserConfig(
        learning_rate=1.0, decay=decay, decay_factor=0.9, decay_epochs=5, last_rate=0.01, warm_up_steps=0
    )
    rates = [optimiser.rate(step, epoch=epoch, n_steps=1000) for step, epoch in ((0, 0), (500, 9), (1000, 15))]
    np.testing.assert_allclose(rates, [at_start, at_half, at_end], atol=1e-12)


def test_a_warm_up_rises_linearly_to_the_rate():
    optimiser = OptimiserConfig(learning_rate=1.0, warm_up_steps=4)
    assert [optimiser.rate(step, epoch=0, n_steps=9) for step in range(6)] == [0.2, 0.4, 0.6, 0.8, 1.0, 1.0]


def test_a_phase_has_one_length():
    with pytest.raises(ValueError, match="phase train: give its length as epochs or as steps, one of the two"):
        PhaseConfig(name="train", steps=3, epochs=2)


def test_the_papers_presets_are_the_papers():
    assert prnet.paper().weights == (16, 4, 3, 0)
    assert [phase.batch_size for phase in fan3d.paper().phases] == [8, 8, 8, 16]
    assert dan.paper().validation_samples == 100
    assert (densereg.paper().n_bins, densereg.paper().batch_size, densereg.paper().phases[0].steps) == (10, 10, 20000)
    assert mesh_gcn.paper().phases[0].optimiser.decay_factor == 0.99


# ------------------------------------------------------------------------------------------------- reading, measuring


@pytest.mark.parametrize("name", sorted(SYSTEMS))
def test_every_system_learns_from_its_own_augmentation_and_measures_every_sample(dataset, name, whole_mesh):
    kind = system_class(name)
    system = whole_mesh if name == "mesh_gcn" else kind.for_dataset(kind.presets["tiny"](), dataset)
    augment = RunConfig(augment=OWN).augmentation(system.augmentation)
    assert augment == name
    batch = next(iter(make_loader(dataset, batch_size=4, targets=system.targets, augment=augment)))
    phases = system.config.phases
    prepared = system.prepare(batch, rng=torch.Generator().manual_seed(0))
    for phase in phases:
        system.begin(phase)
        losses = system.losses(prepared, phase)
        assert all(value.ndim == 0 and bool(value.isfinite()) for value in losses.values())
        errors = validation_errors(system, dataset, phase)
        assert errors.shape == (len(dataset),)
        assert np.isfinite(errors).all()
        assert system.measure(phase)


def test_mesh_gcns_vertices_are_the_models_and_mirrored_ones_are_the_other_sides(dataset, whole_mesh):
    system = whole_mesh
    batch = next(iter(make_loader(dataset, batch_size=8, targets=system.targets, augment="dan")))
    chosen = system.prepare(batch, rng=torch.Generator())["vertices"][:, system.state()["landmark_vertices"]]
    assert bool(batch["mirrored"].any()), "some of them are mirror images"
    off = chosen / system._scale - batch["landmarks_px"]
    off[..., 2] -= off[..., 2].mean(dim=1, keepdim=True)  # landmarks count z from the skin's lowest point
    assert float(off.abs().max()) < 0.5, "of a mesh that is symmetric to a fifth of a millimetre"


def test_a_system_without_a_known_backbone_refuses_pretrained_weights(dataset, tmp_path):
    system = prnet.PRNet.for_dataset(prnet.tiny(), dataset)
    with pytest.raises(ValueError, match="prnet has no backbone that is passed around with weights"):
        system.load_pretrained(tmp_path / "weights.pt")
