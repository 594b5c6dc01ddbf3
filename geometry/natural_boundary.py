"""The conformal map whose boundary is free: the surface lies as it wants to, angles kept as well as triangles allow.

Spectral conformal parameterization (Mullen, Tong, Alliez and Desbrun 2008): of all maps with a given spread of the
boundary the one with the least conformal energy

    E_C(z) = ½ Σ_edges w_ij |z_i − z_j|² − area(z),    w the cotangent weights, z = u + iv

(Lévy et al. 2002, "Least squares conformal maps", eq. 4; Pinkall and Polthier 1993), an eigenvector of a sparse
matrix. Unlike least squares with two pinned vertices it depends on no choice of pins. In complex numbers the energy is
Hermitian, and rotation and scale are one factor, so that the matrix has one row for a vertex.

The energy of a flat surface is zero: it stays as it is, up to a similarity. A curved surface has many conformal maps,
and the finer its mesh the less they differ in energy: the mesh decides between them, and in favour of even ones.
**Nothing keeps triangles from folding** where angles are obtuse or much of the surface is squeezed into little of the
map, nor the border from crossing itself; :mod:`geometry.unwrap` looks, and repairs.
"""

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla
from jaxtyping import Float, Int

from geometry.edge_weights import laplacian

_SHIFT = 1e-8
"""Added to the singular energy, in units of the boundary's inertia: far below the second eigenvalue of any face."""

_BLOCK = 6
"""Vectors that are iterated together: convergence depends on the gap behind the last of them."""

_ITERATIONS = 300
_TOLERANCE = 1e-13
"""Of the residual against the sum of its terms' magnitudes; a face takes five to thirty iterations."""


def natural_layout(
    weights: sp.csr_array, vertices: Float[np.ndarray, "v 3"], loops: list[Int[np.ndarray, "_"]]
) -> Float[np.ndarray, "v 2"]:
    """The free conformal map by cotangent `weights` of a surface with these boundary `loops` (its own unit of length).

    Centred, turned so that the surface seen from the front is upright, with the surface's mean scale left open: the
    boundary has unit spread. Raises RuntimeError when the eigenvectors do not settle (degenerate triangles).
    """
    n = len(vertices)
    start = np.concatenate(loops)
    end = np.concatenate([np.roll(loop, -1) for loop in loops])
    # area = ½ Σ_boundary Im(conj(z_i) z_j)
    along = sp.coo_array((np.full(len(start), 0.25), (start, end)), shape=(n, n)).tocsr()
    energy = (0.5 * laplacian(weights) + 1j * (along - along.T)).tocsc()
    steps = np.linalg.norm(vertices[end] - vertices[start], axis=1)
    steps = np.maximum(steps, 1e-6 * steps.mean())
    inertia = np.bincount(start, steps, n) + np.bincount(end, steps, n)
    inertia = inertia / inertia.sum()
    factors = spla.splu(
        (energy + _SHIFT * sp.diags_array(inertia)).tocsc(),
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )
    layout = _second_eigenvector(energy, inertia, factors, _waves(loops, n))
    return _upright(layout, vertices, inertia)


def fitted_to_square(layout: Float[np.ndarray, "v 2"]) -> Float[np.ndarray, "v 2"]:
    """The layout scaled alike in both directions into [0, 1]², in the middle of its shorter side."""
    low, high = layout.min(axis=0), layout.max(axis=0)
    return np.clip(0.5 + (layout - (low + high) / 2) / (high - low).max(), 0.0, 1.0)


def _second_eigenvector(
    energy: sp.csc_array, inertia: np.ndarray, factors: spla.SuperLU, block: np.ndarray
) -> np.ndarray:
    """Of E z = λ B z (B: inertia) the vector after the constant one, by subspace iteration with Rayleigh–Ritz steps."""
    rim = np.flatnonzero(inertia)
    roots, magnitude = np.sqrt(inertia[rim])[:, None], abs(energy)
    for _ in range(_ITERATIONS):
        block = factors.solve(inertia[:, None] * block)
        block -= inertia @ block  # the constant is the eigenvector of 0 and not wanted
        _, triangle = np.linalg.qr(roots * block[rim])
        block = block @ np.linalg.inv(triangle)
        values, turns = np.linalg.eigh(block.conj().T @ (energy @ block))
        block = block @ turns
        found = block[:, 0]
        residual = np.abs(energy @ found - values[0] * inertia * found).max()
        if residual < _TOLERANCE * (magnitude @ np.abs(found)).max():
            return found
    raise RuntimeError(
        f"the free conformal map did not settle in {_ITERATIONS} iterations: the mesh has triangles that are all but "
        "degenerate; choose another boundary"
    )


def _waves(loops: list[np.ndarray], n_vertices: int) -> np.ndarray:
    """Where the iteration starts: one to three turns of the longest loop, both ways round."""
    loop = max(loops, key=len)
    turns = np.array([1, -1, 2, -2, 3, -3])[: min(_BLOCK, len(loop) - 1)]
    block = np.zeros((n_vertices, len(turns)), dtype=np.complex128)
    block[loop] = np.exp(2j * np.pi * turns * np.arange(len(loop))[:, None] / len(loop))
    return block


def _upright(layout: np.ndarray, vertices: np.ndarray, inertia: np.ndarray) -> np.ndarray:
    """Turned so that the boundary lies over itself as seen from the front, as well as a rotation can."""
    front = vertices[:, 0] + 1j * vertices[:, 1]
    front = front - inertia @ front
    overlap = (inertia * np.conj(layout) * front).sum()
    if abs(overlap) > 1e-9 * np.sqrt(inertia @ np.abs(front) ** 2):
        layout = layout * (overlap / abs(overlap))
    return np.stack([layout.real, layout.imag], axis=1)
