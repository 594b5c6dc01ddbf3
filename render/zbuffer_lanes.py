"""The z-buffer for many meshes of one topology: sixteen at a time, in the lanes of SIMD registers.

What :func:`draw_meshes` writes is, to the bit, what the one-image kernel writes for each mesh alone.
"""

import threading

import numpy as np
from jaxtyping import Float, Float32, Int32

from render import zbuffer_lanes_kernel as kernel
from render.zbuffer_kernel import clear_buffers, draw_triangles, snap_vertices
from render.zbuffer_lanes_kernel import LANES, LARGEST_SIDE

__all__ = ["LANES", "LARGEST_SIDE", "draw_meshes"]

_HITS_LISTED = (1 << 16) + 48
"""Hits collected for a picture before they are drawn; the 48 keep sixteen lists out of one set of cache lines."""
_LARGE_LISTED = 4096
_SNAPPED_AT_ONCE = 4096
"""Vertices of sixteen meshes that are dealt to the lanes while they are still in a near cache: 800 KB."""

_kept = threading.local()
"""Every thread keeps the scratch of its last mesh size: new memory, page by page from the system, costs as much as a
fifth of the drawing."""


def draw_meshes(
    vertices: Float[np.ndarray, "n v 3"],
    triangles: Int32[np.ndarray, "t 3"],
    *,
    cull: bool,
    triangle_id: Int32[np.ndarray, "n h w"],
    barycentric: Float32[np.ndarray, "n h w 3"],
    depth: Float32[np.ndarray, "n h w"],
) -> bool:
    """Fill the buffers of n pictures, whatever was in them; all arrays are contiguous.

    Returns whether all numbers are finite; at the first that is not it stops. Beside the buffers it needs 320 bytes a
    vertex and 9 MB, however many meshes there are; the thread keeps them until it draws a mesh of another size.
    """
    if not len(vertices):
        return True
    if max(depth.shape[1:]) > LARGEST_SIDE:
        raise ValueError(
            f"pictures of {depth.shape[1]} rows and {depth.shape[2]} columns cannot be drawn in lanes, only up to "
            f"{LARGEST_SIDE}: draw them one by one"
        )
    scratch = _scratch_for(vertices.shape[1])
    for first in range(0, len(vertices), LANES):
        group = slice(first, first + LANES)
        if not scratch.take_in(vertices[group]):
            return False
        scratch.draw(triangles, cull, triangle_id[group], barycentric[group], depth[group])
    return True


def _scratch_for(n_vertices: int) -> "_Scratch":
    scratch: _Scratch | None = getattr(_kept, "scratch", None)
    if scratch is None or scratch.n_vertices != n_vertices:
        _kept.scratch = scratch = None  # first let go of the old one
        _kept.scratch = scratch = _Scratch(n_vertices)
    return scratch


class _Scratch:
    """What sixteen meshes need while they are drawn; used again for the next sixteen."""

    def __init__(self, n_vertices: int) -> None:
        self.n_vertices = n_vertices
        self.corners = np.empty((LANES, n_vertices, 3), dtype=np.int32)
        self.corners_as_float = self.corners.view(np.float32)  # the third column is z
        self.lanes = _aligned((n_vertices * 2 * LANES,), np.int32)
        self.queue = _aligned((kernel.QUEUE_LENGTH,), np.uint64)
        self.queue_triangle = _aligned((kernel.QUEUE_LENGTH,), np.uint64)
        self.boxes = _aligned((2 * LANES,), np.int32)
        self.places = _aligned((kernel.QUEUE_LENGTH * LANES,), np.int32)
        self.weighed = _aligned((kernel.WEIGHED_LENGTH,), np.int32)
        self.hits, self.n_hits = np.empty((LANES, _HITS_LISTED), dtype=np.uint64), np.zeros(LANES, dtype=np.uint64)
        self.large, self.n_large = np.empty((LANES, _LARGE_LISTED), dtype=np.int32), np.zeros(LANES, dtype=np.uint64)

    def take_in(self, vertices: np.ndarray) -> bool:
        """Snap the meshes; returns whether all numbers are finite."""
        if len(vertices) < LANES:
            self.lanes[:] = 0  # triangles without area, which cover nothing
        for first in range(0, self.n_vertices, _SNAPPED_AT_ONCE):
            block = slice(first, first + _SNAPPED_AT_ONCE)
            for mesh, corners, as_float in zip(vertices, self.corners, self.corners_as_float, strict=False):
                if snap_vertices(mesh[block], corners[block], as_float[block, 2]):
                    return False
            kernel.deal_to_lanes(self.corners[: len(vertices)], first, _SNAPPED_AT_ONCE, self.lanes)
        return True

    def draw(
        self, triangles: np.ndarray, cull: bool, triangle_id: np.ndarray, barycentric: np.ndarray, depth: np.ndarray
    ) -> None:
        """Draw the meshes that were taken in: collect hits until a list is full, draw each picture's, and go on."""
        is_clear, t = False, 0
        while not is_clear or t < len(triangles):  # at least once: an empty mesh leaves the background
            t = self.collect(t, triangles, cull, *depth.shape[1:])
            for i in range(len(depth)):
                if not is_clear:  # only now, so that what was just cleared is still near when it is drawn
                    clear_buffers(triangle_id[i], barycentric[i], depth[i])
                self.draw_collected(i, triangles, cull, triangle_id[i], barycentric[i], depth[i])
            is_clear = True

    def collect(self, first: int, triangles: np.ndarray, cull: bool, height: int, width: int) -> int:
        """Collect hits of all pictures from triangle `first` on; returns the first triangle that found no room."""
        return int(
            kernel.collect_hits(
                first, self.lanes, triangles, cull, height, width, self.queue, self.queue_triangle, self.boxes,
                self.places, self.hits, self.n_hits, self.large, self.n_large,
            )
        )  # fmt: skip

    def draw_collected(
        self, i: int, triangles: np.ndarray, cull: bool, triangle_id: np.ndarray, barycentric: np.ndarray,
        depth: np.ndarray,
    ) -> None:  # fmt: skip
        """Draw what was collected for picture i into its buffers."""
        kernel.draw_hits(
            self.hits[i], int(self.n_hits[i]), self.corners[i].reshape(-1), triangles.reshape(-1), depth.shape[1],
            self.weighed, triangle_id.reshape(-1), barycentric.reshape(-1), depth.reshape(-1),
        )  # fmt: skip
        if n_large := int(self.n_large[i]):
            draw_triangles(
                self.large[i, :n_large], self.corners[i], self.corners_as_float[i, :, 2], triangles, cull,
                triangle_id, barycentric, depth,
            )  # fmt: skip


def _aligned(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """An array that starts on a cache line: NumPy's start 16 bytes after one, and each wide load would take two."""
    n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.empty(n_bytes + 64, dtype=np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + n_bytes].view(dtype).reshape(shape)
