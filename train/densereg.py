"""DenseReg: correspondence fields by quantised regression, and its baselines (Güler et al. 2017)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from render.field_landmarks import landmarks_of_field
from render.quantization import BACKGROUND, IGNORE
from storage.dataset import ShardedDataset
from storage.store import MissingObject
from train.backbones import RESNET_101, load_pretrained
from train.densereg_network import AXES, DenseNetwork, decode_quantised, plain_heads, quantised_heads
from train.resizing import corner_aligned
from train.system import Batch, OptimiserConfig, PhaseConfig, System, SystemConfig, check_targets

Kind = Literal["quantised", "plain", "parts"]
N_PARTS = 8


class DenseRegConfig(SystemConfig, frozen=True, extra="forbid"):
    """The network, what it regresses, and the balance of its losses."""

    kind: Kind = Field(
        "quantised",
        description="The paper's quantised regression; 'plain' regresses u and v as they are (section 3); 'parts' is the "
        "same trunk trained on the transferred labels (section 4.2).",
    )
    n_bins: int = Field(10, ge=1, le=254, description="K, of each axis.")
    residual_weight: float | None = Field(
        None, gt=0, description="Of the smooth L1 loss; none: the paper's 40, and 70 for plain regression."
    )
    depth: bool = Field(False, description="Section 4.5's branch for depth in [0, 1].")
    resolution: int | None = Field(None, ge=33, description="Side that crops are brought to; none: as they are.")
    loss_every: int = Field(
        1,
        ge=1,
        description="Losses are taken in every so many rows and columns; the side less one is a multiple of it.",
    )
    blocks: tuple[int, int, int, int] = Field(RESNET_101, description="Residual blocks of the trunk's four stages.")
    width: int = Field(64, ge=4, description="Channels of the first layer.")


def paper(**changes: object) -> DenseRegConfig:
    """Section 4.1: SGD from 1e-3 with polynomial decay, 20,000 steps of 10 pictures, a warm start.

    The length of the warm start ("a lower learning rate"), its linear rise, momentum, weight decay and the decay's power
    (all as in DeepLab) are ours.
    """
    optimiser = OptimiserConfig(
        kind="sgd", learning_rate=1e-3, weight_decay=5e-4, decay="polynomial", decay_factor=0.9, warm_up_steps=500
    )
    phases = (PhaseConfig(name="train", steps=20000, optimiser=optimiser),)
    return DenseRegConfig.model_validate({"batch_size": 10, "phases": phases, **changes})


def tiny(**changes: object) -> DenseRegConfig:
    """Learns on a CPU in minutes: 129 px, one block in each stage and two in the last, a quarter of the width, Adam.

    Losses in every second row and column: maps that were enlarged eightfold say little between them.
    """
    optimiser = OptimiserConfig(learning_rate=2e-3, decay="geometric", last_rate=5e-5)
    phases = (PhaseConfig(name="train", steps=11000, optimiser=optimiser),)
    small = {"batch_size": 8, "resolution": 129, "loss_every": 2, "blocks": (1, 1, 1, 2), "width": 16, "n_bins": 10}
    small |= {"phases": phases, "validation_samples": 300}
    return DenseRegConfig.model_validate({**small, **changes})


PRESETS = {"paper": paper, "tiny": tiny}


class DenseReg(System):
    """The network and the landmarks' places on the template."""

    name: Literal["densereg"] = "densereg"
    config_type = DenseRegConfig
    presets = PRESETS
    config: DenseRegConfig
    network: DenseNetwork

    def __init__(self, config: DenseRegConfig, tables: Mapping[str, Tensor]) -> None:
        """`tables` holds `landmark_uv` (p 2), the landmarks' places on the template (:meth:`for_dataset`)."""
        self.config = config
        self.tables = dict(tables)
        self.landmark_indices = tuple(range(len(self.tables["landmark_uv"])))
        self.targets = _targets_of(config)
        self.augmentation = "densereg"
        if config.kind == "parts":
            heads = {"parts": N_PARTS + 1}
        elif config.kind == "plain":
            heads = plain_heads(depth_channels=int(config.depth))
        else:
            heads = quantised_heads(config.n_bins, depth_channels=int(config.depth))
        self.network = DenseNetwork(heads, blocks=config.blocks, width=config.width)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a tenth faster on a CPU

    @classmethod
    def for_dataset(cls, config: DenseRegConfig, dataset: ShardedDataset) -> "DenseReg":
        """A system for the template of a data set of fields."""
        check_targets("densereg", _targets_of(config), dataset)
        try:
            landmarks = dataset.table("landmark_uv")
        except MissingObject:  # crops of faces: the landmarks are vertices
            landmarks = dataset.table("field_uv")[dataset.model().landmark_vertices]
        return cls(config, {"landmark_uv": torch.from_numpy(landmarks.astype(np.float64))})

    def state(self) -> dict[str, Any]:
        """The landmarks on the template."""
        return self.tables

    def load_pretrained(self, path: Path) -> None:
        """A ResNet classifier's state dict into the body; the paper began with one trained to segment COCO's pictures."""
        load_pretrained(self.network.body, path)

    def measure(self, phase: PhaseConfig) -> str:
        """Of the field in units of the template, or of parts the share of wrong pixels among what is a face."""
        return "part_error" if self.config.kind == "parts" else "uv_error"

    def errors(self, batch: Batch, phase: PhaseConfig) -> Float[np.ndarray, " n"]:
        """Mean distance of (u, v) over the pixels that are a face; one that is taken for background counts as 1.

        Landmarks would say less: whole photographs hold several faces, and a parts network gives none. A picture without
        a face counts 0.
        """
        fields = self.predict_fields(batch["image"])
        face = batch["label"] == 1
        if self.config.kind == "parts":
            wrong = (fields["part"] != batch["part"]).double()
        else:
            wrong = (fields["uv"] - batch["uv"]).norm(dim=1).double().nan_to_num(nan=1.0).clamp(max=1.0)
        return ((wrong * face).sum(dim=(1, 2)) / face.sum(dim=(1, 2)).clamp(min=1)).cpu().numpy()

    def prepare(self, batch: Batch, *, rng: torch.Generator) -> Batch:
        """Pictures and fields at the network's resolution; fields take the nearest pixel's values whole."""
        images = batch["image"]
        size = self.config.resolution or images.shape[-1]
        prepared = {"images": self.at_network_size(images)}
        for name in self.targets:
            if name in ("uv", "label", "depth", "part"):
                prepared[name] = _nearest(batch[name], size)[..., :: self.config.loss_every, :: self.config.loss_every]
        return prepared

    def losses(self, prepared: Batch, phase: PhaseConfig) -> dict[str, Tensor]:
        """Cross entropy of classes, smooth L1 of residuals at the true bin over the pixels that have one (section 3)."""
        maps = self.network(prepared["images"], every=self.config.loss_every)
        label, config = prepared["label"].long(), self.config
        face = label == 1
        losses: dict[str, Tensor] = {}
        if config.kind == "parts":
            part = torch.where(label == IGNORE, IGNORE, prepared["part"].long())
            losses["parts"] = functional.cross_entropy(maps["parts"], part, ignore_index=IGNORE)
        elif config.kind == "plain":
            losses["face"] = functional.cross_entropy(maps["face"], label, ignore_index=IGNORE)
            difference = functional.smooth_l1_loss(maps["uv"], prepared["uv"], reduction="none").sum(dim=1)
            losses["residual"] = self._residual_weight * _mean_over(difference, face)
        else:
            for axis, u in zip(AXES, prepared["uv"].unbind(dim=1), strict=True):
                classes, residual = quantised(u, label, config.n_bins)
                losses[f"{axis}_class"] = functional.cross_entropy(maps[f"{axis}_class"], classes, ignore_index=IGNORE)
                unit = (classes - 1).clamp(0, config.n_bins - 1)
                own = maps[f"{axis}_residual"].gather(1, unit[:, None])[:, 0]
                difference = functional.smooth_l1_loss(own, residual, reduction="none")
                losses[f"{axis}_residual"] = self._residual_weight * _mean_over(difference, face)
        if config.depth:
            difference = functional.smooth_l1_loss(maps["depth"][:, 0], prepared["depth"], reduction="none")
            losses["depth"] = _mean_over(difference, face)
        return {"loss": torch.stack(list(losses.values())).sum(), **losses}

    def predict_fields(self, images: Float[Tensor, "n 3 s s"]) -> dict[str, Tensor]:
        """`uv` (n 2 s s), NaN where no face is found, and `label` (n s s); for a parts network `part` alone.

        At the pictures' own size: classes and residuals are enlarged before they are decoded, as in training.
        """
        maps = self.network(self.at_network_size(images))
        size = images.shape[-2:]
        maps = {
            name: functional.interpolate(one, size=size, mode="bilinear", align_corners=True)
            for name, one in maps.items()
        }
        if self.config.kind == "parts":
            return {"part": maps["parts"].argmax(dim=1)}
        if self.config.kind == "plain":
            label = maps["face"].argmax(dim=1)
            uv = torch.where(label[:, None] == 1, maps["uv"], torch.nan)
        else:
            decoded = [decode_quantised(maps[f"{axis}_class"], maps[f"{axis}_residual"]) for axis in AXES]
            uv = torch.stack([u for u, _ in decoded], dim=1)
            uv = torch.where(uv.isnan().any(dim=1, keepdim=True), torch.nan, uv)  # either axis may say background
            label = (~uv[:, 0].isnan()).long()
        fields = {"uv": uv, "label": label}
        return fields | ({"depth": maps["depth"][:, 0]} if self.config.depth else {})

    def predict_landmarks(self, images: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n p 2"]:
        """Where the field of the largest component comes nearest to each landmark's place; NaN where there is no face.

        As in section 4.3. A network of parts gives no field, and so no landmarks: all NaN.
        """
        result = torch.full((len(images), len(self.landmark_indices), 2), torch.nan, dtype=torch.float64)
        if self.config.kind == "parts":
            return result
        fields = self.predict_fields(images)
        places = self.tables["landmark_uv"].double().numpy()
        for i, uv in enumerate(fields["uv"].movedim(1, -1).double().cpu().numpy()):
            found = landmarks_of_field(np.nan_to_num(uv), np.isfinite(uv[..., 0]), places)
            if found:
                result[i] = torch.from_numpy(found[0].points_px)
        return result

    @property
    def _residual_weight(self) -> float:
        if self.config.residual_weight is not None:
            return self.config.residual_weight
        return 70.0 if self.config.kind == "plain" else 40.0

    def at_network_size(self, images: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n 3 r r"]:
        """Crops as the network sees them; corner pixels stay corner pixels, as in the network's own enlarging."""
        return corner_aligned(images, self.config.resolution or images.shape[-1])


def _targets_of(config: DenseRegConfig) -> tuple[str, ...]:
    more = ("depth",) * config.depth + ("part",) * (config.kind == "parts")
    return ("image", "uv", "label", "landmarks_px", *more)


def quantised(
    u: Float[Tensor, "*n"], label: Int[Tensor, "*n"], n_bins: int
) -> tuple[Int[Tensor, "*n"], Float[Tensor, "*n"]]:
    """Classes (0 background, 1 … K, 255 ignore) and residuals of one axis: the torch twin of `render.quantization`."""
    starts = (torch.arange(n_bins + 1, dtype=torch.float64, device=u.device) / n_bins).to(u.dtype)
    scaled = u.double() * n_bins
    q = scaled.long().clamp(0, n_bins - 1)
    # The product is rounded: a coordinate that is the start of a bin may have landed a hair before it, or behind.
    q = q + ((u >= starts[q + 1]) & (q < n_bins - 1)).long()
    q = q - (u < starts[q]).long()
    face = label == 1
    classes = torch.where(face, q + 1, torch.where(label == IGNORE, IGNORE, BACKGROUND))
    return classes, torch.where(face, (scaled - q).clamp(0, 1).to(u.dtype), 0)


def _mean_over(values: Float[Tensor, "n h w"], chosen: Tensor) -> Tensor:
    """Normalised by the pixels that contribute (section 3)."""
    return (values * chosen).sum() / chosen.sum().clamp(min=1)


def _nearest(values: Tensor, size: int) -> Tensor:
    """Square pictures (n s s) or (n c s s) at another side, each pixel the nearest one's, corners on corners."""
    side = values.shape[-1]
    if side == size:
        return values
    index = torch.floor(torch.arange(size, device=values.device) * ((side - 1) / (size - 1)) + 0.5).long()
    return values[..., index, :][..., index]
