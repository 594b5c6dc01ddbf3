"""PRNet's encoder and decoder (Feng et al. 2018, section 3.2, figure 3; layer widths as in the published weights).

All kernels are 4×4 (1×1 inside the residual blocks) and padded as TensorFlow's SAME does: (1, 2) pixels for an even
kernel of stride 1. No layer has a bias; every one has batch normalisation, the last (sigmoid) too.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

KERNEL = 4
BATCH_NORM = {"eps": 1e-3, "momentum": 1e-3}
"""TensorFlow's decay of 0.999 is torch's momentum of 0.001."""


class Convolution(nn.Module):
    """Convolution with SAME padding, batch normalisation and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, out_channels, kernel, stride, bias=False)
        self.normalisation = nn.BatchNorm2d(out_channels, **BATCH_NORM)
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
        self.normalisation = nn.BatchNorm2d(out_channels, **BATCH_NORM)
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
        self.normalisation = nn.BatchNorm2d(out_channels, **BATCH_NORM)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d i j"]:
        """Rows and columns divided by the stride."""
        return torch.relu(self.normalisation(self.last(self.body(x)) + self.shortcut(x)))


class PositionMapNetwork(nn.Module):
    """Pictures (n 3 s s) in [0, 1] to codes of position maps (n 3 s s) in (0, 1).

    One convolution and ten residual blocks go down to s/32, seventeen transposed convolutions come back. Sides are
    multiples of 32. `width` is the first layer's channels, 16 in the paper: 13,353,618 parameters.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.width = width
        layers: list[nn.Module] = [Convolution(3, width, KERNEL)]
        channels = width
        for factor in (2, 4, 8, 16, 32):
            layers += [ResidualBlock(channels, factor * width, 2), ResidualBlock(factor * width, factor * width, 1)]
            channels = factor * width
        self.encoder = nn.Sequential(*layers)

        layers = []
        # (factor of the width, strides) of each size on the way back
        for factor, strides in ((32, (1,)), (16, (2, 1, 1)), (8, (2, 1, 1)), (4, (2, 1, 1)), (2, (2, 1)), (1, (2, 1))):
            for stride in strides:
                layers += [Deconvolution(channels, factor * width, stride), nn.ReLU(inplace=True)]
                channels = factor * width
        layers += [Deconvolution(channels, 3), nn.ReLU(inplace=True), Deconvolution(3, 3), nn.ReLU(inplace=True)]
        self.decoder = nn.Sequential(*layers, Deconvolution(3, 3), nn.Sigmoid())

    def forward(self, images: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n 3 s s"]:
        """Codes of the position maps; raises ValueError for sides that cannot be halved five times."""
        if images.shape[-1] % 32:
            raise ValueError(f"pictures of {images.shape[-1]} px cannot be halved five times; take a multiple of 32")
        return self.decoder(self.encoder(images))
