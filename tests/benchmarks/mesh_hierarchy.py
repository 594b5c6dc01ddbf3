"""Mesh hierarchies of the built-in model and of a mesh with the BFM's counts: seconds, and errors beside farthest points'.

``python tests/benchmarks/mesh_hierarchy.py`` prints the tables of docs/hierarchy.md, the last of them of 64 and 16 vertices of
drawn heads and of the mean head with the last digits of its positions changed. It fails when a level is not nearer to the whole
mesh than farthest-point sampling, when a matrix breaks its law, or when a hierarchy takes a minute of processor time.
"""

import importlib.util
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from geometry.built_in import BuiltInModel, load_built_in
from geometry.hierarchy import MeshHierarchy, build_hierarchy, cached_hierarchy
from geometry.hierarchy_report import farthest_point_level, report_hierarchy
from geometry.mesh import Mesh
from geometry.morphable_model import Coefficients

COARSEST = (16, 64)
N_DRAWN, N_CHANGED = 12, 4

spec = importlib.util.spec_from_file_location("face_meshes", Path(__file__).parents[1] / "geometry" / "face_meshes.py")
face_meshes = importlib.util.module_from_spec(spec)
spec.loader.exec_module(face_meshes)


def main() -> None:
    build_hierarchy(face_meshes.face_like_annulus(500, 50, 16), levels=(16,))  # compiles
    model = load_built_in()
    meshes = {"built-in": Mesh(model.mean_shape, model.triangles), "BFM's counts": face_meshes.face_like_annulus()}
    failures = []
    for name, mesh in meshes.items():
        started = time.process_time()
        hierarchy = build_hierarchy(mesh)
        seconds = time.process_time() - started
        with tempfile.TemporaryDirectory() as folder:
            cached_hierarchy(mesh, cache_folder=folder)
            started = time.perf_counter()
            cached_hierarchy(mesh, cache_folder=folder)
            read = time.perf_counter() - started
        print(f"\n{name}: {len(mesh.vertices):,} vertices, {len(mesh.triangles):,} triangles: {seconds:.1f} s of "
              f"processor time, read from the cache in {1000 * read:.0f} ms")  # fmt: skip
        failures += laws(name, hierarchy) + ([f"{name}: {seconds:.0f} s"] if seconds >= 60 else [])
        print(
            "| vertices | triangles | mean | 95 % | max | smallest angle | farthest points: mean | 95 % | max | ratio of means |"
        )
        print("|---|---|---|---|---|---|---|---|---|---|")
        for ours in report_hierarchy(hierarchy):
            theirs = farthest_point_level(mesh, ours.n_vertices)
            ratio = ours.mean_distance / theirs.mean_distance
            print(
                f"| {ours.n_vertices:,} | {ours.n_triangles:,} | {ours.mean_distance:.3g} | {ours.p95_distance:.3g} | "
                f"{ours.max_distance:.3g} | {ours.smallest_angle:.0f}° | {theirs.mean_distance:.3g} | "
                f"{theirs.p95_distance:.3g} | {theirs.max_distance:.3g} | {ratio:.2f} |",
                flush=True,
            )
            if ratio >= 1 or ours.n_turned:
                failures.append(f"{name}, {ours.n_vertices}: {ratio:.2f} of farthest points, {ours.n_turned} turned")
    sys.exit("\n".join(failures + coarsest_levels(model)) or 0)


def coarsest_levels(model: BuiltInModel) -> list[str]:
    """The table of heads whose coarsest levels alone are looked at, and what is wrong with them."""
    failures = []
    print("\n| head | " + " | ".join(f"{n}: mean | farthest points | ratio" for n in COARSEST[::-1]) + " |")
    print("|---" * (1 + 3 * len(COARSEST)) + "|")
    for name, mesh in heads(model):
        hierarchy, row = build_hierarchy(mesh, levels=COARSEST), [name]
        for ours in report_hierarchy(hierarchy):
            theirs = farthest_point_level(mesh, ours.n_vertices).mean_distance
            ratio = ours.mean_distance / theirs
            row += [f"{ours.mean_distance:.3g}", f"{theirs:.3g}", f"{ratio:.2f}"]
            if ratio >= 1 or ours.n_turned:
                failures.append(f"{name}, {ours.n_vertices}: {ratio:.2f} of farthest points, {ours.n_turned} turned")
        failures += laws(name, hierarchy)
        print(f"| {' | '.join(row)} |", flush=True)
    return failures


def heads(model: BuiltInModel) -> Iterator[tuple[str, Mesh]]:
    for seed in range(N_DRAWN):
        identity = model.draw_identity(np.random.default_rng(seed))
        yield f"drawn, seed {seed}", model.mesh(Coefficients(identity, model.neutral().expression))
    for seed in range(N_CHANGED):
        up = np.random.default_rng(seed).random(model.mean_shape.shape) < 0.5
        changed = np.nextafter(model.mean_shape, np.where(up, np.float32(np.inf), np.float32(-np.inf)))
        yield f"mean, last digits {seed}", Mesh(changed, model.triangles)


def laws(name: str, hierarchy: MeshHierarchy) -> list[str]:
    broken = []
    for i, (down, up) in enumerate(zip(hierarchy.down, hierarchy.up, strict=True)):
        one_hot = (np.diff(down.indptr) == 1).all() and (down.data == 1).all()
        laws = {
            "down rows are one-hot": one_hot,
            "down rows are distinct": len(np.unique(down.indices)) == down.shape[0],
            "up rows sum to one": abs(up.sum(axis=1) - 1).max() < 1e-6,
            "there and back is the identity": abs(down @ up - sp.eye_array(down.shape[0])).max() == 0,
        }
        broken += [f"{name}, level {i}: not so: {law}" for law, holds in laws.items() if not holds]
    return broken


if __name__ == "__main__":
    main()
