"""Products on meshes: the ways that are quick give what the plain ways give, forwards and backwards."""

import numpy as np
import pytest
import torch
from scipy import sparse as sp

from train.graph_layers import (
    ChebyshevConvolution,
    chebyshev_terms,
    on_vertices,
    padded_rows,
    rescaled_laplacian,
    sparse_tensor,
)


@pytest.fixture(autouse=True)
def _same_numbers_every_time():
    torch.manual_seed(0)


def lopsided_triangles(n: int) -> np.ndarray:
    """Triangles of an n × n grid, a fan of them at one corner, so that no two rows of L̂ are alike."""
    k = np.arange(n * n).reshape(n, n)
    first = np.stack([k[:-1, :-1], k[1:, :-1], k[:-1, 1:]], axis=-1).reshape(-1, 3)
    second = np.stack([k[1:, 1:], k[:-1, 1:], k[1:, :-1]], axis=-1).reshape(-1, 3)
    fan = np.stack([np.zeros(n - 1), k[-1, :-1], k[-1, 1:]], axis=-1)
    return np.concatenate([first, second[: len(second) // 2], fan]).astype(np.int32)


def lopsided_enlargement(n_fine: int, n_coarse: int) -> sp.csr_array:
    """Three weights a row that sum to 1, as barycentric coordinates do."""
    rng = np.random.default_rng(1)
    columns = np.stack([rng.choice(n_coarse, 3, replace=False) for _ in range(n_fine)])
    weights = rng.dirichlet([1, 2, 3], size=n_fine)
    return sp.csr_array((weights.ravel(), (np.repeat(np.arange(n_fine), 3), columns.ravel())), shape=(n_fine, n_coarse))


def test_gradients_by_the_transpose_are_torchs_own():
    matrix = lopsided_enlargement(25, 7)
    plain = sparse_tensor(matrix, dtype=torch.float64)
    transposed = sparse_tensor(sp.csr_array(matrix.T), dtype=torch.float64)
    features = torch.randn(2, 7, 3, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(2, 25, 3, dtype=torch.float64)
    (own,) = torch.autograd.grad((on_vertices(plain, features) * weights).sum(), features)
    (ours,) = torch.autograd.grad((on_vertices(plain, features, transposed=transposed) * weights).sum(), features)
    torch.testing.assert_close(ours, own)
    dense = torch.from_numpy(matrix.toarray())
    torch.testing.assert_close(own, torch.einsum("mv,nmc->nvc", dense, weights))


@pytest.mark.parametrize("n_terms", [1, 2, 3, 4])
def test_a_layer_on_an_enlargement_is_one_product_with_the_joined_terms(n_terms):
    n, m = 25, 7
    up, laplacian = lopsided_enlargement(n, m), rescaled_laplacian(lopsided_triangles(5), n)
    layer = ChebyshevConvolution(5, 3, n_terms=n_terms).double()
    x = torch.randn(2, m, 5, dtype=torch.float64)
    matrices = (sparse_tensor(one, dtype=torch.float64) for one in (up, laplacian))
    up_tensor, laplacian_tensor = matrices
    expected = layer(on_vertices(up_tensor, x), laplacian_tensor)
    joined = chebyshev_terms(laplacian, up, n_terms=n_terms)
    assert joined.shape == (n, n_terms * m)
    terms = sparse_tensor(joined, dtype=torch.float64)
    torch.testing.assert_close(layer.enlarged(x, terms, None), expected)
    torch.testing.assert_close(layer.enlarged(x, padded_rows(terms), None), expected)
