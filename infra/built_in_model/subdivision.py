"""Subdivision of quad meshes as sparse matrices, so that any displacement of the coarse mesh is subdivided alike."""

import numpy as np
import scipy.sparse as sp


def _edges(quads: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every undirected edge once (e 2), and which of them each quad's four sides are, side by side (4f,)."""
    sides = np.concatenate([quads[:, [i, (i + 1) % 4]] for i in range(4)])
    edges, of_side = np.unique(np.sort(sides, 1), axis=0, return_inverse=True)
    return edges, of_side.ravel()


def _means(members: np.ndarray, n: int) -> sp.csr_matrix:
    """The matrix (r n) that averages the vertices of each row of `members` (r m)."""
    rows, per_row = members.shape
    weights = np.full(per_row * rows, 1 / per_row)
    return sp.csr_matrix((weights, (np.repeat(np.arange(rows), per_row), members.ravel())), (rows, n))


def _children(quads: np.ndarray, n: int, n_edges: int, of_side: np.ndarray) -> np.ndarray:
    """The four quads of each quad, together: corner, edge point, face point, edge point."""
    f = len(quads)
    of_side = of_side.reshape(4, f)
    face_points = n + n_edges + np.arange(f)
    corners = [np.stack([quads[:, i], n + of_side[i], face_points, n + of_side[(i - 1) % 4]], 1) for i in range(4)]
    return np.stack(corners, 1).reshape(-1, 4)


def catmull_clark(quads: np.ndarray, n: int) -> tuple[sp.csr_matrix, np.ndarray]:
    """One Catmull–Clark step of quads (f 4) over n vertices: matrix (n' n), quads (4f 4); cubic B-spline borders."""
    f = len(quads)
    edges, of_side = _edges(quads)
    e = len(edges)
    quads_of_edge = np.bincount(of_side, minlength=e)
    interior = quads_of_edge == 2
    face_points = _means(quads, n)
    midpoints = _means(edges, n)
    edge_quads = sp.csr_matrix((np.ones(4 * f), (of_side, np.tile(np.arange(f), 4))), (e, f))
    edge_points = sp.diags(np.where(interior, 0.5, 1.0)) @ midpoints
    edge_points = edge_points + sp.diags(np.where(interior, 0.25, 0.0)) @ (edge_quads @ face_points)

    vertex_quads = sp.csr_matrix((np.ones(4 * f), (quads.ravel(), np.repeat(np.arange(f), 4))), (n, f))
    n_quads = np.asarray(vertex_quads.sum(1)).ravel()
    vertex_edges = sp.csr_matrix((np.ones(2 * e), (edges.ravel(), np.repeat(np.arange(e), 2))), (n, e))
    valence = np.asarray(vertex_edges.sum(1)).ravel()
    k = np.where(valence > 0, valence, 1)
    inner_rule = sp.diags(1 / (k * np.maximum(n_quads, 1))) @ (vertex_quads @ face_points)
    inner_rule = inner_rule + sp.diags(2 / (k * k)) @ (vertex_edges @ midpoints) + sp.diags((k - 3) / k)

    border = edges[~interior]
    b = len(border)
    vertex_border = sp.csr_matrix((np.ones(2 * b), (border.ravel(), np.repeat(np.arange(b), 2))), (n, b))
    smooth = np.asarray(vertex_border.sum(1)).ravel() == 2  # a corner of the border stays
    border_rule = sp.diags(np.where(smooth, 0.25, 0.0)) @ (vertex_border @ midpoints[np.flatnonzero(~interior)])
    border_rule = border_rule + sp.diags(np.where(smooth, 0.5, 1.0))
    on_border = np.zeros(n, bool)
    on_border[border.ravel()] = True
    choose = sp.diags(on_border.astype(float))
    moved = (sp.identity(n) - choose) @ inner_rule + choose @ border_rule
    if (valence == 0).any():  # vertices that no quad uses stay
        moved = sp.diags((valence > 0).astype(float)) @ moved + sp.diags((valence == 0).astype(float))
    return sp.vstack([moved, edge_points, face_points]).tocsr(), _children(quads, n, e, of_side)


def split(quads: np.ndarray, n: int) -> tuple[sp.csr_matrix, np.ndarray]:
    """The same refinement without smoothing, for texture coordinates; vertices come in the same order."""
    edges, of_side = _edges(quads)
    points = sp.vstack([sp.identity(n), _means(edges, n), _means(quads, n)]).tocsr()
    return points, _children(quads, n, len(edges), of_side)


def compact(quads: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The vertices that quads use, ascending, and the quads counted in these."""
    used = np.unique(quads)
    new_index = np.full(quads.max() + 1, -1)
    new_index[used] = np.arange(len(used))
    return used, new_index[quads]
