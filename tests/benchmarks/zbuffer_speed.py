"""The z-buffer sixteen pictures at a time, one at a time, and as it is usually written: side by side on one core.

    python tests/benchmarks/zbuffer_speed.py [--pictures 64] [--rounds 9]

Faces of the built-in model, which has BFM's size, yaw between −80° and 80°; 256² crops as of the main job, and 450²
photographs as of 300W-LP. Vertices stand once in the file's order and once row by row, as BFM's do. Each contender makes
the same product for all pictures, triangle ids, three weights and depth in arrays of their own, from vertices in
single precision: allocation, clearing, checks and snapping are in its time. They take turns; time is the thread's own
processor time, and what counts is the ratio within a round.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
from numba import njit

from geometry import load_model
from geometry.camera import ScaledOrthographicCamera
from geometry.morphable_model import Coefficients
from geometry.rotation import rotation_from_euler
from render import zbuffer_lanes
from render.crop import CropConfig, crop_from_landmarks
from render.zbuffer import rasterize_in_lanes, rasterize_one_by_one
from render.zbuffer_kernel import clear_buffers

Product = tuple[np.ndarray, np.ndarray, np.ndarray]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--pictures", type=int, default=64)
    arguments.add_argument("--rounds", type=int, default=9)
    given = arguments.parse_args()
    model = load_model("built-in")
    crops, photographs = faces(model, given.pictures)
    rows = by_rows(model.mean_shape, model.triangles)
    print(f"copying 64 MB: {copy_speed() / 1e9:.1f} GB/s")
    for order, (vertex_order, triangles) in {
        "the file's order": (np.arange(model.n_vertices), np.ascontiguousarray(model.triangles)),
        "row by row": rows,
    }.items():
        for size, vertices in ((256, crops), (450, photographs)):
            print(f"{size}², {order}")
            compare(np.ascontiguousarray(vertices[:, vertex_order]), triangles, size, given.rounds)


def compare(vertices: np.ndarray, triangles: np.ndarray, size: int, rounds: int) -> None:
    contenders: dict[str, Callable[[], object]] = {
        "as usual": lambda: as_usual(vertices, triangles, size),
        "one by one": lambda: rasterize_one_by_one(vertices, triangles, size_hw=(size, size)),
        "in lanes": lambda: rasterize_in_lanes(vertices, triangles, size_hw=(size, size)),
    }
    for run in contenders.values():  # compiles, warms
        run()
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            seconds[name].append(timed(run))
    for name, taken in seconds.items():
        ratios = [other / own for other, own in zip(taken, seconds["in lanes"], strict=True)]
        print(
            f"  {name:12}{1000 * statistics.median(taken) / len(vertices):7.2f} ms a picture, best "
            f"{1000 * min(taken) / len(vertices):.2f}; {statistics.median(ratios):.2f} × the lanes' "
            f"({min(ratios):.2f} to {max(ratios):.2f})"
        )
    n_bytes = 2 * 20 * size**2 + vertices[0].nbytes + triangles.nbytes
    print(f"  bytes: {n_bytes / 1e6:.1f} MB a picture (buffers cleared and written, vertices, triangles)")
    stages(vertices[:16], triangles, size, rounds)


def stages(vertices: np.ndarray, triangles: np.ndarray, size: int, rounds: int) -> None:
    """Where the lanes' time goes: sixteen pictures, one stage after the other as in earnest."""
    scratch = zbuffer_lanes._Scratch(vertices.shape[1])
    shape = (len(vertices), size, size)
    ids, weights, depth = np.empty(shape, np.int32), np.empty((*shape, 3), np.float32), np.empty(shape, np.float32)

    def clear(i: int) -> None:
        clear_buffers(ids[i], weights[i], depth[i])

    def draw(i: int) -> None:
        scratch.draw_collected(i, triangles, True, ids[i], weights[i], depth[i])

    taken: dict[str, list[float]] = {"snap": [], "collect": [], "clear": [], "draw": []}
    for _ in range(rounds + 1):
        taken["snap"].append(timed(lambda: scratch.take_in(vertices)))
        taken["collect"].append(timed(lambda: scratch.collect(0, triangles, True, size, size)))
        cleared = drawn = 0.0
        for i in range(len(vertices)):
            cleared += timed(lambda i=i: clear(i))
            drawn += timed(lambda i=i: draw(i))
        taken["clear"].append(cleared)
        taken["draw"].append(drawn)
    parts = {name: 1000 * statistics.median(seconds[1:]) / len(vertices) for name, seconds in taken.items()}
    hits = int(scratch.n_hits.sum()) / len(vertices)
    print(
        "  stages: " + ", ".join(f"{name} {ms:.2f} ms" for name, ms in parts.items()) + f"; {hits:.0f} hits a picture"
    )


def as_usual(vertices: np.ndarray, triangles: np.ndarray, size: int) -> Product:
    """Every picture by the straightforward loop."""
    shape = (len(vertices), size, size)
    ids, weights, depth = np.empty(shape, np.int32), np.empty((*shape, 3), np.float32), np.empty(shape, np.float32)
    for i, mesh in enumerate(vertices):
        ids[i], weights[i], depth[i] = -1, 0, -np.inf
        draw_as_usual(mesh, triangles, ids[i], weights[i], depth[i])
    return ids, weights, depth


@njit
def draw_as_usual(vertices, triangles, triangle_id, barycentric, depth):
    """A z-buffer as the compiled ones of the field are: box, weights by dot products in floats, no culling."""
    height, width = depth.shape
    for t in range(triangles.shape[0]):
        a, b, c = vertices[triangles[t, 0]], vertices[triangles[t, 1]], vertices[triangles[t, 2]]
        first_x, last_x = max(int(np.ceil(min(a[0], b[0], c[0]))), 0), min(int(max(a[0], b[0], c[0])), width - 1)
        first_y, last_y = max(int(np.ceil(min(a[1], b[1], c[1]))), 0), min(int(max(a[1], b[1], c[1])), height - 1)
        for y in range(first_y, last_y + 1):
            for x in range(first_x, last_x + 1):
                weight_a, weight_b, weight_c = weights_at(np.float32(x), np.float32(y), a, b, c)
                if weight_a >= 0 and weight_b >= 0 and weight_c >= 0:
                    z = weight_a * a[2] + weight_b * b[2] + weight_c * c[2]
                    if z > depth[y, x]:
                        depth[y, x] = z
                        triangle_id[y, x] = t
                        barycentric[y, x, 0] = weight_a
                        barycentric[y, x, 1] = weight_b
                        barycentric[y, x, 2] = weight_c


@njit
def weights_at(x, y, a, b, c):
    ac_x, ac_y, ab_x, ab_y, ap_x, ap_y = c[0] - a[0], c[1] - a[1], b[0] - a[0], b[1] - a[1], x - a[0], y - a[1]
    cc, cb, cp = ac_x * ac_x + ac_y * ac_y, ac_x * ab_x + ac_y * ab_y, ac_x * ap_x + ac_y * ap_y
    bb, bp = ab_x * ab_x + ab_y * ab_y, ab_x * ap_x + ab_y * ap_y
    scale = cc * bb - cb * cb
    reciprocal = np.float32(0) if scale == 0 else np.float32(1) / scale
    weight_c, weight_b = (bb * cp - cb * bp) * reciprocal, (cc * bp - cb * cp) * reciprocal
    return np.float32(1) - weight_c - weight_b, weight_b, weight_c


def faces(model, n: int) -> tuple[np.ndarray, np.ndarray]:
    """n faces in 256² crops and in 450² photographs: single precision, pixels (n V 3)."""
    rng = np.random.default_rng(2)
    crops, photographs = [], []
    for _ in range(n):
        vertices = model.vertices(Coefficients(model.draw_identity(rng), model.draw_expression(rng)))
        yaw = np.deg2rad(rng.uniform(-80, 80))
        rotation = rotation_from_euler(rng.normal(0, 0.17), yaw, rng.normal(0, 0.14))
        middle = np.array([*(225 + rng.normal(0, 6, 2)), 0.0])
        photograph = ScaledOrthographicCamera(rng.uniform(0.9, 1.15), rotation, middle).project(vertices)
        crop = crop_from_landmarks(photograph[model.landmark_vertices], CropConfig()).matrix
        flat = np.concatenate(
            [photograph[:, :2] @ crop[:2, :2].T + crop[:2, 2], photograph[:, 2:] * crop[0, 0]], axis=1
        )
        crops.append(flat)
        photographs.append(photograph)
    return np.stack(crops).astype(np.float32), np.stack(photographs).astype(np.float32)


def by_rows(mean_shape: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The vertices' order row by row over the face, rows of 1.3 mm, and the triangles in it, likewise sorted."""
    order = np.lexsort((mean_shape[:, 0], np.floor(-mean_shape[:, 1] / 1.3)))
    place = np.empty(len(order), dtype=np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    renamed = place[triangles]
    return order, np.ascontiguousarray(renamed[np.argsort(renamed.min(axis=1), kind="stable")])


def timed(run: Callable[[], object]) -> float:
    start = time.thread_time()
    run()
    return time.thread_time() - start


def copy_speed() -> float:
    """Bytes copied in a second."""
    source = np.random.default_rng(0).random(1 << 23)
    target = np.empty_like(source)
    return source.nbytes / min(timed(lambda: np.copyto(target, source)) for _ in range(9))


if __name__ == "__main__":
    main()
