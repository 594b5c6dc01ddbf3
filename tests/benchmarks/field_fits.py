"""Measures the tables of docs/dense-fields.md about fits to fields: dense error by yaw, landmarks by noise, time.

    python tests/benchmarks/field_fits.py [--faces 16]

People of the built-in model with natural expressions, pitch to ±20°, roll to ±30°, both sides, 1.2 to 1.6 px/mm, drawn
into 450 × 450 pixels in the model's own atlas. Errors of vertices are distances of all 53,099 from the true ones in the
model frame. "Network-like" noise of u and v is alike over some ten pixels (a Gaussian of 6 px), as a network's errors are.
"""

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter
from threadpoolctl import threadpool_limits

from geometry.built_in import load_built_in
from geometry.camera import ScaledOrthographicCamera
from geometry.fit import Fit, FitConfig, fit_landmarks
from geometry.uv import UVAtlas
from render.correspondence import CorrespondenceField, FieldTemplate, draw_field
from render.field_fit import FieldFitter
from render.field_landmarks import landmarks_of_field
from render.quantization import dequantize
from render.visibility import visible_vertices

spec = importlib.util.spec_from_file_location("fit_faces", Path(__file__).parents[1] / "geometry" / "fit_faces.py")
sys.modules["fit_faces"] = fit_faces = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fit_faces)

YAWS = ((0, 15), (15, 30), (30, 45), (45, 60), (60, 75), (75, 90))
SIZE_HW = fit_faces.SIZE_HW
OUTER_EYE_CORNERS = [36, 45]
Spoiler = Callable[[CorrespondenceField, np.random.Generator], np.ndarray]


def main() -> None:
    """Both tables, one thread."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=16, help="in every bin of yaw")
    n = parser.parse_args().faces
    model = load_built_in()
    atlas = UVAtlas(model.uv.astype(np.float64), np.concatenate([model.triangles, model.closing_triangles]))
    template = FieldTemplate.of(model, atlas, np.zeros((2, 2), np.uint8))
    fitter = FieldFitter.of(model, template)
    bins = [fit_faces.draw_people(model, n, seed=100 + number, yaw_deg=yaw) for number, yaw in enumerate(YAWS)]
    fields = [[draw(template, people, i) for i in range(n)] for people in bins]
    with threadpool_limits(1):
        dense_errors(fitter, bins, fields)
        landmarks(fitter, atlas, bins[0], fields[0], template)


def draw(template: FieldTemplate, people, i: int) -> CorrespondenceField:
    camera = ScaledOrthographicCamera(people.scale[i], people.rotation[i], np.array([*fit_faces.CENTRE_PX, 0.0]))
    return draw_field(template, [camera.project(people.model.vertices(people.face(i)))], size_hw=SIZE_HW)


def exact(field: CorrespondenceField, rng: np.random.Generator) -> np.ndarray:
    return field.uv


def binned(field: CorrespondenceField, rng: np.random.Generator) -> np.ndarray:
    return dequantize(*field.quantized(10), 10)


def white(spread: float) -> Spoiler:
    return lambda field, rng: (field.uv + rng.normal(0, spread, field.uv.shape)).astype(np.float32)


def network_like(spread: float) -> Spoiler:
    def spoil(field: CorrespondenceField, rng: np.random.Generator) -> np.ndarray:
        error = np.stack([gaussian_filter(rng.normal(size=field.label.shape), 6) for _ in range(2)], axis=-1)
        return (field.uv + spread * error / error.std()).astype(np.float32)

    return spoil


def wrong(share: float, before: Spoiler = exact) -> Spoiler:
    def spoil(field: CorrespondenceField, rng: np.random.Generator) -> np.ndarray:
        uv = before(field, rng).copy()
        chosen = rng.random(field.label.shape) < share
        uv[chosen] = rng.random((int(chosen.sum()), 2))
        return uv

    return spoil


def dense_errors(fitter: FieldFitter, bins: list, fields: list) -> None:
    """Vertex error by yaw, of 68 landmarks and of the field."""
    print("| | " + " | ".join(f"{a}–{b}°" for a, b in YAWS) + " |\n|" + " --- |" * (len(YAWS) + 1))
    for name, spread in (("68 landmarks, exact", 0.0), ("68 landmarks, 1 px of noise", 1.0)):
        config = FitConfig(noise_px=max(spread, 0.1))
        fits = []
        for people in bins:
            points = people.landmarks_px
            points = points + spread * np.random.default_rng(1).normal(size=points.shape)
            fits.append(fit_landmarks(people.model, points, image_size_hw=SIZE_HW, config=config))
        row(name, bins, fits)
    for name, spoil in (
        ("field, exact", exact),
        ("field in 10 bins, with residuals", binned),
        ("field, a fifth of the pixels wrong", wrong(0.2)),
        ("field, half of the pixels wrong", wrong(0.5)),
        ("field, white noise of 0.01", white(0.01)),
        ("field, network-like noise of 0.002", network_like(0.002)),
        ("field, network-like noise of 0.005", network_like(0.005)),
        ("field, network-like noise of 0.01", network_like(0.01)),
        ("field, network-like noise of 0.02", network_like(0.02)),
    ):
        rng, start = np.random.default_rng(2), time.process_time()
        fits = [[fitter.fit(spoil(field, rng), field.is_face) for field in of_bin] for of_bin in fields]
        spent = (time.process_time() - start) / sum(len(of_bin) for of_bin in fits)
        row(name, bins, fits, milliseconds=1000 * spent)


def row(name: str, bins: list, fits: list[list[Fit]], milliseconds: float | None = None) -> None:
    print(f"| {name} | " + " | ".join(f"{p.errors_mm(f).mean():.2f}" for p, f in zip(bins, fits, strict=True)) + " |")
    turned = " | ".join(f"{p.turned_deg(f).mean():.2f}" for p, f in zip(bins, fits, strict=True))
    noise = [fit.config.noise_px for of_bin in fits for fit in of_bin if fit.config.noise_px is not None]
    results = {fit.result.value for of_bin in fits for fit in of_bin}
    print(f"| — pose (°) | {turned} | {results}, σ {np.mean(noise):.3f} px", end="")
    print("" if milliseconds is None else f", {milliseconds:.0f} ms a face", flush=True)


def landmarks(fitter: FieldFitter, atlas: UVAtlas, people, fields: list, template: FieldTemplate) -> None:
    """Landmarks by noise: read from the field, the shape model laid through them, the model fitted to the field."""
    model, n = people.model, len(people)
    truth, landmarks_uv = people.landmarks_px, atlas.uv[model.landmark_vertices]
    size = np.linalg.norm(np.diff(truth[:, OUTER_EYE_CORNERS], axis=1)[:, 0], axis=-1)
    seen = np.zeros((n, 68), dtype=bool)
    for i in range(n):
        camera = ScaledOrthographicCamera(people.scale[i], people.rotation[i], np.array([*fit_faces.CENTRE_PX, 0.0]))
        head = camera.project(model.vertices(people.face(i)))
        seen[i] = visible_vertices(head, template.triangles, size_hw=SIZE_HW)[model.landmark_vertices]
    rows = model.rows(model.landmarks)
    noises = {
        "none": exact,
        **{str(spread): network_like(spread) for spread in (0.002, 0.005, 0.01, 0.02, 0.04)},
        "0.01, a fifth wrong": wrong(0.2, network_like(0.01)),
    }
    errors: dict[str, list[str]] = {}
    for spoil in noises.values():
        rng = np.random.default_rng(3)
        spoiled = [spoil(field, rng) for field in fields]
        read = [
            landmarks_of_field(uv, field.is_face, landmarks_uv)[0] for uv, field in zip(spoiled, fields, strict=True)
        ]
        nearest, between = (np.stack([getattr(r, k) for r in read]).astype(float) for k in ("pixels", "points_px"))
        through = fit_landmarks(model, between, image_size_hw=SIZE_HW, config=FitConfig(loss="huber"))
        dense = [fitter.fit(uv, field.is_face) for uv, field in zip(spoiled, fields, strict=True)]
        by_fit = [
            np.stack([f.camera.project(rows.positions(f.coefficients))[:, :2] for f in fits])
            for fits in (through, dense)
        ]
        for name, places in zip(
            ("field, nearest pixel", "field, between pixels", "shape model through these", "model fitted to the field"),
            (nearest, between, *by_fit),
            strict=True,
        ):
            off = np.linalg.norm(places - truth, axis=-1) / size[:, None]
            errors.setdefault(name, []).append(f"{100 * off[seen].mean():.2f} / {100 * off.mean():.2f}")
    print("\n| | " + " | ".join(noises) + " |\n|" + " --- |" * (len(noises) + 1))
    for name, cells in errors.items():
        print(f"| {name} | " + " | ".join(cells) + " |")
    print(
        f"\n{seen.sum(axis=1).mean():.1f} of 68 landmarks are seen; outer corners of the eyes {size.mean():.0f} px apart"
    )


if __name__ == "__main__":
    main()
