"""The three networks of the 3DFAW winner (Bulat and Tzimiropoulos 2016, section 2): parts, places, depths.

The paper refers to Bulat and Tzimiropoulos (ECCV 2016, human pose) for exact layers and prints the depth network's alone.
What is ours is named at each class.
"""

from collections.abc import Callable, Sequence
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from train.backbones import RESNET_152, RESNET_200, PreActivationResNet, ResNet, bilinear_deconvolution

Block = Callable[[int, int], nn.Module]
DetectorStride = Literal[4, 8, 16]
PART_LOG_ODDS = -6.0
"""Of a pixel within a part of 7 px in a face of 220: one in four hundred."""


class PartDetector(nn.Module):
    """Pictures (n 3 h w) to logits (n p h w): is this pixel within the part of landmark p? Per-pixel sigmoid.

    ResNet-152 without its classifier, the 5th block's stride 1 in place of 2, so features have stride 16; then a
    deconvolution and a convolution (section 2.1). Ours: a 1×1 convolution down to the p maps comes first, because a
    deconvolution of stride 16 on 2048 channels would hold more weights than all the rest. A smaller `stride` is for
    small pictures: a part of 7 px in 220 is to be seen in the features.
    """

    def __init__(
        self, n_landmarks: int, *, blocks: Sequence[int] = RESNET_152, width: int = 64, stride: DetectorStride = 16
    ) -> None:
        super().__init__()
        self.body = ResNet(blocks, width=width, strides={16: (1, 2, 2, 1), 8: (1, 2, 1, 1), 4: (1, 1, 1, 1)}[stride])
        self.reduction = nn.Conv2d(self.body.out_channels, n_landmarks, 1)
        self.deconvolution = bilinear_deconvolution(n_landmarks, factor=stride)
        self.convolution = nn.Conv2d(n_landmarks, n_landmarks, 1)
        # "Newly introduced layers initialised with zeros" would pass no gradient through two of them in a row. The last one
        # begins as the identity, and says from the start that parts are rare (as Lin et al. 2017, section 3.3): else all
        # maps are pushed down first, and the detector stays at the parts' base rate for hundreds of steps.
        nn.init.normal_(self.reduction.weight, std=0.01)
        for layer, start in ((self.reduction, 0.0), (self.convolution, PART_LOG_ODDS)):
            assert layer.bias is not None
            nn.init.constant_(layer.bias, start)
        nn.init.dirac_(self.convolution.weight)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n p h w"]:
        """Logits at the input's resolution; sides are multiples of the stride."""
        return self.convolution(self.deconvolution(self.reduction(self.body(images))))


class ResidualModule(nn.Module):
    """Newell et al.'s residual module: pre-activated 1×1, 3×3, 1×1 (2016, figure 4, left)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        half = out_channels // 2
        self.layers = nn.Sequential(
            *_activated(nn.Conv2d(in_channels, half, 1, bias=False)),
            *_activated(nn.Conv2d(half, half, 3, padding=1, bias=False)),
            *_activated(nn.Conv2d(half, out_channels, 1, bias=False)),
        )
        self.shortcut = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h w"]:
        """Of the same size."""
        return self.layers(x) + self.shortcut(x)


class Hourglass(nn.Module):
    """Down to 1/2^depth and back, a residual module on every way (Newell et al. 2016, figure 3).

    `upsampling` makes the layer that doubles rows and columns: nearest neighbours there, learnable deconvolutions here.
    """

    def __init__(self, depth: int, channels: int, *, block: Block, upsampling: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.beside = block(channels, channels)
        self.down = block(channels, channels)
        self.inner: nn.Module = block(channels, channels)
        if depth > 1:
            self.inner = Hourglass(depth - 1, channels, block=block, upsampling=upsampling)
        self.back = block(channels, channels)
        self.upsampling = upsampling()

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Of the same size; sides are multiples of 2^depth."""
        inside = self.back(self.inner(self.down(functional.avg_pool2d(x, 2))))
        return self.beside(x) + self.upsampling(inside)


class LandmarkRegressor(nn.Module):
    """Part maps and picture (n p + 3 h w) to Gaussian heatmaps (n p h w) (section 2.1).

    An hourglass at a quarter of the resolution, with learnable deconvolutions for up-sampling and one more back to the
    input's. Ours: the stem (7×7 of stride 2, residual modules and pooling, as Newell et al.) and that the last
    deconvolution, of stride 4, works on the p heatmaps.
    """

    def __init__(self, n_landmarks: int, *, channels: int = 256, depth: int = 4) -> None:
        super().__init__()
        quarter, half = channels // 4, channels // 2
        self.stem = nn.Sequential(
            nn.Conv2d(n_landmarks + 3, quarter, 7, 2, padding=3, bias=False),
            nn.BatchNorm2d(quarter),
            nn.ReLU(inplace=True),
            ResidualModule(quarter, half),
            nn.AvgPool2d(2),
            ResidualModule(half, half),
            ResidualModule(half, channels),
        )
        self.hourglass = Hourglass(
            depth, channels, block=ResidualModule, upsampling=lambda: bilinear_deconvolution(channels, factor=2)
        )
        self.head = nn.Sequential(
            ResidualModule(channels, channels),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, n_landmarks, 1),
        )
        self.deconvolution = bilinear_deconvolution(n_landmarks, factor=4)

    def forward(self, parts_and_images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n p h w"]:
        """Heatmaps at the input's resolution; sides are multiples of 4 · 2^depth."""
        return self.deconvolution(self.head(self.hourglass(self.stem(parts_and_images))))


class DepthRegressor(PreActivationResNet):
    """Picture and heatmaps (n 3 + m h w) to z of every landmark (n p), in pixels of the crop (section 2.2, table 1).

    The paper's m is p; 0 is its ablation, depth from the picture alone.

    ResNet-200 with pre-activation, 3 + p input channels, and the mean of each channel at its end; with `side`, the
    pictures' own, the last maps as they are (ours, for small nets: a mean hardly says where a thing is). New filters of
    the first layer and the last layer start from a Gaussian of σ = 0.01 (section 2.3).
    """

    def __init__(
        self,
        n_landmarks: int,
        *,
        blocks: Sequence[int] = RESNET_200,
        width: int = 64,
        n_heatmaps: int | None = None,
        side: int | None = None,
    ) -> None:
        n_heatmaps = n_landmarks if n_heatmaps is None else n_heatmaps
        super().__init__(blocks, in_channels=3 + n_heatmaps, out_features=n_landmarks, width=width, side=side)
        nn.init.normal_(self.conv1.weight[:, 3:].data, std=0.01)
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)


def _activated(convolution: nn.Conv2d) -> tuple[nn.Module, ...]:
    """Batch normalisation, ReLU, convolution."""
    return nn.BatchNorm2d(convolution.in_channels), nn.ReLU(), convolution
