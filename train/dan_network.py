"""The Deep Alignment Network: stages joined by connection layers (Kowalski et al. 2017, section 3).

Shapes are landmarks in pixels of the network's input, (x, y), integers at pixel centres.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

HEATMAP_RADIUS_PX = 16.0
BATCH_NORM_EPS = 1e-4
"""Lasagne's, with which the paper's networks were trained."""


def similarity_to(shapes: Float[Tensor, "n p 2"], canonical: Float[Tensor, "p 2"]) -> Float[Tensor, "n 2 3"]:
    """Transform Estimation layer: the similarities that bring `shapes` nearest to `canonical` (least squares).

    Never mirrored. ``matrix[:, :, :2] @ (x, y) + matrix[:, :, 2]`` is the moved point. Shapes that are one point have
    none: their matrices are not finite.
    """
    from_mean = shapes.mean(dim=1, keepdim=True)
    to_mean = canonical.mean(dim=0)
    p, q = shapes - from_mean, canonical - to_mean
    # A similarity is one complex number a: q = a·p, and the best one is Σ p̄·q / Σ |p|².
    spread = p.square().sum(dim=(1, 2))
    real = (p * q).sum(dim=(1, 2)) / spread
    imaginary = (p[..., 0] * q[..., 1] - p[..., 1] * q[..., 0]).sum(dim=1) / spread
    linear = torch.stack([torch.stack([real, -imaginary], -1), torch.stack([imaginary, real], -1)], dim=1)
    return torch.cat([linear, (to_mean - _turned(from_mean, linear)[:, 0])[..., None]], dim=-1)


def inverse_similarity(matrices: Float[Tensor, "n 2 3"]) -> Float[Tensor, "n 2 3"]:
    """The similarities that lead back; of a scaled rotation the inverse is its transpose over the squared scale."""
    linear = matrices[..., :2]
    inverse = linear.mT / linear[:, :, 0].square().sum(dim=1)[:, None, None]
    return torch.cat([inverse, -_turned(matrices[:, None, :, 2], inverse).mT], dim=-1)


def moved(shapes: Float[Tensor, "n p 2"], matrices: Float[Tensor, "n 2 3"]) -> Float[Tensor, "n p 2"]:
    """Landmark Transform layer: every point by its shape's similarity."""
    return _turned(shapes, matrices[..., :2]) + matrices[..., 2][:, None]


def _turned(points: Float[Tensor, "n p 2"], linear: Float[Tensor, "n 2 2"]) -> Float[Tensor, "n p 2"]:
    """``linear @ point``, in sums: automatic mixed precision would round a product's pixels to three digits."""
    return (points[..., None, :] * linear[:, None]).sum(dim=-1)


def warped(
    images: Float[Tensor, "n c h w"], matrices: Float[Tensor, "n 2 3"], *, size_px: int
) -> Float[Tensor, "n c s s"]:
    """Image Transform layer: pictures moved by ``to_from`` similarities into squares of `size_px`, bilinear.

    What lies outside takes the nearest border pixel, as the released code clips its coordinates.
    """
    n, _, height, width = images.shape
    line = torch.arange(size_px, dtype=images.dtype, device=images.device)
    y, x = torch.meshgrid(line, line, indexing="ij")
    targets = torch.stack([x, y], dim=-1).reshape(1, -1, 2).expand(n, -1, -1)
    sources = moved(targets, inverse_similarity(matrices)).reshape(n, size_px, size_px, 2)
    last = torch.tensor([width - 1, height - 1], dtype=images.dtype, device=images.device)
    return functional.grid_sample(images, sources / last * 2 - 1, padding_mode="border", align_corners=True)


def distance_heatmaps(shapes: Float[Tensor, "n p 2"], *, size_px: int) -> Float[Tensor, "n 1 s s"]:
    """Heatmap layer: 1 / (1 + distance to the nearest landmark) within 16 px of one, 0 elsewhere (equation 3)."""
    line = torch.arange(size_px, dtype=shapes.dtype, device=shapes.device)
    squared = (line - shapes[..., 0, None]).square()[:, :, None, :] + (line - shapes[..., 1, None]).square()[..., None]
    nearest = squared.amin(dim=1)  # (n p s s) → (n s s)
    heat = 1 / (1 + (nearest + 1e-12).sqrt())  # the root's slope is finite on a landmark too
    return torch.where(nearest <= HEATMAP_RADIUS_PX**2, heat, 0)[:, None]


class FeedForward(nn.Module):
    """The convolutions and dense layers of one stage (table 1): (n c s s) to updates (n p 2) and fc1's values (n h)."""

    def __init__(
        self,
        in_channels: int,
        *,
        n_landmarks: int,
        size_px: int,
        widths: Sequence[int],
        hidden: int,
        dropout: float,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if in_channels > 1:  # pictures are normalised when they are read; a concatenation is not
            layers.append(nn.BatchNorm2d(in_channels, eps=BATCH_NORM_EPS))
        for width in widths:
            for channels in (in_channels, width):
                layers += [
                    nn.Conv2d(channels, width, 3, padding=1, bias=False),
                    nn.BatchNorm2d(width, eps=BATCH_NORM_EPS),
                    nn.ReLU(inplace=True),
                ]
            layers.append(nn.MaxPool2d(2))
            in_channels = width
        self.convolutions = nn.Sequential(*layers)
        last = size_px // 2 ** len(widths)
        self.dropout = nn.Dropout(dropout)
        self.fc1 = nn.Sequential(
            nn.Linear(in_channels * last * last, hidden, bias=False),
            nn.BatchNorm1d(hidden, eps=BATCH_NORM_EPS),
            nn.ReLU(inplace=True),
        )
        self.fc2 = nn.Linear(hidden, 2 * n_landmarks)

    def forward(self, x: Float[Tensor, "n c s s"]) -> tuple[Float[Tensor, "n p 2"], Float[Tensor, "n h"]]:
        """ΔS in canonical pixels, and what the next stage's feature image is made from."""
        hidden = self.fc1(self.dropout(self.convolutions(x).flatten(1)))
        return self.fc2(hidden).unflatten(1, (-1, 2)), hidden


class DeepAlignmentNetwork(nn.Module):
    """Grey pictures (n 1 s s) to the landmarks after each stage.

    Pictures are crops in which the first guess is the canonical shape S₀. The paper's: 112 px, two stages, 68 points:
    11,144,136 parameters in the first stage and 11,951,246 in every other.
    """

    def __init__(
        self,
        canonical: Float[Tensor, "p 2"],
        *,
        n_stages: int = 2,
        size_px: int = 112,
        widths: Sequence[int] = (64, 128, 256, 512),
        hidden: int = 256,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if size_px % 2 ** len(widths):
            raise ValueError(f"pictures of {size_px} px cannot be halved {len(widths)} times; take a multiple")
        self.size_px = size_px
        self.canonical: Tensor
        self.register_buffer("canonical", canonical.float())
        self.stages = nn.ModuleList(
            FeedForward(
                1 if i == 0 else 3,
                n_landmarks=len(canonical),
                size_px=size_px,
                widths=widths,
                hidden=hidden,
                dropout=dropout,
            )
            for i in range(n_stages)
        )
        # The feature image layer of section 3.4, half the input's size.
        self.feature_layers = nn.ModuleList(
            nn.Sequential(nn.Linear(hidden, (size_px // 2) ** 2), nn.ReLU(inplace=True)) for _ in range(n_stages - 1)
        )

    def forward(self, images: Float[Tensor, "n 1 s s"], *, n_stages: int | None = None) -> list[Float[Tensor, "n p 2"]]:
        """Landmarks (n p 2) after each of the first `n_stages` stages (all of them by default)."""
        shapes: list[Tensor] = []
        for stage in range(len(self.stages) if n_stages is None else n_stages):
            if stage == 0:
                update, hidden = self.stages[0](images)
                shapes.append(self.canonical + update)
                continue
            matrices = similarity_to(shapes[-1], self.canonical)
            upright = moved(shapes[-1], matrices)
            feature = self.feature_layers[stage - 1](hidden).unflatten(1, (1, self.size_px // 2, -1))
            inputs = [
                warped(images, matrices, size_px=self.size_px),
                distance_heatmaps(upright, size_px=self.size_px),
                functional.interpolate(feature, scale_factor=2, mode="nearest"),
            ]
            update, hidden = self.stages[stage](torch.cat(inputs, dim=1))
            shapes.append(moved(upright + update, inverse_similarity(matrices)))  # equation 2
        return shapes

    def stage_parameters(self, stage: int) -> list[nn.Parameter]:
        """What is learnt when `stage` (from 0) is trained: the stage itself and the feature layer before it."""
        modules = [self.stages[stage], *([self.feature_layers[stage - 1]] if stage else [])]
        return [parameter for module in modules for parameter in module.parameters()]
