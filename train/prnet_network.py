"""PRNet's encoder and decoder (Feng et al. 2018, section 3.2, figure 3; layer widths as in the published weights).

All kernels are 4×4 (1×1 inside the residual blocks) and padded as TensorFlow's SAME does: (1, 2) pixels for an even
kernel of stride 1. No layer has a bias; every one has batch normalisation, the last (sigmoid) too.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

Initialisation = Literal["uniform", "smooth"]
KERNEL = 4
BATCH_NORM_EPS = 1e-3
_SMALL = 0.05
SHORTCUT_SIDE = 4
PAPER_MOMENTUM = 1e-3
"""TensorFlow's decay of 0.999; short trainings need a larger one, or their statistics stay what they were at the start."""


class Convolution(nn.Module):
    """Convolution with SAME padding, batch normalisation and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, out_channels, kernel, stride, bias=False)
        self.normalisation = nn.BatchNorm2d(out_channels, eps=BATCH_NORM_EPS)
        total = kernel - stride  # for sizes that the stride divides
        self.padding = (total // 2, total - total // 2) * 2 if total > 0 else (0, 0, 0, 0)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d i j"]:
        """Rows and columns divided by the stride."""
        return torch.relu(self.normalisation(self.convolution(functional.pad(x, self.padding))))


class Deconvolution(nn.Module):
    """Transposed convolution with SAME padding, and batch normalisation."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.deconvolution = nn.ConvTranspose2d(in_channels, out_channels, KERNEL, stride, padding=1, bias=False)
        self.normalisation = nn.BatchNorm2d(out_channels, eps=BATCH_NORM_EPS)
        self.surplus = 1 if stride == 1 else 0  # stride 1 with padding 1 gives one row and column too many, at the end

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d i j"]:
        """Rows and columns multiplied by the stride."""
        y = self.deconvolution(x)
        return self.normalisation(y[..., : y.shape[-2] - self.surplus, : y.shape[-1] - self.surplus])


class ResidualBlock(nn.Module):
    """1×1 to half the width, 4×4, 1×1 back; normalised after the sum. A shortcut that changes shape is a bare 1×1."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        half = out_channels // 2
        self.body = nn.Sequential(Convolution(in_channels, half, 1), Convolution(half, half, KERNEL, stride))
        self.last = nn.Conv2d(half, out_channels, 1, bias=False)
        self.normalisation = nn.BatchNorm2d(out_channels, eps=BATCH_NORM_EPS)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d i j"]:
        """Rows and columns divided by the stride."""
        return torch.relu(self.normalisation(self.last(self.body(x)) + self.shortcut(x)))


class AffineOfMean(nn.Module):
    """Codes of the mean map, moved by an affine map of every texel's own (ours, in the place of the sigmoid).

    Turning a whole head is then one and the same twelve numbers everywhere, where a sigmoid's layers have to paint the face anew.
    """

    def __init__(self, mean: Float[Tensor, "3 z z"], side: int) -> None:
        """`side` is that of the decoder's maps; maps may also be enlarged to the mean's own side z before they come here."""
        super().__init__()
        self.whole: Tensor
        self.mean: Tensor
        size = (side, side)
        smaller = functional.interpolate(mean[None].float(), size=size, mode="bilinear", align_corners=True)[0]
        self.register_buffer("whole", mean.float(), persistent=False)
        self.register_buffer("mean", mean.float() if mean.shape[-1] == side else smaller, persistent=False)

    def forward(self, x: Float[Tensor, "n 12 s s"]) -> Float[Tensor, "n 3 s s"]:
        """Codes; channels 4c … 4c + 3 are what is added to axis c: by x, y and z from the middle, and anyway."""
        mean = self.mean if x.shape[-1] == self.mean.shape[-1] else self.whole
        rows = x.unflatten(1, (3, 4))
        return mean + (rows[:, :, :3] * (mean - 0.5)).sum(dim=2) + rows[:, :, 3]


class PositionMapNetwork(nn.Module):
    """Pictures (n 3 s s) in [0, 1] to codes of position maps (n 3 s s) in (0, 1).

    One convolution and ten residual blocks go down to s/32, seventeen transposed convolutions come back. Sides are
    multiples of 32. `width` is the first layer's channels, 16 in the paper: 13,353,618 parameters.
    """

    def __init__(
        self,
        width: int = 16,
        *,
        momentum: float = PAPER_MOMENTUM,
        initialisation: Initialisation = "uniform",
        mean_codes: Float[Tensor, "3 z z"] | None = None,
        resolution: int = 256,
        reduction: int = 1,
        shortcut: int = 0,
    ) -> None:
        """`initialisation` "uniform" is Glorot's, TensorFlow's own; "smooth": see :func:`start_smooth`.

        With `mean_codes` the last three layers have twelve channels in place of three, and :class:`AffineOfMean` ends it.
        With `reduction` 2 or 4 one or two doublings of the side are left out, the last ones: their strides are 1. With
        `shortcut` the encoder's end also goes through two dense layers, so many units wide, to a map of 4 × 4 texels,
        which is enlarged and added before the end (ours). Either needs to know the pictures' side, `resolution`.
        """
        super().__init__()
        layers: list[nn.Module] = [Convolution(3, width, KERNEL)]
        channels = width
        for factor in (2, 4, 8, 16, 32):
            layers += [ResidualBlock(channels, factor * width, 2), ResidualBlock(factor * width, factor * width, 1)]
            channels = factor * width
        self.encoder = nn.Sequential(*layers)

        layers = []
        # (factor of the width, strides) of each size on the way back
        sizes = [(32, (1,)), (16, (2, 1, 1)), (8, (2, 1, 1)), (4, (2, 1, 1)), (2, (2, 1)), (1, (2, 1))]
        n_left_out = reduction.bit_length() - 1
        for i, (factor, strides) in enumerate(sizes):
            for stride in strides if i < len(sizes) - n_left_out else (1,) * len(strides):
                layers += [Deconvolution(channels, factor * width, stride), nn.ReLU(inplace=True)]
                channels = factor * width
        last = 3 if mean_codes is None else 12
        layers += [
            Deconvolution(channels, last),
            nn.ReLU(inplace=True),
            Deconvolution(last, last),
            nn.ReLU(inplace=True),
        ]
        self.side = resolution // reduction
        end = nn.Sigmoid() if mean_codes is None else AffineOfMean(mean_codes, self.side)
        final = Deconvolution(last, last)
        self.decoder = nn.Sequential(*layers, final, end)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = momentum
            elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.xavier_uniform_(module.weight)
        self.shortcut: nn.Module | None = None
        if shortcut:
            grid = (last, SHORTCUT_SIDE, SHORTCUT_SIDE)
            before = nn.Linear(32 * width * (resolution // 32) ** 2, shortcut)
            dense = nn.Linear(shortcut, math.prod(grid))
            nn.init.normal_(dense.weight, std=_SMALL * shortcut**-0.5)
            self.shortcut = nn.Sequential(nn.Flatten(), before, nn.ReLU(), dense, nn.Unflatten(1, grid))
        if initialisation == "smooth":
            start_smooth([layer for layer in self.decoder if isinstance(layer, Deconvolution)])
        if mean_codes is not None:
            nn.init.constant_(final.normalisation.weight, _SMALL)

    def forward(
        self, images: Float[Tensor, "n 3 s s"], *, side: int | None = None, coarse: bool = False
    ) -> Float[Tensor, "n 3 r r"]:
        """Codes of the position maps, r = s / reduction; an affine end's maps are enlarged to the mean map's own `side` first.

        `coarse`: what the shortcut alone says. Raises ValueError for pictures whose sides cannot be halved five times.
        """
        if images.shape[-1] % 32:
            raise ValueError(f"pictures of {images.shape[-1]} px cannot be halved five times; take a multiple of 32")
        *layers, end = self.decoder
        x = bottleneck = self.encoder(images)
        if not coarse:
            for layer in layers:
                x = layer(x)
        if self.shortcut is not None:
            size = (self.side, self.side)
            enlarged = functional.interpolate(self.shortcut(bottleneck), size=size, mode="bilinear", align_corners=True)
            x = enlarged if coarse else x + enlarged
        if side is not None and isinstance(end, AffineOfMean) and x.shape[-1] != side:
            x = functional.interpolate(x, size=(side, side), mode="bilinear", align_corners=True)
        return end(x)


_SHARP, _BILINEAR = (0.0, 1.0, 0.0, 0.0), (0.25, 0.75, 0.75, 0.25)
_NOISE = 0.1
_OPEN = 2.0


@torch.no_grad()
def start_smooth(layers: Sequence[Deconvolution]) -> None:
    """Let the decoder begin as an enlargement: orthogonal mixtures of channels, bilinear where a layer doubles the side.

    Ours. Seventeen random kernels in a row make noise from texel to texel: of the first map's variance one part in ten lies
    in squares of 8 texels, here six. A small net lowers the loss fastest by turning that noise down, and stays flat. All layers
    but the last begin so far above 0 that their ReLU cuts little off; the last two hand their channels on as they are.
    """
    for layer in layers:
        weight = layer.deconvolution.weight
        mixture = nn.init.orthogonal_(torch.empty(weight.shape[:2]))
        line = torch.tensor(_SHARP if layer.deconvolution.stride[0] == 1 else _BILINEAR)
        weight.normal_(std=_NOISE * float(mixture.std())).add_(mixture[:, :, None, None] * line[:, None] * line)
    for layer in layers[-2:]:
        layer.deconvolution.weight.zero_()
        layer.deconvolution.weight[:, :, 1, 1] = torch.eye(len(layer.deconvolution.weight))
    for layer in layers[:-1]:
        layer.normalisation.bias.fill_(_OPEN)
