"""CNN and graph network, fused: pictures to every vertex of a mesh (Meng et al. 2022, sections III-D to III-F).

The paper gives no layer table. Its text fixes the levels (a feature map of 4² … 128² pixels for 16 … 16,384 vertices), the
six residual blocks of the encoder, the embedding of 256, the residual blocks of three convolutions, six dense graph blocks of
four Chebyshev layers and 128 channels at the last level. Widths below that, the places of the nested blocks and where features
meet are ours, and named at each class.
"""

from collections.abc import Sequence
from functools import reduce
from operator import matmul
from typing import Literal

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from geometry.hierarchy import MeshHierarchy
from train.graph_layers import (
    ChebyshevConvolution,
    MeshMatrix,
    chebyshev_terms,
    joined_features,
    on_vertices,
    rescaled_laplacian,
    sparse_tensor,
)

Aggregation = Literal["none", "u-net", "no-up", "no-down", "full"]
Output = Literal["offset", "affine"]
SLOPE = 0.01
_SMALL = 0.1


class ResidualBlock(nn.Module):
    """Three 3×3 convolutions, each normalised and leaky, and a shortcut (section III-E).

    The first convolution has the stride; the shortcut is the identity, or a 1×1 where shapes differ.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(3):
            layers += [
                nn.Conv2d(
                    in_channels if i == 0 else out_channels, out_channels, 3, stride if i == 0 else 1, 1, bias=False
                ),
                nn.BatchNorm2d(out_channels),
            ]
            if i < 2:
                layers.append(nn.LeakyReLU(SLOPE, inplace=True))
        self.layers = nn.Sequential(*layers)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d i j"]:
        """Rows and columns divided by the stride."""
        return functional.leaky_relu(self.layers(x) + self.shortcut(x), SLOPE)


class AggregationBlock(nn.Module):
    """Nested residual blocks between encoder and decoder (figure 3): level i of column j.

    Ours: columns of a triangle, as in UNet++. Node (i, j) sees (i, j − 1), the coarser (i + 1, j − 1) enlarged bilinearly and
    the finer (i − 1, j − 1) through a convolution of stride 2; the last node of every level goes to the decoder.
    "no-up" and "no-down" leave those inputs out, "u-net" hands the encoder's maps over as they are.
    """

    def __init__(self, widths: Sequence[int], kind: Aggregation) -> None:
        super().__init__()
        self.kind = kind
        self.blocks, self.shrinking = nn.ModuleDict(), nn.ModuleDict()
        n = len(widths)
        if kind in ("none", "u-net"):
            return
        for j in range(1, n):
            for i in range(n - j):
                channels = widths[i]
                if kind != "no-up":
                    channels += widths[i + 1]
                if kind != "no-down" and i > 0:
                    channels += widths[i]
                    self.shrinking[f"{i}-{j}"] = nn.Conv2d(widths[i - 1], widths[i], 3, 2, 1, bias=False)
                self.blocks[f"{i}-{j}"] = ResidualBlock(channels, widths[i])

    def forward(self, maps: list[Float[Tensor, "n _ _ _"]]) -> list[Float[Tensor, "n _ _ _"]]:
        """One map (n c h w) for each level, finest first, of the encoder's shapes; none for "none"."""
        if self.kind == "none":
            return []
        column = list(maps)
        last = [column[-1]]
        for j in range(1, len(maps)):
            if not self.blocks:
                break
            next_column = []
            for i in range(len(maps) - j):
                inputs = [column[i]]
                if self.kind != "no-up":
                    inputs.append(
                        functional.interpolate(column[i + 1], scale_factor=2, mode="bilinear", align_corners=False)
                    )
                if f"{i}-{j}" in self.shrinking:
                    inputs.append(self.shrinking[f"{i}-{j}"](column[i - 1]))
                next_column.append(self.blocks[f"{i}-{j}"](torch.cat(inputs, dim=1)))
            column = next_column
            last.insert(0, column[-1])
        return last if self.blocks else maps


class DenseGraphBlock(nn.Module):
    """Four Chebyshev layers, each normalised and leaky; each sees the block's input and all layers before it.

    Ours: as in DenseGCN the layers are narrow and concatenated, and the last one makes the block's output.
    """

    def __init__(self, in_channels: int, out_channels: int, *, n_layers: int = 4, growth: int | None = None) -> None:
        super().__init__()
        growth = out_channels // 2 if growth is None else growth
        self.layers, self.normalisations = nn.ModuleList(), nn.ModuleList()
        for layer in range(n_layers):
            width = out_channels if layer == n_layers - 1 else growth
            self.layers.append(ChebyshevConvolution(in_channels, width))
            self.normalisations.append(nn.BatchNorm1d(width))
            in_channels += width

    def forward(self, x: Float[Tensor, "n v i"], rescaled: MeshMatrix) -> Float[Tensor, "n v o"]:
        """Features of every vertex; `rescaled` is L̂ of their level."""
        seen = [x]
        for layer, normalisation in zip(self.layers, self.normalisations, strict=True):
            y = layer(joined_features(seen), rescaled).transpose(0, 1)  # vertex by vertex in memory
            y = normalisation(y.flatten(0, 1)).unflatten(0, y.shape[:2])
            seen.append(functional.leaky_relu(y, SLOPE, inplace=True).transpose(0, 1))
        return seen[-1]


class MeshRegressor(nn.Module):
    """Pictures (n 3 s s) to vertices (n V 3) in crop pixels.

    `hierarchy` has levels of 4ᵏ vertices, as many as the encoder has blocks: s = 4 · 2^levels, 256 for the paper's six.
    The output is `base`, the mean training face in crop pixels, plus a quarter of the picture's side times what the last
    layer gives (ours, so that outputs start near 0 and stay near 1). With `output` "affine" the last layer gives twelve numbers
    a vertex from twice as many features as it has for offsets, an affine map of the mean face about its middle, that starts
    near nothing (ours, for small nets): turning a whole head is then the same at every vertex, where offsets have to paint
    the face anew.
    """

    def __init__(
        self,
        hierarchy: MeshHierarchy,
        base: Float[Tensor, "V 3"],
        *,
        channels: int = 128,
        embedding: int = 256,
        aggregation: Aggregation = "full",
        output: Output = "offset",
        shortcut: bool = False,
        chosen: Int[np.ndarray, " m"] | None = None,
    ) -> None:
        """`chosen`: the vertices that carry the loss; none: all. `shortcut`: see :class:`~train.mesh_gcn.MeshGcnConfig`."""
        super().__init__()
        sizes = [len(mesh.vertices) for mesh in hierarchy.meshes]
        self.sides = [int(np.sqrt(size)) for size in sizes[1:]]  # finest level first
        if [side * side for side in self.sides] != sizes[1:] or self.sides[-1] != 4:
            raise ValueError(
                f"levels of {sizes[1:]} vertices have no square feature maps from 4 × 4 upwards; build the hierarchy with "
                "levels 16, 64, 256, … "
            )
        n_levels = len(self.sides)
        self._levels = hierarchy.fingerprint
        self.size_px = 2 * self.sides[0]
        self.base: Tensor
        self.register_buffer("base", base.float())
        laplacians = [rescaled_laplacian(mesh.triangles, len(mesh.vertices)) for mesh in hierarchy.meshes]
        for level, matrix in enumerate(laplacians[1:], start=1):
            self.register_buffer(f"laplacian_{level}", sparse_tensor(matrix), persistent=False)
        # The last layer works on all vertices: its enlargement and its three terms are one matrix.
        enlargements = [chebyshev_terms(laplacians[0], hierarchy.up[0]), *hierarchy.up[1:]]
        named = {str(level): matrix for level, matrix in enumerate(enlargements)}
        if chosen is not None:
            named["chosen"] = enlargements[0][chosen]
        if shortcut:  # from 16 vertices to all at once
            named["whole"] = reduce(matmul, hierarchy.up[:n_levels])
            named["whole"].sort_indices()
            if chosen is not None:
                named["whole_chosen"] = named["whole"][chosen]
        for name, matrix in named.items():
            self.register_buffer(f"up_{name}", sparse_tensor(matrix), persistent=False)
            self.register_buffer(f"down_{name}", sparse_tensor(sp.csr_array(matrix.T)), persistent=False)
        self.chosen: Tensor | None
        self.register_buffer("chosen", None if chosen is None else torch.from_numpy(chosen), persistent=False)

        # The encoder's maps: a few channels at 128², the paper's 128 from 32² down.
        widths = [max(channels // 4, 8), max(channels // 2, 8)][: n_levels - 1]
        widths += [channels] * (n_levels - len(widths))
        before = [3, *widths[:-1]]
        self.encoder = nn.ModuleList(ResidualBlock(i, o, stride=2) for i, o in zip(before, widths, strict=True))
        self.embedding = nn.Sequential(
            nn.Flatten(),
            nn.Linear(16 * widths[-1], 2 * embedding),
            nn.LeakyReLU(SLOPE),
            nn.Linear(2 * embedding, embedding),
        )
        self.aggregation = AggregationBlock(widths, aggregation)
        self.start = nn.Linear(embedding, 16 * channels)
        self.blocks = nn.ModuleList(
            DenseGraphBlock(channels + (0 if aggregation == "none" else width), channels) for width in reversed(widths)
        )
        self.output = output
        last_channels = channels // 4 if output == "offset" else channels // 2
        before_last = ChebyshevConvolution(channels, last_channels)
        final = ChebyshevConvolution(last_channels, 3 if output == "offset" else 12)
        if output == "affine":
            with torch.no_grad():
                final.weight.mul_(_SMALL)
        self.last = nn.ModuleList([before_last, final])
        self.shortcut: nn.Linear | None = None
        if shortcut:
            self.shortcut = nn.Linear(embedding, 16 * (3 if output == "offset" else 12))
            nn.init.normal_(self.shortcut.weight, std=_SMALL * embedding**-0.5)

    def get_extra_state(self) -> Tensor:
        """The hierarchy's fingerprint: the weights are worth nothing on other levels, which are not saved with them."""
        return torch.tensor(list(self._levels.encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Called with what was saved. Raises RuntimeError, as for weights of other shapes."""
        if not torch.equal(state.cpu(), self.get_extra_state()):
            raise RuntimeError(
                "they were learnt on other coarse levels of the mesh than this program selects: train the network anew"
            )

    def forward(
        self, images: Float[Tensor, "n 3 s s"], *, of_loss: bool = False, coarse: bool = False
    ) -> Float[Tensor, "n v 3"]:
        """Vertices in crop pixels, all or those `of_loss`; raises ValueError for pictures of another size.

        `coarse`: what the shortcut alone says.
        """
        if images.shape[-1] != self.size_px or images.shape[-2] != self.size_px:
            raise ValueError(f"this network reads {self.size_px} × {self.size_px} px, not {tuple(images.shape[-2:])}")
        maps = []
        x = images
        for block in self.encoder:
            x = block(x)
            maps.append(x)
        embedded = self.embedding(x)
        chosen = self.chosen if of_loss else None
        base = self.base if chosen is None else self.base[chosen]
        offsets = None if coarse else self._fine(maps, embedded, chosen=chosen is not None)
        if self.shortcut is not None:
            rows = "whole" if chosen is None else "whole_chosen"
            up, down = self.get_buffer(f"up_{rows}"), self.get_buffer(f"down_{rows}")
            enlarged = on_vertices(up, self.shortcut(embedded).unflatten(1, (16, -1)), transposed=down)
            offsets = enlarged if offsets is None else offsets + enlarged
        assert offsets is not None
        if self.output == "affine":
            place = (base - self.base.mean(dim=0)) / (self.size_px / 4)
            maps_of_mean = offsets.unflatten(-1, (3, 4))
            offsets = (maps_of_mean[..., :3] * place[:, None]).sum(dim=-1) + maps_of_mean[..., 3]
        return base + self.size_px / 4 * offsets

    def _fine(
        self, maps: list[Float[Tensor, "n _ _ _"]], embedded: Float[Tensor, "n e"], *, chosen: bool
    ) -> Float[Tensor, "n v c"]:
        """What the decoder says at every vertex, or at the chosen ones."""
        features = self.start(embedded).unflatten(1, (16, -1))
        aggregated = self.aggregation(maps)
        coarsest = len(self.sides)
        for level in range(coarsest, 0, -1):  # 16 vertices up to the finest level
            if aggregated:  # pixel k of the map, row by row, goes with vertex k
                features = joined_features([features, aggregated[level - 1].flatten(2).transpose(1, 2)])
            features = self.blocks[coarsest - level](features, self.get_buffer(f"laplacian_{level}"))
            if level > 1:
                up, down = self.get_buffer(f"up_{level - 1}"), self.get_buffer(f"down_{level - 1}")
                features = on_vertices(up, features, transposed=down)
        features = functional.leaky_relu(self.last[0](features, self.get_buffer("laplacian_1")), SLOPE)
        final, which = self.last[1], "chosen" if chosen else 0
        assert isinstance(final, ChebyshevConvolution)
        return final.enlarged(features, self.get_buffer(f"up_{which}"), self.get_buffer(f"down_{which}"))


def mesh_loss(differences: Float[Tensor, "*n"], *, width: float = 5.0, curvature: float = 4.0) -> Float[Tensor, "*n"]:
    """The paper's loss of each difference x in crop pixels (equation 3): W(e^{|x|/ε} − 1) below W, |x| − C above.

    C = W − W(e^{W/ε} − 1) joins the two. The unit of x is ours: the paper names none.
    """
    size = differences.abs()
    joint = width - width * (np.exp(width / curvature) - 1)
    # The exponential is not evaluated far out, where it would overflow and turn the gradient into NaN.
    inner = width * torch.expm1(size.clamp(max=width) / curvature)
    return torch.where(size < width, inner, size - joint)
