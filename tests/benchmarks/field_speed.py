"""A whole correspondence field on one core: vertices, z-buffer, u, v, depth, parts and labels, stage by stage.

    python tests/benchmarks/field_speed.py [--rounds 9]

Sixteen people of the built-in model (53 thousand vertices, 228 coefficients) at a time, yaw between −80° and 80°, 256²
pictures. "One by one" is `draw_field` of each after the same vertices; "together" is `draw_fields`, whose fields are
the same to the bit. One BLAS thread; time is the thread's own processor time, medians over rounds in turns.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read when NumPy is imported
import numpy as np

from geometry import load_model
from geometry.camera import ScaledOrthographicCamera
from geometry.morphable_model import Coefficients
from geometry.rotation import rotation_from_euler
from geometry.uv import UVAtlas
from render.correspondence import FieldTemplate, correspondence_field, draw_field, draw_fields
from render.face_buffers import FaceBuffers
from render.parts import densereg_parts, part_map
from render.zbuffer import rasterize

N_PEOPLE, SIZE_HW = 16, (256, 256)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=9)
    rounds = arguments.parse_args().rounds
    model = load_model("built-in")
    template = template_of(model)
    coefficients, cameras = people(model, N_PEOPLE)

    def heads() -> np.ndarray:
        shapes = model.vertices(coefficients)
        return np.stack([camera.project(shape) for camera, shape in zip(cameras, shapes, strict=True)])

    def together() -> object:
        return draw_fields(template, heads(), size_hw=SIZE_HW)

    def one_by_one() -> object:
        return [draw_field(template, [head], size_hw=SIZE_HW) for head in heads()]

    shapes, placed = model.vertices(coefficients), heads()
    drawn = rasterize(placed, template.triangles, size_hw=SIZE_HW)
    stages: dict[str, Callable[[], object]] = {
        "vertices": lambda: model.vertices(coefficients),
        "cameras": lambda: np.stack([camera.project(shape) for camera, shape in zip(cameras, shapes, strict=True)]),
        "z-buffer": lambda: rasterize(placed, template.triangles, size_hw=SIZE_HW),
        "u, v, depth, parts, labels": lambda: [
            correspondence_field(FaceBuffers.of_one(drawn[i]), template) for i in range(N_PEOPLE)
        ],
        "together": together,
        "one by one": one_by_one,
    }
    taken: dict[str, list[float]] = {name: [] for name in stages}
    for run in stages.values():  # compiles, warms
        run()
    for _ in range(rounds):
        for name, run in stages.items():
            taken[name].append(timed(run) / N_PEOPLE)
    print(f"{drawn.covered.mean():.0%} of the pixels show a face")
    for name, seconds in taken.items():
        middle = statistics.median(seconds)
        rate = f", {1 / middle:.0f} a second" if name in ("together", "one by one") else ""
        print(f"  {name:28}{1000 * middle:6.2f} ms a picture, best {1000 * min(seconds):.2f}{rate}")


def template_of(model) -> FieldTemplate:
    """The model's own atlas with DenseReg's parts."""
    atlas = UVAtlas(model.uv.astype(np.float64), np.concatenate([model.triangles, model.closing_triangles]))
    return FieldTemplate.of(model, atlas, part_map(densereg_parts(model), atlas, 512))


def people(model, n: int) -> tuple[Coefficients, list[ScaledOrthographicCamera]]:
    """n faces that fill pictures of 256²."""
    rng = np.random.default_rng(3)
    coefficients = Coefficients(
        np.stack([model.draw_identity(rng) for _ in range(n)]),
        np.stack([model.draw_expression(rng) for _ in range(n)]),
    )
    cameras = [
        ScaledOrthographicCamera(
            rng.uniform(1.1, 1.4),
            rotation_from_euler(rng.normal(0, 0.17), np.deg2rad(rng.uniform(-80, 80)), rng.normal(0, 0.14)),
            np.array([*(128 + rng.normal(0, 6, 2)), 0.0]),
        )
        for _ in range(n)
    ]
    return coefficients, cameras


def timed(run: Callable[[], object]) -> float:
    start = time.thread_time()
    run()
    return time.thread_time() - start


if __name__ == "__main__":
    main()
