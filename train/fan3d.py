"""The 3DFAW winner: part detection, heatmap regression, then depth (Bulat and Tzimiropoulos 2016)."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from geometry.landmarks import N_LANDMARKS, landmark_scheme
from render.heatmaps import FAN3D_FACE_PX, FAN3D_RADIUS_PX, FAN3D_SIGMA_PX
from render.paper_crops import FAN3D_SIZE_PX
from storage.dataset import ShardedDataset
from train import metrics
from train.backbones import RESNET_152, RESNET_200, load_pretrained
from train.fan3d_network import DepthRegressor, DetectorStride, LandmarkRegressor, PartDetector
from train.resizing import corner_aligned
from train.system import Batch, OptimiserConfig, PhaseConfig, System, SystemConfig, check_targets, landmark_errors

Phase = Literal["detector", "regressor", "joint", "depth"]
CENTROID_SIGMAS = 2.0
"""How far about a map's maximum its centroid, the landmark, is taken (ours; the paper does not say how it decodes)."""


class Fan3dConfig(SystemConfig, frozen=True, extra="forbid"):
    """Three networks. Phases are ``detector``, ``regressor``, ``joint`` and ``depth``."""

    scheme: str = Field("3dfaw-66", description="Which landmarks are learnt.")
    size_px: int = Field(FAN3D_SIZE_PX, ge=32, multiple_of=16, description="Side that crops are brought to.")
    detector_blocks: tuple[int, int, int, int] = Field(RESNET_152, description="Residual blocks of its four stages.")
    detector_stride: DetectorStride = Field(16, description="Of the detector's features; less for small pictures.")
    depth_blocks: tuple[int, int, int, int] = Field(RESNET_200, description="The same of the depth network.")
    width: int = Field(64, ge=4, description="First channels of detector and depth network.")
    hourglass_channels: int = Field(256, ge=8, multiple_of=4, description="Of each of its levels.")
    hourglass_depth: int = Field(4, ge=1, description="Halvings of the hourglass.")
    sigma_px: float = Field(FAN3D_SIGMA_PX, gt=0, description="Of the heatmaps, for pictures of 384 px.")
    depth_heatmaps: bool = Field(True, description="Whether the depth network sees heatmaps beside the picture.")
    depth_places: bool = Field(
        False, description="Whether its last layer sees its last maps as they are, not only each channel's mean."
    )
    found_share: float = Field(
        0.5, gt=0, le=1, description="Share of a depth batch that sees the heatmaps found, in place of the true ones."
    )


def paper() -> Fan3dConfig:
    """Section 2.3: rates from 1e-3, 1e-4 and 1e-2 down, 30, 30, 30 and 100 epochs, batches of 8 and of 16 for depth.

    The paper names no optimiser and no rate of the joint phase; ours are SGD with momentum, as its pre-trained networks
    had, and the rate at which the two before it end.
    """

    def phase(name: Phase, epochs: int, first: float, last: float, batch_size: int) -> PhaseConfig:
        optimiser = OptimiserConfig(kind="sgd", learning_rate=first, decay="geometric", last_rate=last)
        return PhaseConfig(name=name, epochs=epochs, batch_size=batch_size, optimiser=optimiser)

    return Fan3dConfig(
        batch_size=8,
        phases=(
            phase("detector", 30, 1e-3, 2.5e-5, 8),
            phase("regressor", 30, 1e-4, 2.5e-5, 8),
            phase("joint", 30, 2.5e-5, 2.5e-5, 8),
            phase("depth", 100, 1e-2, 2.5e-4, 16),
        ),
    )


def tiny() -> Fan3dConfig:
    """Learns on a CPU in minutes: 64 px, one block in each stage, narrow, detector's features of stride 4.

    Heatmaps of σ 3.3 px: the hourglass works at a quarter of the picture, where σ = 1 px cannot be painted.
    """

    def phase(
        name: Phase, steps: int, first: float = 2e-3, last: float = 2e-4, batch_size: int | None = None
    ) -> PhaseConfig:
        optimiser = OptimiserConfig(learning_rate=first, decay="geometric", last_rate=last)
        return PhaseConfig(name=name, steps=steps, batch_size=batch_size, optimiser=optimiser)

    return Fan3dConfig(
        batch_size=8,
        size_px=64,
        detector_blocks=(1, 1, 1, 1),
        detector_stride=4,
        depth_blocks=(1, 1, 1, 1),
        width=16,
        hourglass_channels=128,
        hourglass_depth=3,
        sigma_px=20.0,
        depth_places=True,
        found_share=0.25,
        phases=(
            phase("detector", 500),
            phase("regressor", 600),
            phase("joint", 4000, 1e-3, 3e-5),
            phase("depth", 4000, last=3e-5, batch_size=16),
        ),
        validation_samples=500,
    )


PRESETS = {"paper": paper, "tiny": tiny}


class Fan3d(System):
    """Detector, regressor and depth network over one list of landmarks."""

    name: Literal["fan3d"] = "fan3d"
    config_type = Fan3dConfig
    presets = PRESETS
    config: Fan3dConfig
    network: nn.ModuleDict
    targets = ("image", "landmarks_px")
    augmentation = "fan3d"

    def __init__(self, config: Fan3dConfig, *, crop_px: int) -> None:
        """`crop_px` is the side of the data set's crops: depths are learnt in their pixels."""
        self.config, self.crop_px = config, crop_px
        scheme = landmark_scheme(config.scheme)
        if any(len(places) != 1 or places[0] >= N_LANDMARKS for places in scheme.members):
            raise ValueError(
                f"{scheme.name} has points that are none of the 68; take ibug-68, 3dfaw-66 or an inner scheme"
            )
        self.landmark_indices = tuple(places[0] for places in scheme.members)
        n = len(self.landmark_indices)
        self.network = nn.ModuleDict(
            {
                "detector": PartDetector(
                    n, blocks=config.detector_blocks, width=config.width, stride=config.detector_stride
                ),
                "regressor": LandmarkRegressor(n, channels=config.hourglass_channels, depth=config.hourglass_depth),
                "depth": DepthRegressor(
                    n,
                    blocks=config.depth_blocks,
                    width=config.width,
                    n_heatmaps=n if config.depth_heatmaps else 0,
                    side=config.size_px if config.depth_places else None,
                ),
            }
        )
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a quarter faster on a CPU

    @classmethod
    def from_state(cls, config: Fan3dConfig, state: dict[str, Any]) -> "Fan3d":
        """What :meth:`state` gave."""
        return cls(config, crop_px=int(state["crop_px"]))

    @classmethod
    def for_dataset(cls, config: Fan3dConfig, dataset: ShardedDataset) -> "Fan3d":
        """A system for the crop size of a data set."""
        check_targets("fan3d", cls.targets, dataset)
        return cls(config, crop_px=dataset.schema["image"].sample_shape[0])

    def state(self) -> dict[str, Any]:
        """The crop's side."""
        return {"crop_px": self.crop_px}

    def learns(self, phase: PhaseConfig) -> Iterator[nn.Parameter]:
        """The phase's network; detector and regressor in the joint phase."""
        for part in self._parts(phase):
            yield from self.network[part].parameters()

    def begin(self, phase: PhaseConfig) -> None:
        """What the phase does not learn keeps its statistics."""
        self.network.eval()
        for part in self._parts(phase):
            self.network[part].train()

    def prepare(self, batch: Batch, *, rng: torch.Generator) -> Batch:
        """Pictures at the network's size, landmarks in them, depths in pixels of the crop with their mean taken off.

        `finds` says which samples of a depth batch get the heatmaps that are found, in place of those of the true landmarks:
        so many as the config's share, drawn.
        """
        landmarks = batch["landmarks_px"][:, list(self.landmark_indices)].float()
        scale = (self.config.size_px - 1) / (self.crop_px - 1)
        depths = landmarks[..., 2] - landmarks[..., 2].mean(dim=1, keepdim=True)
        finds = torch.randperm(len(landmarks), generator=rng)[: math.ceil(self.config.found_share * len(landmarks))]
        return {
            "images": self.at_network_size(batch["image"]),
            "landmarks": landmarks[..., :2] * scale,
            "depths": depths,
            "finds": finds.to(landmarks.device),
        }

    def losses(self, prepared: Batch, phase: PhaseConfig) -> dict[str, Tensor]:
        """Per-pixel sigmoid cross entropy of parts, L2 of heatmaps, L2 of depths (sections 2.1 and 2.2)."""
        images, landmarks = prepared["images"], prepared["landmarks"]
        if phase.name == "depth":
            inputs = images
            if self.config.depth_heatmaps:
                heatmaps = self._gaussians(landmarks)
                with torch.no_grad():
                    found = self.heatmaps_of(images[prepared["finds"]])
                heatmaps[prepared["finds"]] = found.to(heatmaps.dtype)
                inputs = torch.cat([images, heatmaps], dim=1)
            errors = self.network["depth"](inputs) - prepared["depths"]
            return {"loss": errors.square().mean(), "depth_px": errors.detach().abs().mean()}
        logits = self.network["detector"](images)
        losses = {}
        if phase.name != "regressor":
            losses["parts"] = functional.binary_cross_entropy_with_logits(logits, self._discs(landmarks))
        if phase.name != "detector":
            heatmaps = self.network["regressor"](torch.cat([logits.sigmoid(), images], dim=1))
            losses["heatmaps"] = functional.mse_loss(heatmaps, self._gaussians(landmarks))
        return {"loss": torch.stack(list(losses.values())).sum(), **losses}

    def predict_landmarks(self, images: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n p 3"]:
        """Landmarks of the scheme in pixels of the crop; z with its mean taken off, as it was learnt."""
        pictures = self.at_network_size(images)
        heatmaps = self.heatmaps_of(pictures)
        inputs = torch.cat([pictures, heatmaps], dim=1) if self.config.depth_heatmaps else pictures
        depths = self.network["depth"](inputs)
        return torch.cat([self._places(heatmaps), depths[..., None]], dim=-1)

    def measure(self, phase: PhaseConfig) -> str:
        """The place in the picture, and in the last phase the depth, both over the box of the 68."""
        return "depth_bbox" if phase.name == "depth" else "nme_bbox"

    def errors(self, batch: Batch, phase: PhaseConfig) -> Float[np.ndarray, " n"]:
        """Of the network that is being trained: parts and heatmaps by their landmarks, depths by their mean distance."""
        pictures = self.at_network_size(batch["image"])
        if phase.name == "detector":
            return landmark_errors(self, self._places(self.network["detector"](pictures).sigmoid()), batch)
        if phase.name != "depth":
            return landmark_errors(self, self._places(self.heatmaps_of(pictures)), batch)
        truth = batch["landmarks_px"].double().cpu().numpy()
        found = self.predict_landmarks(batch["image"])[..., 2].double().cpu().numpy()
        depths = truth[:, list(self.landmark_indices), 2]
        distances = np.abs((found - found.mean(axis=1, keepdims=True)) - (depths - depths.mean(axis=1, keepdims=True)))
        return distances.mean(axis=1) / metrics.box_size(truth)

    def load_pretrained(self, path: Path) -> None:
        """A ResNet classifier's state dict into the detector (section 2.3); there is no usual file of the depth network's."""
        detector = self.network["detector"]
        assert isinstance(detector, PartDetector)
        load_pretrained(detector.body, path)

    def _parts(self, phase: PhaseConfig) -> tuple[str, ...]:
        parts = {"detector": ("detector",), "regressor": ("regressor",), "joint": ("detector", "regressor")}
        return parts.get(phase.name, ("depth",))

    def heatmaps_of(self, pictures: Float[Tensor, "n 3 z z"]) -> Float[Tensor, "n p z z"]:
        """What detector and regressor make of pictures at the network's size (:meth:`at_network_size`)."""
        parts = self.network["detector"](pictures).sigmoid()
        return self.network["regressor"](torch.cat([parts, pictures], dim=1))

    @property
    def _sigma(self) -> float:
        """Of the heatmaps, in pixels of the network's pictures."""
        return self.config.sigma_px * self.config.size_px / FAN3D_SIZE_PX

    def _places(self, maps: Float[Tensor, "n p z z"]) -> Float[Tensor, "n p 2"]:
        """Where the maps say the landmarks are, in pixels of the crop."""
        scale = (self.crop_px - 1) / (self.config.size_px - 1)
        return decode_heatmaps(maps, reach=max(round(CENTROID_SIGMAS * self._sigma), 2)) * scale

    def _discs(self, landmarks: Float[Tensor, "n p 2"]) -> Float[Tensor, "n p z z"]:
        """1 within 7 px of a landmark, for a face 220 px high; scaled with the face."""
        height = landmarks[..., 1].amax(dim=1) - landmarks[..., 1].amin(dim=1)
        radius = (FAN3D_RADIUS_PX / FAN3D_FACE_PX * height).clamp(min=1)
        x, y = self._squared_distances(landmarks)
        return (y[..., :, None] + x[..., None, :] <= radius.square()[:, None, None, None]).float()

    def _gaussians(self, landmarks: Float[Tensor, "n p 2"]) -> Float[Tensor, "n p z z"]:
        """σ = 6 px at 384 px, in proportion at other sizes."""
        x, y = (torch.exp(-squared / (2 * self._sigma**2)) for squared in self._squared_distances(landmarks))
        return y[..., :, None] * x[..., None, :]

    def _squared_distances(self, landmarks: Float[Tensor, "n p 2"]) -> list[Float[Tensor, "n p z"]]:
        """Of every column, and of every row, from the landmarks."""
        line = torch.arange(self.config.size_px, device=landmarks.device, dtype=landmarks.dtype)
        return [(line - landmarks[..., axis, None]).square() for axis in (0, 1)]

    def at_network_size(self, images: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n 3 z z"]:
        """Crops at the size that the networks see; corner pixels stay corner pixels."""
        return corner_aligned(images, self.config.size_px)


def decode_heatmaps(heatmaps: Float[Tensor, "n p h w"], *, reach: int) -> Float[Tensor, "n p 2"]:
    """(x, y) of each map: the centroid of what is above 0 within `reach` rows and columns of its maximum."""
    height, width = heatmaps.shape[-2:]
    places = heatmaps.flatten(2).argmax(dim=-1)
    row, column = places // width, places % width
    steps = torch.arange(-reach, reach + 1, device=heatmaps.device)
    rows = (row[..., None, None] + steps[:, None]).expand(-1, -1, len(steps), len(steps))
    columns = (column[..., None, None] + steps[None, :]).expand(-1, -1, len(steps), len(steps))
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    flat = (rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)).flatten(2)
    values = heatmaps.flatten(2).gather(2, flat).view_as(rows).clamp(min=0) * inside
    total = values.sum(dim=(2, 3))
    x = (values * columns).sum(dim=(2, 3)) / total
    y = (values * rows).sum(dim=(2, 3)) / total
    flat_map = total <= 0  # nothing above 0: the maximum itself
    return torch.stack([torch.where(flat_map, column.to(x), x), torch.where(flat_map, row.to(y), y)], dim=-1)
