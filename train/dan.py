"""DAN: stages trained one after another on perturbed starts (Kowalski et al. 2017, sections 3.5 and 4)."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from render.paper_crops import DAN_MARGIN, DAN_ROTATION, DAN_SCALE, DAN_SIZE_PX, DAN_TRANSLATION, canonical_shape
from storage.dataset import ShardedDataset
from train.dan_network import DeepAlignmentNetwork, inverse_similarity, moved, similarity_to, warped
from train.system import Batch, OptimiserConfig, PhaseConfig, System, SystemConfig, check_targets, landmark_errors

STATISTICS_SAMPLES = 512
"""Samples that mean shape and mean picture are taken from, spread evenly over the data set."""


class DANConfig(SystemConfig, frozen=True, extra="forbid"):
    """The network and the perturbation of its starts. Phases are named ``stage-1``, ``stage-2``, …"""

    size_px: int = Field(DAN_SIZE_PX, ge=16, multiple_of=16, description="Side of the network's grey pictures.")
    widths: tuple[int, ...] = Field((64, 128, 256, 512), min_length=1, description="Channels of the pairs of layers.")
    hidden: int = Field(256, ge=1, description="Units of fc1.")
    dropout: float = Field(0.5, ge=0, lt=1, description="Before fc1.")
    margin: float = Field(DAN_MARGIN, ge=0, lt=0.5, description="Of the canonical shape to each side of the picture.")
    start_spread: float = Field(
        1.0, ge=0, description="Of the starts, where the loader moves no pictures, as a share of the released code's."
    )


def paper(*, n_stages: int = 2) -> DANConfig:
    """Section 4: Adam from 1e-3, batches of 64; a stage ends when 100 validation pictures get no better.

    How many looks at them without a gain end it (10) and the most epochs (150) are ours.
    """
    optimiser = OptimiserConfig(kind="adam", learning_rate=1e-3)
    phases = tuple(
        PhaseConfig(name=f"stage-{k + 1}", epochs=150, patience=10, optimiser=optimiser) for k in range(n_stages)
    )
    return DANConfig(batch_size=64, validation_samples=100, phases=phases)


def tiny(*, n_stages: int = 2) -> DANConfig:
    """Learns on a CPU in minutes: 64 px of which the face fills more, narrow, little dropout, starts near the truth."""
    phases = []
    for k in range(n_stages):
        optimiser = OptimiserConfig(learning_rate=1e-3, decay="geometric", last_rate=2e-5 if k else 5e-5)
        phases.append(PhaseConfig(name=f"stage-{k + 1}", steps=5000 if k else 3000, optimiser=optimiser))
    return DANConfig(
        batch_size=32,
        size_px=64,
        widths=(16, 32, 64, 64),
        hidden=256,
        dropout=0.1,
        margin=0.15,
        start_spread=0.25,
        validation_samples=500,
        phases=tuple(phases),
    )


PRESETS = {"paper": paper, "tiny": tiny}


class DAN(System):
    """The network, the mean shape it starts from, and the mean picture that is taken off."""

    name: Literal["dan"] = "dan"
    config_type = DANConfig
    presets = PRESETS
    config: DANConfig
    network: DeepAlignmentNetwork
    targets = ("image", "landmarks_px")
    augmentation = "dan"

    def __init__(self, config: DANConfig, statistics: Mapping[str, Tensor]) -> None:
        """`statistics` are a data set's (:meth:`for_dataset`)."""
        stages = [f"stage-{k + 1}" for k in range(len(config.phases))]
        if [phase.name for phase in config.phases] != stages:
            raise ValueError(f"DAN's phases are its stages in order, {', '.join(stages)}; the config names others")
        self.config = config
        self.statistics = dict(statistics)
        canonical = canonical_shape(
            self.statistics["mean_landmarks"].double().numpy(), size_px=config.size_px, margin=config.margin
        )
        self.network = DeepAlignmentNetwork(
            torch.from_numpy(canonical),
            n_stages=len(stages),
            size_px=config.size_px,
            widths=config.widths,
            hidden=config.hidden,
            dropout=config.dropout,
        )
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third faster on a CPU

    @classmethod
    def for_dataset(cls, config: DANConfig, dataset: ShardedDataset) -> "DAN":
        """Mean landmarks in the crop, mean and standard deviation of the crops as the network sees them."""
        check_targets("dan", cls.targets, dataset)
        chosen = np.unique(np.linspace(0, len(dataset) - 1, STATISTICS_SAMPLES).astype(np.int64))
        batch = dataset.read(chosen, cls.targets)
        shapes = torch.from_numpy(batch["landmarks_px"][..., :2].astype(np.float64))
        mean = shapes.mean(dim=0).float()
        size = config.size_px
        zero, one = torch.zeros(size, size), torch.ones(size, size)
        system = cls(config, {"mean_landmarks": mean, "mean_picture": zero, "deviation": one})
        pictures = torch.from_numpy(np.ascontiguousarray(np.moveaxis(batch["image"], -1, 1))).float() / 255
        crops = system._crops(pictures, similarity_to(shapes.float(), system.network.canonical))
        mean_picture, deviation = crops.mean(dim=0)[0], crops.std(dim=0, correction=0)[0].clamp(min=1e-3)
        return cls(config, {"mean_landmarks": mean, "mean_picture": mean_picture, "deviation": deviation})

    def state(self) -> dict[str, Any]:
        """Mean shape and mean picture."""
        return self.statistics

    def learns(self, phase: PhaseConfig) -> Iterator[nn.Parameter]:
        """One stage at a time, and the feature layer before it (section 3.5)."""
        yield from self.network.stage_parameters(self._stage(phase))

    def begin(self, phase: PhaseConfig) -> None:
        """Earlier stages are done with: no dropout, and their statistics stay."""
        self.network.eval()
        self.network.stages[self._stage(phase)].train()

    def prepare(self, batch: Batch, *, rng: torch.Generator) -> Batch:
        """Grey crops about imperfect starts, and the true landmarks in them.

        A start is the mean shape in the true landmarks' box, as from a perfect detector. Where the loader has moved the
        picture under it, it stays where it was; else it is shifted, turned and scaled by normal draws (section 4 with the
        released code's 0.2 of the box, 20° and 0.25). The first is what "images are created from each input image" says,
        the second what the released code does, and both mean the same.
        """
        truth = batch["landmarks_px"][..., :2]
        if (moves := batch.get("augmented_from_crop")) is not None:
            starts = self._in_boxes(_before(truth, moves.to(truth), side=batch["image"].shape[-1]))
        else:
            draws = self.config.start_spread * torch.randn(len(truth), 4, generator=rng)
            starts = self._perturbed(truth, draws.to(truth))
        matrices = similarity_to(starts, self._canonical(truth))
        return {"images": self._normalised(self._crops(batch["image"], matrices)), "truth": moved(truth, matrices)}

    def losses(self, prepared: Batch, phase: PhaseConfig) -> dict[str, Tensor]:
        """Equation 4: mean distance over the true distance of the pupils."""
        found = self.network(prepared["images"], n_stages=self._stage(phase) + 1)[-1]
        truth = prepared["truth"]
        pupils = truth[:, 36:42].mean(dim=1) - truth[:, 42:48].mean(dim=1)
        # In profile the pupils meet in the picture; a tenth of the box keeps such faces from ruling a batch.
        sides = truth.amax(dim=1) - truth.amin(dim=1)
        distance = torch.maximum(pupils.norm(dim=-1), 0.1 * sides.amax(dim=1))
        errors = (found - truth).norm(dim=-1).mean(dim=1)
        return {"loss": (errors / distance).mean(), "distance_px": errors.detach().mean()}

    def predict_landmarks(self, images: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n 68 2"]:
        """Landmarks after the last stage, from the mean shape where it lies in the crops on average."""
        return self.predict_stages(images)[-1]

    def errors(self, batch: Batch, phase: PhaseConfig) -> Float[np.ndarray, " n"]:
        """Of the stage that is being trained: later ones know nothing yet."""
        return landmark_errors(self, self.predict_stages(batch["image"])[self._stage(phase)], batch)

    def predict_stages(
        self, images: Float[Tensor, "n 3 s s"], starts: Float[Tensor, "n 68 2"] | None = None
    ) -> list[Float[Tensor, "n 68 2"]]:
        """Landmarks (n 68 2) in pixels of the crop after each stage, from the mean shape or from `starts`."""
        if starts is None:
            starts = self._mean(images)[None].expand(len(images), -1, -1)
        matrices = similarity_to(starts, self._canonical(images))
        crops = self._normalised(self._crops(images, matrices))
        return [moved(shape, inverse_similarity(matrices)) for shape in self.network(crops)]

    def _stage(self, phase: PhaseConfig) -> int:
        return int(phase.name.removeprefix("stage-")) - 1

    def _in_boxes(self, shapes: Float[Tensor, "n p 2"]) -> Float[Tensor, "n p 2"]:
        """The mean shape in the boxes of `shapes`: on their centres, with the mean of the two sides' scales."""
        mean = self._mean(shapes)
        low, high = mean.amin(dim=0), mean.amax(dim=0)
        sides = shapes.amax(dim=1) - shapes.amin(dim=1)
        centres = (shapes.amax(dim=1) + shapes.amin(dim=1)) / 2
        return (mean - (low + high) / 2) * (sides / (high - low)).mean(dim=1)[:, None, None] + centres[:, None]

    def _perturbed(self, truth: Float[Tensor, "n p 2"], draws: Float[Tensor, "n 4"]) -> Float[Tensor, "n p 2"]:
        starts = self._in_boxes(truth)
        low, high = starts.amin(dim=1), starts.amax(dim=1)
        centres = ((low + high) / 2)[:, None]
        scale = (1 + DAN_SCALE * draws[:, 0]).clamp(min=1 - 3 * DAN_SCALE)
        angle = DAN_ROTATION * draws[:, 1]
        x, y = scale * angle.cos(), scale * angle.sin()
        linear = torch.stack([torch.stack([x, -y], -1), torch.stack([y, x], -1)], dim=1)
        shift = DAN_TRANSLATION * draws[:, 2:] * (high - low)
        return (starts - centres) @ linear.mT + centres + shift[:, None]

    def _mean(self, like: Tensor) -> Float[Tensor, "p 2"]:
        return self.statistics["mean_landmarks"].to(like)

    def _canonical(self, like: Tensor) -> Float[Tensor, "p 2"]:
        return self.network.canonical.to(like)

    def _crops(self, images: Float[Tensor, "n 3 s s"], matrices: Float[Tensor, "n 2 3"]) -> Float[Tensor, "n 1 z z"]:
        return warped(images.mean(dim=1, keepdim=True), matrices, size_px=self.config.size_px)

    def _normalised(self, crops: Float[Tensor, "n 1 z z"]) -> Float[Tensor, "n 1 z z"]:
        return (crops - self.statistics["mean_picture"].to(crops)) / self.statistics["deviation"].to(crops)


def _before(points: Float[Tensor, "n p 2"], moves: Float[Tensor, "n 3 3"], *, side: int) -> Float[Tensor, "n p 2"]:
    """Where points of moved pictures lay before; a picture that was mirrored is only mirrored then."""
    back = torch.linalg.inv(moves)
    before = points @ back[:, :2, :2].mT + back[:, None, :2, 2]
    mirrored = torch.linalg.det(moves[:, :2, :2]) < 0
    x = torch.where(mirrored[:, None], side - 1 - before[..., 0], before[..., 0])
    return torch.stack([x, before[..., 1]], dim=-1)
