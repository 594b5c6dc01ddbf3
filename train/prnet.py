"""PRNet: position maps regressed from pictures, with a weighted loss (Feng et al. 2018)."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from storage.dataset import ShardedDataset
from train.coarse import COARSE, CoarseConfig, CoarseSystem
from train.prnet_network import PAPER_MOMENTUM, Initialisation, PositionMapNetwork
from train.resizing import averaged
from train.system import Batch, OptimiserConfig, PhaseConfig, check_targets

MEAN_MAPS = 256
"""Samples that the mean training map is taken from, spread evenly over the data set."""

Output = Literal["sigmoid", "affine"]
LossName = Literal["squares", "distances"]

NEAR = 5e-3
"""In units of code (1 px of crops of 128): distances far below it count as squares, far above it as distances."""

PAPER_RATIO = (16.0, 4.0, 3.0, 0.0)
"""Weights of the 68 landmarks, of eyes, nose and mouth, of the rest of the face, and of the neck (section 3.2)."""


class PRNetConfig(CoarseConfig, frozen=True, extra="forbid"):
    """The network, its loss and its schedule."""

    width: int = Field(16, ge=4, description="Channels of the first layer.")
    resolution: int = Field(
        256, ge=32, multiple_of=32, description="Side that the network works at; crops are brought to it by area."
    )
    reduction: Literal[1, 2, 4] = Field(
        1,
        description="The picture's side to that of the decoder's map, whose last doublings are left out; the loss is taken on "
        "that map, and predictions are enlarged.",
    )
    loss: LossName = Field(
        "squares",
        description="What of each texel's distance is weighted and averaged; equation 1 can be read in both ways.",
    )
    shortcut: int = Field(
        0,
        ge=0,
        description="Hidden units of two dense layers from the encoder's end to a map of 4 × 4 texels, which is enlarged and "
        "added to the decoder's; 0: no such layers, as in the paper.",
    )
    weights: tuple[float, float, float, float] = Field(
        PAPER_RATIO, description="Loss weights of landmarks : eyes, nose and mouth : rest of the face : neck."
    )
    momentum: float = Field(PAPER_MOMENTUM, gt=0, le=1, description="Of the batch normalisation's statistics.")
    initialisation: Initialisation = Field(
        "uniform", description="uniform: Glorot's; smooth: the decoder begins as an enlargement, for small nets."
    )
    output: Output = Field(
        "sigmoid",
        description="sigmoid: the paper's; affine: the mean training map moved by affine maps, for small nets.",
    )
    margin: float = Field(
        0.25, ge=0, description="Positions from −margin to 1 + margin sides of the crop fit into the sigmoid's (0, 1)."
    )


def paper() -> PRNetConfig:
    """Section 3.3: Adam from 1e-4, halved every 5 epochs, batches of 16. The paper does not say for how many epochs."""
    optimiser = OptimiserConfig(kind="adam", learning_rate=1e-4, decay="step", decay_factor=0.5, decay_epochs=5)
    return PRNetConfig(batch_size=16, phases=(PhaseConfig(name="train", epochs=30, optimiser=optimiser),))


def tiny() -> PRNetConfig:
    """Learns on a CPU in minutes: a quarter of the side, half the width, a map of half the picture's side, a higher rate.

    The mean map is moved by affine maps, whose coarse part comes straight from the encoder: without that, rates that the
    encoder learns quickly at leave the net at the mean map (measured).
    """
    coarse = OptimiserConfig(learning_rate=6e-3, decay="geometric", last_rate=7e-4, warm_up_steps=100)
    whole = OptimiserConfig(learning_rate=1.5e-3, decay="polynomial", decay_factor=1.0, warm_up_steps=100)
    return PRNetConfig(
        batch_size=32,
        validation_samples=500,
        width=8,
        resolution=64,
        reduction=2,
        momentum=0.05,
        initialisation="smooth",
        output="affine",
        shortcut=256,
        loss="distances",
        depth_offset=0.1,
        phases=(
            PhaseConfig(name=COARSE, steps=6000, optimiser=coarse),
            PhaseConfig(name="train", steps=3000, optimiser=whole),
        ),
    )


PRESETS = {"paper": paper, "tiny": tiny}


class PRNet(CoarseSystem):
    """Network, weight mask and the way from a map to landmarks, all of one atlas."""

    name: Literal["prnet"] = "prnet"
    config_type = PRNetConfig
    presets = PRESETS
    config: PRNetConfig
    network: PositionMapNetwork
    targets = ("image", "position_map", "landmarks_px")
    augmentation = "prnet"

    def __init__(self, config: PRNetConfig, tables: Mapping[str, Tensor]) -> None:
        """`tables` are the atlas's (:meth:`for_dataset`): coverage, weights, and how landmarks are read from a map."""
        self.config = config
        self.tables = dict(tables)
        self.network = PositionMapNetwork(
            config.width,
            momentum=config.momentum,
            initialisation=config.initialisation,
            mean_codes=self._encoded(self.tables["mean_map"]) if config.output == "affine" else None,
            resolution=config.resolution,
            reduction=config.reduction,
            shortcut=config.shortcut,
        )

    @classmethod
    def for_dataset(cls, config: PRNetConfig, dataset: ShardedDataset) -> "PRNet":
        """A system for the atlas and crop size of a data set."""
        check_targets("prnet", cls.targets, dataset)
        names = ("atlas_covered", "weight_mask", "landmark_rows", "landmark_columns", "landmark_weights")
        tables = {name: torch.from_numpy(dataset.table(name).copy()) for name in names}
        if config.output == "affine":
            chosen = np.unique(np.linspace(0, len(dataset) - 1, MEAN_MAPS).astype(np.int64))
            maps = dataset.read(chosen, ("position_map",))["position_map"]
            tables["mean_map"] = torch.from_numpy(
                np.moveaxis(maps.mean(axis=0, dtype=np.float64), -1, 0).astype(np.float32)
            )
        return cls(config, tables)

    def state(self) -> dict[str, Any]:
        """The atlas's tables."""
        return self.tables

    @property
    def size_px(self) -> int:
        """Side of crops and maps in the data set."""
        return self.tables["weight_mask"].shape[0]

    def prepare(self, batch: Batch, *, rng: torch.Generator) -> Batch:
        """Pictures and maps at the network's resolution, maps as codes, and each texel's weight."""
        device = batch["image"].device
        covered = self.tables["atlas_covered"].to(device).float()
        return {
            "images": self.at_network_size(batch["image"]),
            "codes": self._texels(self._encoded(batch["position_map"])),
            "weights": self._texel_weights(device) * (self._texels(covered[None, None])[0, 0] > 1 - 1e-6),
        }

    def losses(self, prepared: Batch, phase: PhaseConfig) -> dict[str, Tensor]:
        """Equation 1 as a mean over the texels with weight, in units of code; the log has pixels too."""
        codes = self.network(prepared["images"], coarse=phase.name == COARSE)
        differences, weights = codes - prepared["codes"], prepared["weights"]
        if self.config.depth_offset < 1:
            offset = (differences[:, 2] * weights).sum(dim=(1, 2), keepdim=True) / weights.sum()
            depth = differences[:, 2] - (1 - self.config.depth_offset) * offset
            differences = torch.cat([differences[:, :2], depth[:, None]], dim=1)
        squared = differences.square().sum(dim=1)
        unit = self.size_px * (1 + 2 * self.config.margin)
        face = weights > 0
        with torch.no_grad():
            distance = squared[:, face].sqrt().mean() * unit
        errors = squared if self.config.loss == "squares" else (squared + NEAR**2).sqrt() - NEAR
        return {"loss": (errors * weights).sum(dim=(1, 2)).mean() / weights.sum(), "distance_px": distance}

    def coarse_parts(self) -> Sequence[nn.Module]:
        """Encoder and dense layers."""
        assert self.network.shortcut is not None
        return self.network.encoder, self.network.shortcut

    def predict_maps(self, images: Float[Tensor, "n 3 s s"], *, coarse: bool = False) -> Float[Tensor, "n 3 s s"]:
        """Position maps in pixels of the crops, of the data set's size; uncovered texels hold what the network says."""
        unit, margin = self.size_px * (1 + 2 * self.config.margin), self.size_px * self.config.margin
        codes = self.network(self.at_network_size(images), side=self.size_px, coarse=coarse)
        return functional.interpolate(codes, size=self.size_px, mode="bilinear", align_corners=True) * unit - margin

    def predict_landmarks(self, images: Float[Tensor, "n 3 s s"], *, coarse: bool = False) -> Float[Tensor, "n 68 3"]:
        """The 68 landmarks, read from the map as a builder reads them from the true one."""
        maps = self.predict_maps(images, coarse=coarse)
        rows, columns, weights = (
            self.tables[f"landmark_{part}"].to(maps.device) for part in ("rows", "columns", "weights")
        )
        return torch.einsum("pk,ncpk->npc", weights.to(maps.dtype), maps[:, :, rows.long(), columns.long()])

    @property
    def _side(self) -> int:
        """Of the decoder's map."""
        return self.config.resolution // self.config.reduction

    def _encoded(self, maps: Float[Tensor, "*n 3 s s"]) -> Float[Tensor, "*n 3 s s"]:
        margin = self.config.margin
        return (maps / self.size_px + margin) / (1 + 2 * margin)

    def at_network_size(self, images: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n 3 r r"]:
        """Crops at the size that the network sees."""
        return averaged(images, self.config.resolution)

    def _texels(self, maps: Float[Tensor, "n c s s"]) -> Float[Tensor, "n c r r"]:
        """Texel k lies at u = k/(S − 1): corners stay corners at every resolution."""
        size = self._side
        if maps.shape[-1] == size:
            return maps
        return functional.interpolate(maps, size=(size, size), mode="bilinear", align_corners=True)

    def _texel_weights(self, device: torch.device) -> Float[Tensor, "r r"]:
        """The data set's mask (16 : 4 : 3 : 0) with the config's ratio, the highest weight among the texels merged."""
        mask = self.tables["weight_mask"].to(device)
        ratio = mask.new_tensor(self.config.weights)
        weights = ratio[torch.stack([mask == w for w in PAPER_RATIO]).float().argmax(dim=0)]
        size = self._side
        if weights.shape[-1] == size:
            return weights
        return functional.adaptive_max_pool2d(weights[None], size)[0]
