"""Convolution on meshes: Chebyshev polynomials of the graph Laplacian, as sparse matrix products.

torch_geometric has the same layer on edge lists; it is the reference in the tests. Sparse products on all vertices of a
fixed mesh are several times as fast.
"""

import warnings

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


def sparse_tensor(matrix: sp.csr_array, *, dtype: torch.dtype = torch.float32) -> Tensor:
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


def on_vertices(matrix: Float[Tensor, "m v"], features: Float[Tensor, "n v c"]) -> Float[Tensor, "n m c"]:
    """A sparse matrix applied to every sample's vertices, in one product; in the matrix's precision (float32)."""
    n, v, c = features.shape
    columns = features.to(matrix.dtype).transpose(0, 1).reshape(v, n * c)
    return (matrix @ columns).reshape(-1, n, c).transpose(0, 1).to(features.dtype)


class ChebyshevConvolution(nn.Module):
    """y = Σ_k T_k(L̂) x Θ_k + b with K terms, k = 0 … K − 1 (section III-C, equations 1 and 2).

    The paper's "order 3" sums three terms: ``weight`` is (3 in out). T_k = 2 L̂ T_{k−1} − T_{k−2}.
    """

    def __init__(self, in_channels: int, out_channels: int, *, n_terms: int = 3) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_terms, in_channels, out_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        bound = (6 / (n_terms * in_channels + out_channels)) ** 0.5  # Glorot's, over all terms
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, x: Float[Tensor, "n v i"], rescaled: Float[Tensor, "v v"]) -> Float[Tensor, "n v o"]:
        """Features of every vertex; `rescaled` is L̂ of their level."""
        terms = [x]
        for k in range(1, len(self.weight)):
            next_term = on_vertices(rescaled, terms[-1])
            terms.append(next_term if k == 1 else 2 * next_term - terms[-2])
        return torch.cat(terms, dim=-1) @ self.weight.flatten(0, 1) + self.bias
