"""Triangles over a hole's rim, without new vertices: a Tutte map needs them to cover the inside of mouth and eyes."""

import heapq

import numpy as np
from jaxtyping import Float, Int, Int32


def fill_loop(
    vertices: Float[np.ndarray, "v 3"], triangles: Int[np.ndarray, "t 3"], loop: Int[np.ndarray, " l"]
) -> Int32[np.ndarray, "f 3"]:
    """The l − 2 triangles that close `loop`, a boundary loop in its triangles' direction as `boundary_loops` gives it.

    Cuts the corner with the shortest chord, again and again, so that a slit is closed like a zip and a round hole like
    a spider's web. A chord is never one of the mesh's own edges, which would get a third and fourth triangle. On a
    surface without handles some corner can always be cut: of the chords i → i + 2 and i + 1 → i + 3 of a rim one at
    most is an edge of the mesh already, or the two edges would cross.

    Raises ValueError when no corner can be cut: the surface has a handle.
    """
    on_loop = np.zeros(len(vertices), dtype=bool)
    on_loop[loop] = True
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    existing = {(min(a, b), max(a, b)) for a, b in edges[on_loop[edges].all(axis=1)].tolist()}

    rim = np.asarray(vertices, dtype=np.float64)[loop]
    names, n = loop.tolist(), len(loop)
    before, after = [(i - 1) % n for i in range(n)], [(i + 1) % n for i in range(n)]

    def corner(i: int) -> tuple[float, int, int, int]:
        return float(np.linalg.norm(rim[after[i]] - rim[before[i]])), i, before[i], after[i]

    corners = [corner(i) for i in range(n)]
    heapq.heapify(corners)
    filling: list[tuple[int, int, int]] = []
    while len(filling) < n - 3:
        if not corners:
            raise ValueError(
                f"the hole at vertex {loop[0]} ({n} vertices) cannot be closed: every chord is an edge of the mesh "
                "already, as on a surface with a handle; give the closing triangles, or cut the handle open"
            )
        _, i, a, b = heapq.heappop(corners)
        if before[i] != a or after[i] != b or (min(names[a], names[b]), max(names[a], names[b])) in existing:
            continue
        filling.append((names[b], names[i], names[a]))  # against the rim's direction: the mesh lies on the other side
        after[a], before[b] = b, a
        before[i] = after[i] = -1
        for neighbour in (a, b):
            heapq.heappush(corners, corner(neighbour))
    last = next(i for i in range(n) if after[i] >= 0)
    filling.append((names[after[last]], names[last], names[before[last]]))
    return np.array(filling, dtype=np.int32)
