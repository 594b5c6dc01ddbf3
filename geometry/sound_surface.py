"""Whether triangles make a surface that can be laid flat, in sentences; and closing its holes."""

import numpy as np
from jaxtyping import Int, Int32

from geometry.atlas_border import loop_length
from geometry.loop_filling import fill_loop
from geometry.mesh import Mesh, boundary_loops, component_count, undirected_edges


def check_has_a_shape(mesh: Mesh) -> None:
    """Raise ValueError for a mesh without triangles, and for vertices that are not finite."""
    if not len(mesh.triangles):
        raise ValueError("a mesh without triangles cannot be laid flat")
    bad = np.flatnonzero(~np.isfinite(mesh.vertices).all(axis=1))
    if len(bad):
        raise ValueError(
            f"vertex {bad[0]} ({len(bad)} in all) has coordinates that are not finite: {mesh.vertices[bad[0]]}"
        )


def sound_loops(mesh: Mesh, *, may_be_closed: bool = False) -> list[Int32[np.ndarray, "_"]]:
    """The mesh's boundary loops, longest in millimetres first.

    Raises ValueError, with what to do, when the mesh is no single manifold surface: no triangles or none with an area,
    vertices that are not finite or that no triangle uses, several components, edges with more than two triangles,
    triangles wound against their neighbours, and no boundary where `may_be_closed` does not allow it.
    """
    check_has_a_shape(mesh)
    if _is_flat(mesh):
        raise ValueError("no triangle of the surface has an area: its vertices coincide or lie on a line")
    alone = np.setdiff1d(np.arange(len(mesh.vertices)), mesh.triangles)
    if len(alone):
        raise ValueError(
            f"vertex {alone[0]} ({len(alone)} in all) belongs to no triangle, so nothing says where it lies in the "
            "atlas; drop such vertices first (geometry.mesh.submesh)"
        )
    loops = manifold_loops(mesh.triangles)
    n_components = component_count(mesh.triangles, len(mesh.vertices))
    if n_components > 1:
        raise ValueError(
            f"the mesh has {n_components} separate components; lay each flat on its own, or keep the largest"
        )
    if not loops and not may_be_closed:
        raise ValueError(
            "the surface is closed: it has no boundary to put on the border; cut it open first (a head at its neck)"
        )
    return sorted(loops, key=lambda loop: -loop_length(mesh.vertices, loop))


def _is_flat(mesh: Mesh) -> bool:
    """Whether every triangle's area is rounding."""
    corners = np.asarray(mesh.vertices, dtype=np.float64)[mesh.triangles]
    doubled = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    return bool(doubled.max() <= 1e-12 * np.ptp(mesh.vertices, axis=0).max() ** 2)


def manifold_loops(triangles: Int[np.ndarray, "t 3"]) -> list[Int32[np.ndarray, "_"]]:
    """`boundary_loops`, with a sentence of its own for each way in which triangles make no surface."""
    pinched = np.flatnonzero((triangles == np.roll(triangles, 1, axis=1)).any(axis=1))
    if len(pinched):
        raise ValueError(f"triangle {pinched[0]} has one vertex twice, {triangles[pinched[0]].tolist()}: remove it")
    edges, uses = undirected_edges(triangles)
    if uses.max() > 2:
        worst = int(uses.argmax())
        raise ValueError(
            f"edge {edges[worst, 0]}–{edges[worst, 1]} has {uses[worst]} triangles where a surface has one or two "
            f"({int((uses > 2).sum())} such edges): remove duplicate triangles and inner walls"
        )
    return boundary_loops(triangles)


def check_flattenable(triangles: Int[np.ndarray, "t 3"], *, n_vertices: int, n_loops: int) -> None:
    """Raise ValueError unless the surface is a disk with n_loops − 1 holes (Euler: V − E + T = 2 − loops)."""
    euler = n_vertices - len(undirected_edges(triangles)[0]) + len(triangles)
    if euler != 2 - n_loops:
        raise ValueError(
            f"the surface has handles, or parts that touch in one vertex alone (Euler characteristic {euler}, "
            f"{2 - n_loops} expected): it cannot be laid flat in one piece"
        )


def close_holes(
    mesh: Mesh,
    holes: list[Int32[np.ndarray, "_"]],
    closing_triangles: Int[np.ndarray, "c 3"] | None,
    notes: list[str],
) -> Int32[np.ndarray, "t 3"]:
    """The mesh's triangles, then those that close its `holes`: the given ones where they fit, ours elsewhere.

    Given triangles that make no manifold surface with the mesh are left aside, and a sentence added to `notes`.
    """
    triangles = mesh.triangles
    if closing_triangles is not None and len(closing_triangles):
        joined = np.concatenate([triangles, closing_triangles.astype(np.int32)])
        try:
            left = manifold_loops(joined)
        except ValueError as error:
            notes.append(f"the given {len(closing_triangles)} closing triangles were left aside ({error})")
        else:
            rims = {frozenset(hole.tolist()) for hole in holes}
            still_open = [loop for loop in left if frozenset(loop.tolist()) in rims]
            if len(left) == len(still_open) + 1:
                triangles, holes = joined, still_open
            else:
                notes.append(
                    f"the given {len(closing_triangles)} closing triangles were left aside (they close no whole hole)"
                )
    filling = [fill_loop(mesh.vertices, triangles, hole) for hole in holes]
    return np.concatenate([triangles, *filling]) if filling else triangles
