"""Rows of the device (`--gpu`): what torch does there, beside our own compiled code on one core of the CPU."""

import importlib.util
from collections.abc import Callable, Iterator

import numpy as np

from geometry.morphable_model import SurfacePoints
from render.augmentation import augment_picture
from render.augmentation_draws import AugmentationDraw
from render.zbuffer import rasterize
from tests.benchmarks import augmentation_speed
from tests.benchmarks.suite.material import Material
from tests.benchmarks.suite.rows import Contender, Row


def lacking() -> str:
    """Why these rows cannot be measured here, in a sentence; nothing where they can."""
    if importlib.util.find_spec("torch") is None:
        return "the rows of the device need torch: pip install '.[train]'"
    import torch

    if torch.cuda.is_available():
        return ""
    why = "is built for the CPU alone" if torch.version.cuda is None else "finds no CUDA device on this machine"
    return (
        f"the rows of the device need one, and torch {torch.__version__} {why}; without --gpu all others are measured"
    )


def rows(material: Material) -> Iterator[Row]:
    """On a CUDA device where there is one, else with torch on the CPU, which only shows (to tests) that they run."""
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for make in (z_buffer, position_maps, augment):
        yield make(material, device)


def done(work: Callable[[], object], device) -> Callable[[], None]:
    """`work`, and waiting until the device has done it."""
    import torch

    def run() -> None:
        with torch.no_grad():
            work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return run


def z_buffer(material: Material, device) -> Row:
    import torch

    from train.zbuffer import rasterize as rasterize_in_torch

    faces, triangles = material.in_crops, np.ascontiguousarray(material.model.triangles)
    there, corners = torch.from_numpy(faces).to(device), torch.from_numpy(triangles).to(device)
    n = len(faces)
    return Row(
        f"z-buffer on {device.type}", f"a face at 256², {n} at once, vertices there already",
        Contender("torch", done(lambda: rasterize_in_torch(there, corners, size_hw=(256, 256)), device), n),
        (Contender("lanes on one core", lambda: rasterize(faces, triangles, size_hw=(256, 256)), n),),
        why="One atomic maximum a pixel and candidate, with Triton on CUDA, as plain torch elsewhere.",
        megabytes=(2 * 20 * 256 * 256 + faces[0].nbytes + triangles.nbytes) / 1e6,
    )  # fmt: skip


def position_maps(material: Material, device) -> Row:
    import torch

    from train.device_targets import LinearSurface

    model, raster, coefficients = material.model, material.raster, material.coefficients
    points = SurfacePoints(raster.corners[raster.covered], raster.weights[raster.covered])
    surface = LinearSurface(model, points, device)
    n = len(coefficients.identity)
    both = np.concatenate([coefficients.identity, coefficients.expression], axis=1).astype(np.float32)
    there = torch.from_numpy(both).to(device)
    affines = torch.eye(3, 4, device=device).expand(n, 3, 4)
    values = 3 * len(points.corners)
    return Row(
        f"position maps on {device.type}", f"a map of 256² from coefficients, {n} at once",
        Contender("LinearSurface", done(lambda: surface.points(there, affines), device), n),
        (Contender("vertices and atlas on one core", lambda: raster.apply(model.vertices(coefficients)), n),),
        why="One product of the texels' own basis. The CPU makes the vertices instead, which are fewer, and gathers.",
        megabytes=4 * values * (both.shape[1] / n + 1) / 1e6,
        megaflops=2 * values * both.shape[1] / 1e6,
    )  # fmt: skip


def augment(material: Material, device) -> Row:
    import torch

    from train.augmentation import DrawnBatch, augment_pictures

    picture, n = np.ascontiguousarray(material.augmented[0]["image"]), material.sizes.faces
    draw = AugmentationDraw(0, augmentation_speed.GEOMETRY, augmentation_speed.COLOUR, ())
    batch = torch.from_numpy(np.repeat(np.moveaxis(picture, -1, 0)[None], n, axis=0).copy()).to(device)
    drawn = DrawnBatch.of([draw] * n, size_px=augmentation_speed.SIZE).to(device)

    def ours() -> None:
        augment_pictures(batch, drawn)

    def on_cpu() -> None:
        for _ in range(n):
            augment_picture(picture, draw, size_px=augmentation_speed.SIZE)

    return Row(
        f"augment on {device.type}", f"a picture of 256², {n} at once: turned, scaled, mirrored, tinted",
        Contender("torch", done(ours, device), n),
        (Contender("augment_picture on one core", on_cpu, n),),
        why="The same integers as on the CPU, so that pictures are equal to the bit; torch makes them in several passes.",
        megabytes=2 * picture.nbytes / 1e6,
    )  # fmt: skip
