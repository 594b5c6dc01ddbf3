"""Landmark fits beside eos-py and SciPy, in one run: CPU milliseconds a face on one core, one BLAS thread.

    python tests/benchmarks/fit_speed.py [--faces 128] [--rounds 5]

Everybody gets the built-in model (53,099 vertices, 199 + 29 modes) and the same 68 landmarks with 1 px of noise, faces
turned by up to 40° (eos has no contour without a file of its own). eos-py (`pip install eos-py`) gets the model in its own
format, made in memory: once whole, once cut to the 68 vertices of the landmarks, which is the least it can work on.
SciPy minimises our objective: with its own settings and its own differences, as a first script would; with exact
derivatives and its own settings; and with exact derivatives to convergence. Making the models ready is not counted for
anybody: all keep them from batch to batch.
"""

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import scipy.optimize
from threadpoolctl import threadpool_limits

import geometry.fit_reference as reference
from geometry.built_in import load_built_in
from geometry.fit import FitConfig, LandmarkFitter

spec = importlib.util.spec_from_file_location("fit_faces", Path(__file__).parents[1] / "geometry" / "fit_faces.py")
sys.modules["fit_faces"] = fit_faces = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fit_faces)

SIZE_HW = fit_faces.SIZE_HW
TIMES_EOS, TIMES_SCIPY, TIMES_EOS_MARCHING = 70, 200, 20


def main() -> None:
    """Run everything, one thread, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with threadpool_limits(1):
        run_all(arguments.faces, arguments.rounds)


def run_all(n_faces: int, rounds: int) -> None:
    """Everybody on the same faces."""
    model = load_built_in()
    people = fit_faces.draw_people(model, n_faces, seed=1, yaw_deg=(0.0, 40.0), pitch_deg=15.0, roll_deg=15.0)
    noise = np.random.default_rng(2).normal(size=(n_faces, 68, 2))
    fixed, outlined = people.landmarks_px + noise, people.outlined_px("evenly")[0] + noise

    contestants: dict[str, tuple[Callable[[int], None], int]] = {}  # what to call with a round's number, faces in it
    for label, config, landmarks in (
        ("ours", FitConfig(noise_px=1.0), fixed),
        ("ours, contour marching", FitConfig(noise_px=1.0, contour="march"), outlined),
        ("ours, perspective, focal length estimated", FitConfig(noise_px=1.0, camera="perspective"), fixed),
    ):
        fitter = LandmarkFitter.of(model, config=config)
        contestants[label] = (partial(batch, fitter, landmarks), n_faces)
    contestants["ours, one face at a time"] = (
        partial(batch, LandmarkFitter.of(model, config=FitConfig(noise_px=1.0)), fixed[0]), 1,
    )  # fmt: skip
    try:
        contestants["eos-py, whole model, 5 iterations"] = (eos_fit(model, fixed, whole=True), 1)
        contestants["eos-py, 68-vertex model, 5 iterations"] = (eos_fit(model, fixed, whole=False), 1)
    except ImportError:
        print("eos-py is not installed (pip install eos-py): left out")
    plain = LandmarkFitter.of(model, config=FitConfig(noise_px=1.0, scale_estimate="joint"))
    for label, minimiser, changes in (
        ("scipy least_squares, its own differences and settings", reference.reference_minimise_two_point, OWN),
        ("scipy least_squares, exact derivatives, its own settings", reference.reference_minimise_analytic, OWN),
        ("scipy least_squares, exact derivatives, to convergence", reference.reference_minimise_analytic, {}),
    ):
        contestants[label] = (scipy_fit(plain, fixed, minimiser, changes), 1)

    report(measure(contestants, rounds), n_faces)


OWN = {"x_scale": 1.0, "xtol": 1e-8, "ftol": 1e-8, "gtol": 1e-8}
"""SciPy's defaults."""


def batch(fitter: LandmarkFitter, landmarks: np.ndarray, _: int) -> None:
    """One batch of ours."""
    fitter.fit(landmarks, image_size_hw=SIZE_HW)


def scipy_fit(
    fitter: LandmarkFitter, landmarks: np.ndarray, minimiser: Callable, changes: dict
) -> Callable[[int], None]:
    """One face by SciPy, with some of its settings changed."""

    def run(number: int) -> None:
        reference.least_squares = lambda *a, **k: scipy.optimize.least_squares(*a, **{**k, **changes})
        fitter.fit(landmarks[number % len(landmarks)], image_size_hw=SIZE_HW, minimiser=minimiser)
        reference.least_squares = scipy.optimize.least_squares

    return run


def eos_fit(model, landmarks: np.ndarray, *, whole: bool) -> Callable[[int], None]:
    """One face by eos, on the whole model or on its 68 landmark vertices."""
    import eos

    dense = model.dense()
    kept = np.arange(model.n_vertices) if whole else model.landmark_vertices
    names = [str(vertex) for vertex in (model.landmark_vertices if whole else range(68))]
    triangles = dense.triangles.tolist() if whole else [[0, 1, 2]]

    def part(mean: np.ndarray, basis: np.ndarray, stddevs: np.ndarray) -> "eos.morphablemodel.PcaModel":
        columns = basis.reshape(len(basis), -1, 3)[:, kept].reshape(len(basis), -1).T
        return eos.morphablemodel.PcaModel(
            mean.astype(np.float32), np.asfortranarray(columns, np.float32), (stddevs**2).astype(np.float32), triangles
        )

    mean = dense.mean[kept].reshape(-1)
    shape = part(mean, dense.identity_basis, dense.identity_stddevs)
    expression = part(np.zeros_like(mean), dense.expression_basis, dense.expression_stddevs)
    converted = eos.morphablemodel.MorphableModel(shape, expression, eos.morphablemodel.PcaModel())
    mapper = eos.core.LandmarkMapper()

    def run(number: int) -> None:
        points = landmarks[number % len(landmarks)].tolist()
        given = [eos.core.Landmark(name, [x, y]) for name, (x, y) in zip(names, points, strict=True)]
        eos.fitting.fit_shape_and_pose(
            converted, given, mapper, *SIZE_HW, num_iterations=5, num_shape_coefficients_to_fit=model.n_identity,
            lambda_identity=1.0, num_expression_coefficients_to_fit=model.n_expression, lambda_expressions=1.0,
        )  # fmt: skip

    return run


def measure(contestants: dict[str, tuple[Callable[[int], None], int]], rounds: int) -> dict[str, float]:
    """Median CPU time a face, the contestants taking turns so that a busy machine is unfair to all alike."""
    spent: dict[str, list[float]] = {label: [] for label in contestants}
    for label, (run, _) in contestants.items():
        print(f"warming up: {label}", flush=True)
        run(0)
    for number in range(rounds):
        for label, (run, faces) in contestants.items():
            start = time.process_time()
            run(number)
            spent[label].append((time.process_time() - start) / faces * 1e3)
    return {label: float(np.median(times)) for label, times in spent.items()}


def report(milliseconds: dict[str, float], faces: int) -> None:
    """The table, and what was promised."""
    ours, marching = milliseconds["ours"], milliseconds["ours, contour marching"]
    print(f"\nCPU ms a face, batches of {faces}, 228 modes, one BLAS thread\n")
    print(f"{'':58s} {'ms':>9s} {'× ours':>8s} {'× marching':>10s}")
    for label, time_spent in milliseconds.items():
        print(f"{label:58s} {time_spent:9.3f} {time_spent / ours:8.1f} {time_spent / marching:10.1f}")
    eos, scipy = (
        milliseconds.get(label, float("nan"))
        for label in ("eos-py, whole model, 5 iterations", "scipy least_squares, its own differences and settings")
    )
    print(
        f"\npromised: {TIMES_EOS} × eos-py (found {eos / ours:.0f}), {TIMES_SCIPY} × scipy (found {scipy / ours:.0f}), "
        f"{TIMES_EOS_MARCHING} × eos-py with marching (found {eos / marching:.0f})"
    )


if __name__ == "__main__":
    main()
