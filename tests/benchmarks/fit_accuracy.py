"""How near landmark fits come to the truth: every table of docs/fitting.md but that of speed.

    python tests/benchmarks/fit_accuracy.py [--faces 64] [--sample FOLDER]

People of the built-in model with natural expressions, pitch to ±20°, roll to ±30°, both sides, 1.2 to 1.6 px/mm, 1 px of
noise in each coordinate. Errors are distances of all 53,099 vertices from the true ones in the model frame, averaged
over vertices and faces. `--sample` is a folder written by `facefoundry sample`.
"""

import argparse
import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from geometry.built_in import load_built_in
from geometry.camera import PerspectiveCamera
from geometry.fit import Fit, FitConfig, LandmarkFitter
from geometry.fit_posterior import posterior, posteriors_of_person
from geometry.fit_reference import reference_minimise_analytic
from geometry.fit_solver import minimise
from geometry.landmarks import JAW
from geometry.morphable_model import Coefficients, SurfacePoints

spec = importlib.util.spec_from_file_location("fit_faces", Path(__file__).parents[1] / "geometry" / "fit_faces.py")
sys.modules["fit_faces"] = fit_faces = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fit_faces)

YAWS = ((0, 15), (15, 30), (30, 45), (45, 60), (60, 75), (75, 90))
SIZE_HW = fit_faces.SIZE_HW
KNOWN = FitConfig(noise_px=1.0)
MARCH = FitConfig(noise_px=1.0, contour="march")
SCIPY_FACES = 12  # of every bin; SciPy takes a sixth of a second for each


def main() -> None:
    """Every table, one thread."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=64, help="in every bin of yaw")
    parser.add_argument("--sample", type=Path)
    arguments = parser.parse_args()
    with threadpool_limits(1):
        bins = [
            fit_faces.draw_people(load_built_in(), arguments.faces, seed=100 + number, yaw_deg=yaw)
            for number, yaw in enumerate(YAWS)
        ]
        against_scipy(bins)
        contours(bins)
        wrong_points(bins)
        cameras(arguments.faces)
        persons(arguments.faces)
        copies()
        coverage(arguments.faces * 4)
        if arguments.sample:
            sample(arguments.sample)


def noisy(landmarks: np.ndarray, seed: int) -> np.ndarray:
    return landmarks + np.random.default_rng(seed).normal(size=landmarks.shape)


def fits_of(config: FitConfig, landmarks: np.ndarray, minimiser: Callable = minimise, **options) -> list[Fit]:
    return LandmarkFitter.of(load_built_in(), config=config).fit(
        landmarks, image_size_hw=SIZE_HW, minimiser=minimiser, **options
    )


def head(title: str, columns: Sequence[object]) -> None:
    print(f"\n**{title}**\n\n| | " + " | ".join(str(column) for column in columns) + " |")
    print("|" + " --- |" * (len(columns) + 1), flush=True)


def row(name: str, values: Sequence[object]) -> None:
    cells = [value if isinstance(value, str) else f"{value:.2f}" for value in values]
    print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def against_scipy(bins: list) -> None:
    """Fixed vertices, whose true projections are given: ours, and SciPy to convergence on the same faces."""
    head("Vertex error (mm) by yaw, landmarks at fixed vertices", [f"{a}–{b}°" for a, b in YAWS])
    data = [noisy(people.landmarks_px, 1) for people in bins]
    joint = KNOWN.model_copy(update={"scale_estimate": "joint"})
    everybody = {name: [fits_of(config, points) for points in data] for name, config in (("m", KNOWN), ("j", joint))}
    row("ours", [p.errors_mm(f).mean() for p, f in zip(bins, everybody["m"], strict=True)])
    row("pose error (°)", [p.turned_deg(f).mean() for p, f in zip(bins, everybody["m"], strict=True)])
    row("plain ridge", [p.errors_mm(f).mean() for p, f in zip(bins, everybody["j"], strict=True)])
    few = slice(0, SCIPY_FACES)
    largest = 0.0
    for name, config, ours in (("", KNOWN, everybody["m"]), (", plain ridge", joint, everybody["j"])):
        theirs = [fits_of(config, points[few], reference_minimise_analytic) for points in data]
        mine = [fits[few] for fits in ours]
        row(f"ours{name}, first {SCIPY_FACES}", [p.errors_mm(f).mean() for p, f in zip(bins, mine, strict=True)])
        row(f"SciPy{name}, first {SCIPY_FACES}", [p.errors_mm(f).mean() for p, f in zip(bins, theirs, strict=True)])
        largest = max(
            largest,
            *(
                float(fit_faces.degrees_between(a.camera.rotation, b.camera.rotation))
                for left, right in zip(mine, theirs, strict=True)
                for a, b in zip(left, right, strict=True)
            ),
        )
    print(f"\nlargest difference of pose between ours and SciPy's: {largest:.3f}°")


def contours(bins: list) -> None:
    """Jaw points on the drawn outline: fixed, marching, left out, and as if the hidden vertices were known."""
    for rule in ("evenly", "height", "across"):
        head(f'Vertex error (mm) by yaw, hidden jaw points on the outline, "{rule}"', [f"{a}–{b}°" for a, b in YAWS])
        placed = [people.outlined_px(rule) for people in bins]
        data = [noisy(points, 2) for points, _ in placed]
        row("hidden points a face", [hidden.sum(axis=1).mean() for _, hidden in placed])
        ways = {"fixed vertices": (KNOWN, data), "marching": (MARCH, data)}
        if rule == "evenly":
            without = [np.where(np.arange(68)[:, None] < JAW.stop, np.nan, points) for points in data]
            ways["fixed vertices, Huber"] = (KNOWN.model_copy(update={"loss": "huber"}), data)
            ways["without the jaw"] = (KNOWN, without)
            ways["hidden vertices known"] = (KNOWN, [noisy(people.landmarks_px, 2) for people in bins])
        for name, (config, given) in ways.items():
            fits = [fits_of(config, points) for points in given]
            row(name, [p.errors_mm(f).mean() for p, f in zip(bins, fits, strict=True)])
            row(f"{name}: pose (°)", [p.turned_deg(f).mean() for p, f in zip(bins, fits, strict=True)])


def wrong_points(bins: list) -> None:
    """Seven of 68 points moved by 30 px; pose against the truth and against the fit before they were moved."""
    head(
        "A tenth of the points wrong by 30 px, all yaws: pose (°)",
        ("from the truth", "from the clean fit", "worst"),
    )
    for loss in ("squares", "huber", "geman_mcclure"):
        true, clean_fit = [], []
        for people in bins:
            clean = noisy(people.landmarks_px, 3)
            spoiled, rng = clean.copy(), np.random.default_rng(4)
            for face in spoiled:
                turn = rng.uniform(0, 2 * np.pi, 7)
                face[rng.choice(68, 7, replace=False)] += 30 * np.stack([np.cos(turn), np.sin(turn)], axis=1)
            before = fits_of(KNOWN, clean)
            after = fits_of(KNOWN.model_copy(update={"loss": loss}), spoiled)
            true += people.turned_deg(after).tolist()
            clean_fit += [
                float(fit_faces.degrees_between(a.camera.rotation, b.camera.rotation))
                for a, b in zip(before, after, strict=True)
            ]
        row(loss, (np.mean(true), np.mean(clean_fit), np.max(clean_fit)))


def cameras(n: int) -> None:
    """Faces before a perspective camera of 900 px: with it, and without."""
    model = load_built_in()
    people = fit_faces.draw_people(model, n, seed=5, yaw_deg=(0.0, 60.0))
    points, rng = model.rows(model.landmarks).positions(people.coefficients), np.random.default_rng(6)
    head("Pose (°) and vertex error (mm), picture 640 × 480, f = 900 px, noise 0.5 px", ("300 mm", "600 mm", "1500 mm"))
    data = []
    for distance in (300.0, 600.0, 1500.0):
        aside = rng.uniform(-0.15, 0.15, (n, 2)) * distance
        lenses = [
            PerspectiveCamera(900.0, np.array([319.5, 239.5]), rotation, np.array([*place, -distance]))
            for rotation, place in zip(people.rotation, aside, strict=True)
        ]
        seen = np.stack([lens.project(face)[:, :2] for lens, face in zip(lenses, points, strict=True)])
        data.append(seen + 0.5 * rng.normal(size=seen.shape))
    for name, changes in (
        ("scaled orthographic", {}),
        ("perspective, known focal length", {"camera": "perspective", "focal_px": 900.0}),
        ("perspective, estimated", {"camera": "perspective"}),
    ):
        fitter = LandmarkFitter.of(model, config=FitConfig(noise_px=0.5, **changes))
        fits = [fitter.fit(landmarks, image_size_hw=(480, 640)) for landmarks in data]
        row(name, [f"{people.turned_deg(f).mean():.2f} / {people.errors_mm(f).mean():.2f}" for f in fits])
    spread = [np.std([np.log(fit.camera.focal_px / 900) for fit in some]) for some in fits]
    stated = [np.mean([posterior(model, fit).focal_stddev for fit in some]) for some in fits]
    row("focal length: spread, stated", [f"{a:.0%}, {b:.0%}" for a, b in zip(spread, stated, strict=True)])


def persons(n: int) -> None:
    """Several pictures of each person, yaw to 60°."""
    model, zero = load_built_in(), np.zeros(load_built_in().n_expression)
    head("Neutral face's vertex error (mm), pictures with one identity", ("1 picture", "2", "4", "8"))
    drawn = fit_faces.draw_people(model, 8 * max(n // 4, 4), seed=7, yaw_deg=(0.0, 60.0))
    identity = np.repeat(drawn.coefficients.identity[::8], 8, axis=0)
    people = fit_faces.People(
        model, Coefficients(identity, drawn.coefficients.expression), drawn.rotation, drawn.scale, drawn.yaw_deg
    )
    landmarks = noisy(people.landmarks_px, 8)
    for shared_error in (0.5, 0.0):
        errors, poses = [], []
        for pictures in (1, 2, 4, 8):
            chosen = np.flatnonzero(np.arange(len(people)) % 8 < pictures)
            config = KNOWN.model_copy(update={"shared_error": shared_error})
            fits = fits_of(config, landmarks[chosen], person_ids=(chosen // 8).tolist())
            neutral = [
                model.vertices(Coefficients(fit.coefficients.identity, zero))
                - model.vertices(Coefficients(identity[i], zero))
                for i, fit in zip(chosen, fits, strict=True)
            ]
            errors.append(np.mean([np.linalg.norm(one, axis=1).mean() for one in neutral]))
            turned = [
                fit_faces.degrees_between(f.camera.rotation, people.rotation[i])
                for i, f in zip(chosen, fits, strict=True)
            ]
            poses.append(np.mean(turned))
        row(f"identity, shared error {shared_error}", errors)
        row(f"pose (°), shared error {shared_error}", poses)


def copies() -> None:
    """The photograph's landmarks with half a pixel of noise, as so many pictures of one person: a face of no model."""
    from storage.sample_photograph import photograph_landmarks_px

    counts = (1, 2, 5, 10, 30)
    head("Like pictures of one photograph: scale (px/mm), largest of the identity (standard deviations)", counts)
    noise = 0.5 * np.random.default_rng(0).normal(size=(max(counts), 68, 2))
    for shared_error in (0.5, 0.0):
        fits = [
            fits_of(
                FitConfig(shared_error=shared_error), photograph_landmarks_px() + noise[:n], person_ids=["she"] * n
            )[0]
            for n in counts
        ]
        row(f"scale, shared error {shared_error}", [fit.camera.scale for fit in fits])
        largest = [np.abs(fit.coefficients.in_stddevs(load_built_in()).identity).max() for fit in fits]
        row(f"identity, shared error {shared_error}", largest)


def coverage(n: int) -> None:
    """How often the stated 95 % intervals hold the truth."""
    model = load_built_in()
    head(
        "Share of truths within the stated 95 % intervals",
        ("rotation", "scale", "coefficients", "vertices", "seen", "depth"),
    )
    some = SurfacePoints.at_vertices(np.arange(0, model.n_vertices, 200))
    rows = model.rows(some)
    for name, from_prior, config, changes in (
        ("faces of the prior", True, KNOWN, "fixed"),
        ("natural people", False, KNOWN, "fixed"),
        ("natural people, marching on the outline", False, MARCH, "evenly"),
        ("faces of the prior, plain ridge", True, KNOWN.model_copy(update={"scale_estimate": "joint"}), "fixed"),
    ):
        people = fit_faces.draw_people(model, n, seed=9, yaw_deg=(0.0, 80.0), from_prior=from_prior)
        landmarks = people.landmarks_px if changes == "fixed" else people.outlined_px(changes)[0]
        held: list[list[np.ndarray]] = [[] for _ in range(6)]
        for i, fit in enumerate(fits_of(config, noisy(landmarks, 10))):
            sure, true = posterior(model, fit), people.face(i)
            turn = people.rotation[i] @ fit.camera.rotation.T
            error = np.degrees([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]]) / 2
            held[0].append(np.abs(error) < 1.96 * sure.rotation_stddev_deg)
            held[1].append(np.array(abs(np.log(people.scale[i] / fit.camera.scale)) < 1.96 * sure.scale_stddev))
            z, found, stated = true.in_stddevs(model), fit.coefficients.in_stddevs(model), sure.coefficient_stddevs()
            held[2].append(np.abs(z.identity - found.identity) < 1.96 * stated.identity)
            there, here = rows.positions(true), rows.positions(fit.coefficients)
            held[3].append(np.abs(there - here) < 1.96 * sure.vertex_stddev_mm(model, points=some))
            posed, scale = 1.96 * sure.posed_vertex_stddev_mm(model, points=some), fit.camera.scale
            seen = people.scale[i] * (there @ people.rotation[i].T)[:, :2] * (1, -1) + fit_faces.CENTRE_PX
            held[4].append(np.abs(seen - fit.camera.project(here)[:, :2]) / scale < posed[:, :2])
            depths = [
                s * ((x - sure.centroid_mm) @ r[2]) / scale
                for s, x, r in ((people.scale[i], there, people.rotation[i]), (scale, here, fit.camera.rotation))
            ]
            held[5].append(np.abs(depths[0] - depths[1]) < posed[:, 2])
        row(name, [f"{np.mean(np.concatenate([np.ravel(one) for one in of])):.1%}" for of in held])


def sample(folder: Path) -> None:
    """The `_0` files of a sample folder, their own landmarks."""
    from storage import read_annotation

    model = load_built_in()
    paths = [path for path in sorted(folder.glob("*/*_0.mat")) if "astronaut" not in path.name]
    annotations = [read_annotation(path) for path in paths]
    landmarks = np.stack([annotation.landmarks_px[:, :2] for annotation in annotations])
    persons = [np.round(annotation.coefficients.identity).tobytes() for annotation in annotations]
    head(
        f"The sample folder's {len(paths)} `_0` files",
        ("mean pose (°)", "within 3°", "worst", "stated (°)", "residual (px)"),
    )
    for name, config, ids in (
        ("each for itself", FitConfig(), None),
        ("noise of 0.3 px assumed", FitConfig(noise_px=0.3), None),
        ("a person's pictures together", FitConfig(), persons),
    ):
        fits = fits_of(config, landmarks, person_ids=ids)
        turned = np.array(
            [
                fit_faces.degrees_between(f.camera.rotation, a.camera.rotation)
                for f, a in zip(fits, annotations, strict=True)
            ]
        )
        if ids is None:
            sure = [posterior(model, fit) for fit in fits]
        else:
            groups = [[i for i, one in enumerate(ids) if one == person] for person in dict.fromkeys(ids)]
            sure = [one for group in groups for one in posteriors_of_person(model, [fits[i] for i in group])]
        stated = np.mean([np.linalg.norm(one.rotation_stddev_deg) for one in sure])
        residual = np.mean([fit.mean_residual_px for fit in fits])
        row(name, (turned.mean(), f"{np.mean(turned < 3):.0%}", turned.max(), stated, residual))


if __name__ == "__main__":
    main()
