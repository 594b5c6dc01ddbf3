"""Residual networks, with the layer names under which pretrained weights are passed around.

Ours, because the usual packages bring a second build of torch. :class:`ResNet` has torchvision's names and shapes, so that
its state dicts load unchanged (:func:`load_pretrained`); nothing is ever downloaded.
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

RESNET_101, RESNET_152 = (3, 4, 23, 3), (3, 8, 36, 3)
RESNET_200 = (3, 24, 36, 3)
"""3 · (3 + 24 + 36 + 3) + 2 = 200 layers; the 38 that Bulat and Tzimiropoulos (2016, table 1) print would make 206."""

EXPANSION = 4


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 with a shortcut, batch normalisation after each (He et al. 2015, figure 5).

    The stride is on the 3×3, as in torchvision's weights; Caffe's ResNet has it on the first 1×1.
    """

    def __init__(self, in_channels: int, width: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        out_channels = width * EXPANSION
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d i j"]:
        """The block's output; rows and columns are divided by the stride."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.relu(self.bn3(self.conv3(y)) + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """A bottleneck network without its classifier: pictures (n c h w) to features (n 32·width h/s w/s).

    `strides` and `dilations` are of the four stages: (1, 2, 2, 2) and ones are the classifier's, output stride 32.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        *,
        in_channels: int = 3,
        width: int = 64,
        strides: Sequence[int] = (1, 2, 2, 2),
        dilations: Sequence[int] = (1, 1, 1, 1),
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        channels = width
        for stage, (n, stride, dilation) in enumerate(zip(blocks, strides, dilations, strict=True)):
            stage_width = width * 2**stage
            layers = []
            for block in range(n):
                layers.append(Bottleneck(channels, stage_width, stride=stride if block == 0 else 1, dilation=dilation))
                channels = stage_width * EXPANSION
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))
        self.out_channels = channels

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d i j"]:
        """Features of the last stage."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        for stage in range(1, 5):
            x = self.get_submodule(f"layer{stage}")(x)
        return x


class PreActivationBottleneck(nn.Module):
    """Batch normalisation and ReLU before each convolution (He et al. 2016, figure 4e); the shortcut is a bare 1×1."""

    def __init__(self, in_channels: int, width: int, *, stride: int = 1) -> None:
        super().__init__()
        out_channels = width * EXPANSION
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.shortcut = None
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d i j"]:
        """The block's output; rows and columns are divided by the stride."""
        activated = torch.relu(self.bn1(x))
        y = self.conv2(torch.relu(self.bn2(self.conv1(activated))))
        y = self.conv3(torch.relu(self.bn3(y)))
        return y + (x if self.shortcut is None else self.shortcut(activated))


class PreActivationResNet(nn.Module):
    """ResNet with pre-activation that ends in one linear layer: (n c h w) to (n out).

    The linear layer sees the mean of each channel; with `side`, that of the pictures, the last maps as they are.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        *,
        in_channels: int,
        out_features: int,
        width: int = 64,
        side: int | None = None,
    ) -> None:
        super().__init__()
        self.takes_means = side is None
        self.conv1 = nn.Conv2d(in_channels, width, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        layers: list[nn.Module] = []
        channels = width
        for stage, n in enumerate(blocks):
            for block in range(n):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(PreActivationBottleneck(channels, width * 2**stage, stride=stride))
                channels = width * 2**stage * EXPANSION
        self.layers = nn.Sequential(*layers)
        self.bn2 = nn.BatchNorm2d(channels)
        halvings = 1 + len(blocks)
        n_places = 1 if side is None else math.ceil(side / 2**halvings) ** 2
        self.fc = nn.Linear(channels * n_places, out_features)

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """One number for each output."""
        x = self.maxpool(torch.relu(self.bn1(self.conv1(images))))
        x = torch.relu(self.bn2(self.layers(x)))
        return self.fc(x.mean(dim=(2, 3)) if self.takes_means else x.flatten(1))


def bilinear_deconvolution(channels: int, *, factor: Literal[2, 4, 8, 16]) -> nn.ConvTranspose2d:
    """A learnable deconvolution that starts as bilinear up-sampling by `factor` (Long et al. 2015, section 3.3)."""
    kernel = 2 * factor
    layer = nn.ConvTranspose2d(channels, channels, kernel, factor, padding=factor // 2, bias=False)
    ramp = 1 - (torch.arange(kernel, dtype=torch.float32) - (factor - 0.5)).abs() / factor
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[range(channels), range(channels)] = ramp[:, None] * ramp[None, :]
    return layer


_WRAPPERS = ("state_dict", "model")
_PREFIXES = ("module.", "backbone.", "encoder.")


def load_pretrained(network: ResNet, path: str | Path) -> None:
    """Load a ResNet's state dict (torchvision's names) into the network; what belongs to no layer of it is left out.

    The usual files: a classifier's (its `fc` is left out), torchvision's DeepLab (trunk under ``backbone.``), and either as a
    training wrapped it (``{"state_dict": …}``, names that begin with ``module.``). Raises ValueError, naming what is missing
    or of another shape, when the file is none of them. Nothing in the file is run.
    """
    found = _weights_in(Path(path))
    own = network.state_dict()
    weights = {name: found.get(name) for name in own}
    missing = [name for name, value in weights.items() if value is None and not name.endswith("num_batches_tracked")]
    odd = [
        f"{n}: size mismatch, {tuple(v.shape)}" for n, v in weights.items() if v is not None and v.shape != own[n].shape
    ]
    deeper = sorted(name for name in found if re.match(r"(conv1|bn1|layer[1-4])\.", name) and name not in own)
    wrong = [f"without {name}" for name in missing[:2]] + odd[:2] + [f"with {name}" for name in deeper[:2]]
    if wrong:
        raise ValueError(
            f"{path} does not hold the weights of this ResNet ({'; '.join(wrong)}): give torchvision's state dict of equal depth"
        )
    network.load_state_dict({name: own[name] if value is None else value for name, value in weights.items()})


def _weights_in(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name, without what trainings put around them."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # torch's reader fails in ways of its own for every damaged byte
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"{path} holds no weights that can be read ({first}): give a state dict of tensors") from None
    for wrapper in _WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not any(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} holds no weights that can be read (no tensors by name): give a state dict of tensors")
    weights = {}
    for name, value in state.items():
        for prefix in _PREFIXES:
            name = name.removeprefix(prefix)
        if isinstance(value, Tensor):
            weights[name] = value
    return weights
