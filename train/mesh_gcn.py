"""CNN and graph network trained to every vertex of the model (Meng et al. 2022)."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from geometry.hierarchy import PAPER_LEVELS, MeshHierarchy, build_hierarchy
from geometry.mesh import Mesh
from geometry.morphable_model import SurfacePoints
from storage.dataset import ShardedDataset
from train.coarse import COARSE, CoarseConfig, CoarseSystem
from train.mesh_gcn_network import Aggregation, MeshRegressor, Output, mesh_loss
from train.resizing import averaged
from train.system import Batch, OptimiserConfig, PhaseConfig, check_targets

LossName = Literal["ours", "l1", "l2", "smooth-l1"]
MEAN_FACES = 512
"""Samples that the mean training face is taken from, spread evenly over the data set."""


class MeshGcnConfig(CoarseConfig, frozen=True, extra="forbid"):
    """The network, its levels and its loss. The picture's side is twice the root of the finest level's vertices."""

    levels: tuple[int, ...] = Field(PAPER_LEVELS, min_length=1, description="Vertices of the levels, 16 · 4ᵏ.")
    channels: int = Field(128, ge=8, description="Features of a vertex.")
    embedding: int = Field(256, ge=8, description="Numbers between encoder and first level.")
    aggregation: Aggregation = Field(
        "full", description="What lies between encoder and decoder (the paper's ablation)."
    )
    output: Output = Field(
        "offset",
        description="offset: from the mean face, for each vertex; affine: affine maps of the mean face, for small nets.",
    )
    shortcut: bool = Field(
        False,
        description="A dense layer makes an output at the 16 vertices from the embedding; it is enlarged and added to the last.",
    )
    loss: LossName = Field("ours", description="The paper's loss, or what it is compared with.")
    loss_vertices: int | None = Field(
        None, ge=16, description="So many vertices, spread evenly over the list, carry the loss; none: all of them."
    )


def paper() -> MeshGcnConfig:
    """Section IV-B: SGD with momentum 0.9, 1e-3 and × 0.99 every epoch, batches of 48. The number of epochs is ours."""
    optimiser = OptimiserConfig(kind="sgd", learning_rate=1e-3, decay="exponential", decay_factor=0.99)
    return MeshGcnConfig(batch_size=48, phases=(PhaseConfig(name="train", epochs=100, optimiser=optimiser),))


def tiny() -> MeshGcnConfig:
    """Learns on a CPU in minutes: 64 px, four levels, a quarter of the channels, Adam at a rate that falls late.

    The mean face is moved by affine maps, whose coarse part comes straight from the embedding, and one vertex in 26 carries
    the loss: 1,024 make all 53,000 anyway.
    """
    coarse = OptimiserConfig(learning_rate=3e-3, decay="geometric", last_rate=1e-3, warm_up_steps=100)
    whole = OptimiserConfig(learning_rate=2e-3, decay="polynomial", decay_factor=1.0, warm_up_steps=100)
    return MeshGcnConfig(
        batch_size=32,
        validation_samples=500,
        levels=PAPER_LEVELS[:4],
        channels=32,
        embedding=128,
        output="affine",
        shortcut=True,
        depth_offset=0.1,
        loss_vertices=2048,
        phases=(
            PhaseConfig(name=COARSE, steps=5000, optimiser=coarse),
            PhaseConfig(name="train", steps=1600, optimiser=whole),
        ),
    )


PRESETS = {"paper": paper, "tiny": tiny}


class MeshGcn(CoarseSystem):
    """The network over a model's mesh, and the model's linear basis that makes the true vertices."""

    name: Literal["mesh_gcn"] = "mesh_gcn"
    config_type = MeshGcnConfig
    presets = PRESETS
    config: MeshGcnConfig
    network: MeshRegressor
    targets = ("image", "identity", "expression", "crop_from_model", "mirrored", "landmarks_px")
    augmentation = "mesh_gcn"

    def __init__(self, config: MeshGcnConfig, *, hierarchy: MeshHierarchy, state: dict[str, Any]) -> None:
        """`state` is what :meth:`state` gives; `hierarchy` is of its mesh with the config's levels."""
        self.config = config
        self._state = state
        self._hierarchy = hierarchy
        scale = 2 * round(config.levels[-1] ** 0.5) / state["crop_px"]
        n_vertices, wanted = len(state["vertices"]), config.loss_vertices
        self._chosen: np.ndarray | None = None
        if wanted is not None and wanted < n_vertices:
            self._chosen = np.unique(np.linspace(0, n_vertices - 1, wanted).astype(np.int64))
        self.network = MeshRegressor(
            hierarchy,
            state["mean_face"] * scale,
            channels=config.channels,
            embedding=config.embedding,
            aggregation=config.aggregation,
            output=config.output,
            shortcut=config.shortcut,
            chosen=self._chosen,
        )
        self._scale = scale
        self._model: Any = None
        self._bases: dict[tuple[bool, torch.device], Tensor] = {}

    @classmethod
    def for_dataset(cls, config: MeshGcnConfig, dataset: ShardedDataset) -> "MeshGcn":
        """A system for the model and crop size of a data set; the hierarchy is built here (seconds)."""
        check_targets("mesh_gcn", cls.targets, dataset)
        model = dataset.model()
        chosen = np.unique(np.linspace(0, len(dataset) - 1, MEAN_FACES).astype(np.int64))
        affines = dataset.read(chosen, ("crop_from_model",))["crop_from_model"].mean(axis=0)
        neutral = model.vertices(model.neutral())
        mean_face = neutral @ affines[:, :3].T + affines[:, 3]
        state = {
            "crop_px": int(dataset.schema["image"].sample_shape[0]),
            "vertices": torch.from_numpy(neutral.astype(np.float32)),
            "triangles": torch.from_numpy(model.triangles.astype(np.int32)),
            "landmark_vertices": torch.from_numpy(np.asarray(model.landmark_vertices, dtype=np.int64)),
            "mean_face": torch.from_numpy(mean_face.astype(np.float32)),
        }
        system = cls.from_state(config, state)
        system._model = model
        return system

    @classmethod
    def from_state(cls, config: MeshGcnConfig, state: dict[str, Any]) -> "MeshGcn":
        """A system as a checkpoint describes it."""
        vertices, triangles = state["vertices"].numpy(), state["triangles"].numpy()
        return cls(config, hierarchy=_hierarchy(vertices.tobytes(), triangles.tobytes(), config.levels), state=state)

    def state(self) -> dict[str, Any]:
        """The mesh, its landmarks and the mean face in the crop."""
        return self._state

    def prepare(self, batch: Batch, *, rng: torch.Generator) -> Batch:
        """Pictures, and the true vertices in pixels of the network's input: those that carry the loss.

        Vertices are worked out from the parameters: of mirrored samples those of the other side.
        """
        coefficients = torch.cat([batch["identity"], batch["expression"]], dim=1).float()
        mirrored = batch["mirrored"].bool()
        vertices = self._vertices(coefficients, mirrored=False)
        if mirrored.any():
            vertices[mirrored] = self._vertices(coefficients[mirrored], mirrored=True)
        affine = batch["crop_from_model"].to(vertices)
        in_crop = vertices @ affine[:, :, :3].mT + affine[:, None, :, 3]
        return {"images": self.at_network_size(batch["image"]), "vertices": in_crop * self._scale}

    def losses(self, prepared: Batch, phase: PhaseConfig) -> dict[str, Tensor]:
        """The mean over vertices and axes of the chosen loss, in pixels of the network's input."""
        vertices = self.network(prepared["images"], of_loss=True, coarse=phase.name == COARSE)
        differences = vertices - prepared["vertices"]
        if self.config.depth_offset < 1:
            depth = differences[..., 2] - (1 - self.config.depth_offset) * differences[..., 2].mean(dim=1, keepdim=True)
            differences = torch.cat([differences[..., :2], depth[..., None]], dim=-1)
        if self.config.loss == "ours":
            loss = mesh_loss(differences).mean()
        elif self.config.loss == "l1":
            loss = differences.abs().mean()
        elif self.config.loss == "l2":
            loss = differences.square().mean()
        else:
            loss = functional.smooth_l1_loss(differences, torch.zeros_like(differences))
        return {"loss": loss, "distance_px": differences.detach().norm(dim=-1).mean() / self._scale}

    def coarse_parts(self) -> Sequence[nn.Module]:
        """Encoder and dense layer."""
        assert self.network.shortcut is not None
        return self.network.encoder, self.network.embedding, self.network.shortcut

    def predict_vertices(self, images: Float[Tensor, "n 3 s s"], *, coarse: bool = False) -> Float[Tensor, "n V 3"]:
        """Every vertex in pixels of the crop."""
        return self.network(self.at_network_size(images), coarse=coarse) / self._scale

    def predict_landmarks(self, images: Float[Tensor, "n 3 s s"], *, coarse: bool = False) -> Float[Tensor, "n 68 3"]:
        """The 68 landmarks among the vertices."""
        return self.predict_vertices(images, coarse=coarse)[:, self._state["landmark_vertices"].to(images.device)]

    def _vertices(self, coefficients: Float[Tensor, "n k"], *, mirrored: bool) -> Float[Tensor, "n v 3"]:
        """The loss's vertices in the model's frame, or the mirrored face's: one matrix product on the coefficients' device."""
        key = mirrored, coefficients.device
        if key not in self._bases:
            self._bases[key] = self._basis(mirrored).to(coefficients.device)
        basis = self._bases[key]
        return torch.addmm(basis[:, -1], coefficients, basis[:, :-1].T).unflatten(1, (-1, 3))

    def _basis(self, mirrored: bool) -> Float[Tensor, "m k"]:
        """What a coefficient adds to each coordinate; the last column is the mean."""
        chosen = np.arange(self._model.n_vertices) if self._chosen is None else self._chosen
        rows = self._model.rows(SurfacePoints.at_vertices(self._model.mirror[chosen] if mirrored else chosen))
        columns = np.concatenate([rows.identity, rows.expression, rows.mean[..., None]], axis=-1).astype(np.float32)
        return torch.from_numpy(columns.reshape(-1, columns.shape[-1]))

    def at_network_size(self, images: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n 3 z z"]:
        """Crops at the size that the network sees."""
        return averaged(images, self.network.size_px)


@lru_cache(maxsize=1)
def _hierarchy(vertices: bytes, triangles: bytes, levels: tuple[int, ...]) -> MeshHierarchy:
    """The hierarchy of a mesh (seconds of work), kept for the next system over it: float32 (V 3) and int32 (T 3)."""
    mesh = Mesh(
        np.frombuffer(vertices, dtype=np.float32).reshape(-1, 3),
        np.frombuffer(triangles, dtype=np.int32).reshape(-1, 3),
    )
    return build_hierarchy(mesh, levels=levels)
