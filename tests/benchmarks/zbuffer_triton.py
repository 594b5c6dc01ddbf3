"""What can be known of the Triton z-buffer without a GPU: its kernels interpreted beside plain torch, and compiled.

    python tests/benchmarks/zbuffer_triton.py interpret
    python tests/benchmarks/zbuffer_triton.py compile

`interpret` runs them in Triton's interpreter (minutes) on crumpled sheets, a triangle larger than the picture, a batch
and both ways of culling, and counts what differs from plain torch: nothing may. `compile` translates them for compute
capabilities 8.0 and 9.0 down to machine code, and looks for what the depths' last bit depends on: no fused operation.
Needs the package `triton`; on a machine with a GPU run `pytest -m gpu tests/train/test_zbuffer.py` instead.
"""

import argparse
import importlib.util
import os
from pathlib import Path

import numpy as np
import torch

KINDS = {
    "corners": "*i32", "z": "*fp32", "triangles": "*i32", "keys": "*i64", "large": "*i64", "n_large": "*i32",
    "triangle_id": "*i32", "barycentric": "*fp32", "depth": "*fp32",
}  # fmt: skip


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("what", choices=("interpret", "compile"))
    if arguments.parse_args().what == "interpret":
        os.environ["TRITON_INTERPRET"] = "1"  # read when the kernels are imported
        interpret()
    else:
        compile_for_gpus()


def interpret() -> None:
    from train import zbuffer

    spec = importlib.util.spec_from_file_location(
        "zbuffer_laws", Path(__file__).parents[1] / "render" / "test_zbuffer.py"
    )
    laws = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(laws)
    rng = np.random.default_rng(0)
    n_pixels = n_different = 0
    for cells, side in ((1, 90), (5, 60), (20, 64)):
        vertices, triangles = laws.bumpy_sheet(rng, cells, side)
        meshes = torch.from_numpy((vertices + rng.normal(size=(2, 1, 3)) * (4, 4, 1)).astype(np.float32))
        for cull in (True, False):
            drawn = []
            for has_triton in (True, False):
                zbuffer._has_triton = lambda device, answer=has_triton: answer
                drawn.append(
                    zbuffer.rasterize(meshes, torch.from_numpy(triangles), size_hw=(side, side - 3), cull=cull)
                )
            one, other = drawn
            n_pixels += int(other.covered.sum())
            n_different += int((one.triangle_id != other.triangle_id).sum() + (one.depth != other.depth).sum())
            n_different += int((one.barycentric != other.barycentric).any(dim=-1).sum())
    print(f"{n_different} of {n_pixels} covered pixels differ")


def compile_for_gpus() -> None:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from train import zbuffer_triton

    for capability in (80, 90):
        for name, constants in (
            ("_draw_small", {"cull": True, "small": zbuffer_triton._SMALL_PX, "block": 128}),
            ("_draw_large", {"block": 256}),
            ("_resolve", {"block": 256}),
        ):
            kernel = getattr(zbuffer_triton, name)
            signature = {key: "constexpr" if key in constants else KINDS.get(key, "i32") for key in kernel.arg_names}
            built = triton.compile(
                ASTSource(kernel, signature=signature, constexprs=constants),
                target=GPUTarget("cuda", capability, 32),
                options={"enable_fp_fusion": False},
            )
            text = built.asm["ptx"]
            maxima = [line for line in text.splitlines() if "max.s64" in line and ("atom" in line or "red." in line)]
            print(
                f"{name} for {capability / 10}: {len(built.asm['cubin'])} bytes of machine code, "
                f"{text.count('fma.rn.f32')} fused operations, {len(maxima)} atomic maxima"
            )


if __name__ == "__main__":
    main()
