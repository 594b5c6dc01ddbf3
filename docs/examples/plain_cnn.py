"""System `plain_cnn`: a small network that moves the mean face's landmarks, as a package of your own adds it."""

from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from storage.dataset import ShardedDataset
from train.system import Batch, OptimiserConfig, PhaseConfig, System, SystemConfig, check_targets


class PlainCnnConfig(SystemConfig, frozen=True, extra="forbid"):
    """How large the network is."""

    size_px: int = Field(64, ge=16, multiple_of=16, description="Side of the pictures that the network sees.")
    width: int = Field(16, ge=1, description="Channels of the first layer; each next one has twice as many.")


def tiny() -> PlainCnnConfig:
    """Two minutes of a CPU."""
    optimiser = OptimiserConfig(learning_rate=1e-3, decay="geometric", last_rate=1e-5)
    return PlainCnnConfig(batch_size=32, phases=(PhaseConfig(name="landmarks", steps=2000, optimiser=optimiser),))


class PlainCnn(System):
    """Four convolutions and a linear layer, from a picture to shifts of the 68 mean landmarks."""

    name = "plain_cnn"  # the entry point's, too
    config_type = PlainCnnConfig
    presets: ClassVar = {"tiny": tiny}
    targets = ("image", "landmarks_px")
    augmentation = "slight"

    def __init__(self, config: PlainCnnConfig, state: dict[str, Any]) -> None:
        self.config = config
        self.mean_px = state["mean_px"]
        channels = [3, *(config.width << k for k in range(4))]
        layers: list[nn.Module] = []
        for before, after in pairwise(channels):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        self.network = nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(channels[-1] * (config.size_px // 16) ** 2, 2 * 68)
        )

    @classmethod
    def for_dataset(cls, config: PlainCnnConfig, dataset: ShardedDataset) -> "PlainCnn":
        """Where the landmarks of up to 512 samples lie on average."""
        check_targets(cls.name, cls.targets, dataset)
        some = np.unique(np.linspace(0, len(dataset) - 1, 512).astype(np.int64))
        landmarks_px = dataset.read(some, ["landmarks_px"])["landmarks_px"]
        return cls(config, {"mean_px": torch.from_numpy(landmarks_px[..., :2].mean(axis=0))})

    def state(self) -> dict[str, Any]:
        """What the constructor needs again when a checkpoint is read."""
        return {"mean_px": self.mean_px}

    def prepare(self, batch: Batch, *, rng: torch.Generator) -> Batch:
        """Pictures and true landmarks as they come: nothing is drawn here."""
        return {"images": batch["image"], "truth": batch["landmarks_px"][..., :2]}

    def losses(self, prepared: Batch, phase: PhaseConfig) -> dict[str, Tensor]:
        """The mean distance, in sides of the crop."""
        away_px = (self.predict_landmarks(prepared["images"]) - prepared["truth"]).norm(dim=-1).mean()
        return {"loss": away_px / prepared["images"].shape[-1], "distance_px": away_px.detach()}

    def predict_landmarks(self, images: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n 68 2"]:
        """The mean landmarks, shifted."""
        size_px = self.config.size_px
        small = functional.interpolate(images, (size_px, size_px), mode="bilinear", antialias=True)
        shifts = self.network(small - 0.5).unflatten(1, (68, 2))
        return self.mean_px.to(images) + shifts * images.shape[-1]
