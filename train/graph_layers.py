"""Convolution on meshes: Chebyshev polynomials of the graph Laplacian, as sparse matrix products.

torch_geometric has the same layer on edge lists; it is the reference in the tests. Sparse products on all vertices of a
fixed mesh are several times as fast.
"""

import warnings
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float, Int32
from scipy.sparse.linalg import eigsh
from torch import Tensor, nn


def laplacian(triangles: Int32[np.ndarray, "t 3"], n_vertices: int) -> sp.csr_array:
    """L = D − A of the mesh's edges (Meng et al. 2022, section III-B): symmetric, rows of sum 0."""
    ends = triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    ones = np.ones(len(ends), dtype=np.float64)
    adjacency = sp.coo_array((ones, (ends[:, 0], ends[:, 1])), shape=(n_vertices, n_vertices)).tocsr()
    adjacency = ((adjacency + adjacency.T) > 0).astype(np.float64)
    degrees = np.asarray(adjacency.sum(axis=1)).ravel()
    return sp.csr_array(sp.diags_array(degrees) - adjacency)


def rescaled_laplacian(triangles: Int32[np.ndarray, "t 3"], n_vertices: int) -> sp.csr_array:
    """L̂ = 2L/λ_max − I, with the true largest eigenvalue: its spectrum fills [−1, 1] (section III-C)."""
    plain = laplacian(triangles, n_vertices)
    if n_vertices < 64:
        largest = np.linalg.eigvalsh(plain.toarray())[-1]
    else:
        start = np.random.default_rng(0).normal(size=n_vertices)  # ARPACK's own start would differ from run to run
        largest = eigsh(plain, k=1, which="LA", v0=start, return_eigenvectors=False)[0]
    return sp.csr_array(plain * (2 / largest) - sp.eye_array(n_vertices))


def sparse_tensor(matrix: sp.csr_array, *, dtype: torch.dtype = torch.float32) -> Float[Tensor, "r c"]:
    """The matrix as torch's compressed rows."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            torch.from_numpy(matrix.indptr.astype(np.int64)),
            torch.from_numpy(matrix.indices.astype(np.int64)),
            torch.from_numpy(matrix.data).to(dtype),
            size=matrix.shape,
            check_invariants=True,
        )


MeshMatrix = Float[Tensor, "_ _"] | Float[Tensor, "_ 2 _"]
"""A matrix over vertices: torch's compressed rows, or :func:`padded_rows`."""


def padded_rows(matrix: Float[Tensor, "m v"]) -> Float[Tensor, "m 2 k"]:
    """The columns ([:, 0]) and values ([:, 1]) of each row's entries, zeros after them: for programs without sparse products.

    Columns are whole numbers in float32, exact below 2²⁴.
    """
    starts, columns, values = matrix.crow_indices(), matrix.col_indices(), matrix.values()
    lengths = starts.diff()
    rows = torch.arange(len(lengths)).repeat_interleave(lengths)
    places = torch.arange(len(columns)) - starts[:-1].repeat_interleave(lengths)
    padded = torch.zeros(len(lengths), 2, int(lengths.max()), dtype=values.dtype)
    padded[rows, 0, places], padded[rows, 1, places] = columns.to(values.dtype), values
    return padded


def on_vertices(
    matrix: MeshMatrix, features: Float[Tensor, "n v c"], *, transposed: MeshMatrix | None = None
) -> Float[Tensor, "n m c"]:
    """A sparse matrix applied to every sample's vertices, in one product; in the matrix's precision (float32).

    With `transposed`, the matrix's own transpose, the way back is one product too: torch by itself sorts all entries anew in
    every step.
    """
    if matrix.ndim == 3:
        return (features[:, matrix[:, 0].long()] * matrix[:, 1, :, None]).sum(dim=2)
    n, v, c = features.shape
    columns = features.to(matrix.dtype).transpose(0, 1).reshape(v, n * c)
    with torch.autocast(features.device.type, enabled=False):  # sparse products know no half precision
        product = matrix @ columns if transposed is None else _SparseProduct.apply(matrix, transposed, columns)
    return product.reshape(-1, n, c).transpose(0, 1).to(features.dtype)


class _SparseProduct(torch.autograd.Function):
    """matrix @ columns, and transposed @ gradient on the way back."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, transposed: Tensor, columns: Tensor) -> Tensor:
        ctx.transposed = transposed
        return matrix @ columns

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, Tensor]:
        return None, None, ctx.transposed @ gradients[0]


def chebyshev_terms(rescaled: sp.csr_array, up: sp.csr_array, *, n_terms: int = 3) -> sp.csr_array:
    """(v, n_terms · m) [T_0(L̂) U | T_1(L̂) U | …]: enlarging by U and then summing the terms, in one matrix."""
    terms = [up, rescaled @ up]
    for _ in range(2, n_terms):
        terms.append(2 * (rescaled @ terms[-1]) - terms[-2])
    joined = sp.csr_array(sp.hstack(terms[:n_terms]))
    joined.sort_indices()
    return joined


def joined_features(features: list[Float[Tensor, "n v _"]]) -> Float[Tensor, "n v c"]:
    """Features one after another, vertex by vertex in memory: what a matrix over vertices takes without a copy."""
    return torch.cat([one.transpose(0, 1) for one in features], dim=-1).transpose(0, 1)


class ChebyshevConvolution(nn.Module):
    """y = Σ_k T_k(L̂) x Θ_k + b with K terms, k = 0 … K − 1 (section III-C, equations 1 and 2).

    Results lie in memory vertex by vertex (v n o), as sparse products make and take them, whatever lay where before.

    The paper's "order 3" sums three terms: ``weight`` is (3 in out). T_k = 2 L̂ T_{k−1} − T_{k−2}.
    """

    def __init__(self, in_channels: int, out_channels: int, *, n_terms: int = 3) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_terms, in_channels, out_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        bound = (6 / (n_terms * in_channels + out_channels)) ** 0.5  # Glorot's, over all terms
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, x: Float[Tensor, "n v i"], rescaled: MeshMatrix) -> Float[Tensor, "n v o"]:
        """Features of every vertex; `rescaled` is L̂ of their level (symmetric). L̂ is applied where there are fewer channels."""
        n_terms, n_in, n_out = self.weight.shape
        if n_out < n_in:
            return self._weighted_first(x, rescaled)
        terms = [x]
        for k in range(1, n_terms):
            next_term = on_vertices(rescaled, terms[-1], transposed=rescaled)
            terms.append(next_term if k == 1 else 2 * next_term - terms[-2])
        return joined_features(terms).transpose(0, 1).matmul(self.weight.flatten(0, 1)).add(self.bias).transpose(0, 1)

    def _weighted_first(self, x: Float[Tensor, "n v i"], rescaled: MeshMatrix) -> Float[Tensor, "n v o"]:
        """Clenshaw's recurrence: b_k = x Θ_k + 2 L̂ b_{k+1} − b_{k+2}, and y = x Θ_0 + L̂ b_1 − b_2."""
        by_vertex = x.transpose(0, 1)
        weighted = [(by_vertex @ one).transpose(0, 1) for one in self.weight]
        later = weighted[-1]  # b_{k+1}
        last: Tensor | None = None  # b_{k+2}
        for k in range(len(weighted) - 2, -1, -1):
            product = on_vertices(rescaled, later, transposed=rescaled)
            y = torch.add(weighted[k], product, alpha=2 if k else 1)
            later, last = y if last is None else y - last, later
        return later + self.bias

    def enlarged(
        self, x: Float[Tensor, "n m i"], terms: MeshMatrix, transposed: MeshMatrix | None
    ) -> Float[Tensor, "n v o"]:
        """The layer on features that are enlarged first, U x, by `terms` (:func:`chebyshev_terms`): the same, in one product."""
        weighted = self._weighted(x).transpose(1, 2).flatten(1, 2)
        return on_vertices(terms, weighted, transposed=transposed) + self.bias

    def _weighted(self, x: Float[Tensor, "n v i"]) -> Float[Tensor, "n v k o"]:
        """x Θ_k for every k."""
        n_terms, _, n_out = self.weight.shape
        return (x @ self.weight.transpose(0, 1).flatten(1)).unflatten(-1, (n_terms, n_out))
