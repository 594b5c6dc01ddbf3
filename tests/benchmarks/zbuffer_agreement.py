"""The law of tests/render/test_zbuffer.py that all z-buffers agree, on many more random meshes than a test may take.

    python tests/benchmarks/zbuffer_agreement.py [--meshes 5000]

Each mesh is drawn with and without culling by the reference, the one-image kernel, the lanes kernel (in company, in a
lane that depends on the mesh) and the twin in torch. Prints how many pixels were compared and the largest differences.
"""

import argparse
import importlib.util
from pathlib import Path

import numpy as np
import torch

from render.zbuffer import RasterBuffers, rasterize_one_by_one, rasterize_reference
from train import zbuffer


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--meshes", type=int, default=5000)
    n_meshes = arguments.parse_args().meshes
    spec = importlib.util.spec_from_file_location(
        "zbuffer_laws", Path(__file__).parents[1] / "render" / "test_zbuffer.py"
    )
    laws = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(laws)
    others = {"one by one": rasterize_one_by_one, "in lanes": laws.draw_in_company, "in torch": in_torch}
    ids, weights, depths = dict.fromkeys(others, 0), dict.fromkeys(others, 0.0), dict.fromkeys(others, 0)
    n_pixels = n_covered = 0
    for seed in range(n_meshes):
        vertices, triangles, size_hw = laws.random_mesh(seed)
        for cull in (True, False):
            expected = rasterize_reference(vertices, triangles, size_hw=size_hw, cull=cull)
            n_pixels += expected.depth.size
            n_covered += int(expected.covered.sum())
            for name, draw in others.items():
                drawn = draw(vertices, triangles, size_hw=size_hw, cull=cull)
                ids[name] += int((drawn.triangle_id != expected.triangle_id).sum())
                depths[name] += int((drawn.depth != expected.depth).sum())
                weights[name] = max(weights[name], float(np.abs(drawn.barycentric - expected.barycentric).max()))
    print(f"{n_meshes} meshes, {n_pixels} pixels, {n_covered} of them covered; beside the reference:")
    for name in others:
        print(f"  {name:10} {ids[name]} ids and {depths[name]} depths differ, weights by {weights[name]:.1e} at most")


def in_torch(vertices: np.ndarray, triangles: np.ndarray, *, size_hw: tuple[int, int], cull: bool) -> RasterBuffers:
    drawn = zbuffer.rasterize(torch.from_numpy(vertices), torch.from_numpy(triangles), size_hw=size_hw, cull=cull)
    return RasterBuffers(drawn.triangle_id.numpy(), drawn.barycentric.numpy(), drawn.depth.numpy())


if __name__ == "__main__":
    main()
