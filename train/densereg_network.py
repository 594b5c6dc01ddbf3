"""DenseReg: a ResNet of stride 8 with heads of single 1×1 convolutions (Güler et al. 2017, sections 3 and 4.1)."""

from collections.abc import Mapping, Sequence
from typing import Literal, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from train.backbones import RESNET_101, ResNet

Axis = Literal["u", "v"]
AXES: tuple[Axis, ...] = ("u", "v")


class DenseNetwork(nn.Module):
    """Pictures (n 3 h w) to maps of the same size, one for each name in `heads` with so many channels.

    ResNet-101, dilated so that its stride is 8; every head is one 1×1 convolution, enlarged bilinearly with its corner
    pixels on the picture's corner pixels, as Caffe's layer does (the released network).
    """

    def __init__(self, heads: Mapping[str, int], *, blocks: Sequence[int] = RESNET_101, width: int = 64) -> None:
        super().__init__()
        self.body = ResNet(blocks, width=width, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4))
        layers = {name: nn.Conv2d(self.body.out_channels, channels, 1) for name, channels in heads.items()}
        for head in layers.values():
            nn.init.normal_(head.weight, std=0.01)
            nn.init.zeros_(cast(Tensor, head.bias))
        self.heads = nn.ModuleDict(layers)

    def forward(self, images: Float[Tensor, "n 3 h w"], *, every: int = 1) -> dict[str, Tensor]:
        """Each head's map (n channels h w), or of it every so many rows and columns from the first to the last.

        Raises ValueError when there are no so many rows or columns between the first and the last.
        """
        if any((side - 1) % every for side in images.shape[-2:]):
            raise ValueError(f"every {every} rows and columns do not lead from the first to the last of {images.shape}")
        features = self.body(images)
        size = [(side - 1) // every + 1 for side in images.shape[-2:]]
        return {
            name: functional.interpolate(head(features), size=size, mode="bilinear", align_corners=True)
            for name, head in self.heads.items()
        }


def quantised_heads(n_bins: int, *, background_residual: bool = False, depth_channels: int = 0) -> dict[str, int]:
    """DenseReg's heads: for u and v the classes (background and K bins) and a residual for each bin (equation 3).

    `background_residual` gives the background a residual unit too, as the released network has (11 for K = 10);
    `depth_channels` is 1 for section 4.5's branch, 4 in the released network.
    """
    heads = {}
    for axis in AXES:
        heads[f"{axis}_class"] = n_bins + 1
        heads[f"{axis}_residual"] = n_bins + background_residual
    return heads | ({"depth": depth_channels} if depth_channels else {})


def plain_heads(*, depth_channels: int = 0) -> dict[str, int]:
    """The baseline without quantisation: face or not, and u and v as two numbers."""
    return {"face": 2, "uv": 2} | ({"depth": depth_channels} if depth_channels else {})


def decode_quantised(
    classes: Float[Tensor, "n k h w"], residuals: Float[Tensor, "n r h w"]
) -> tuple[Float[Tensor, "n h w"], Int[Tensor, "n h w"]]:
    """Coordinates û = (q + r̂_q) / K of one axis, and classes (0 is background, bin q is class q + 1).

    The residual is read from the winning class's own unit; where the background wins, the coordinate is NaN.
    """
    n_bins = classes.shape[1] - 1
    labels = classes.argmax(dim=1)
    first = residuals.shape[1] - n_bins  # 1 where the background has a unit too
    bins = (labels - 1).clamp(min=0)
    residual = residuals.gather(1, (bins + first)[:, None])[:, 0]
    return torch.where(labels > 0, (bins + residual) / n_bins, torch.nan), labels
