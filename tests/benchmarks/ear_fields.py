"""How far ear fields from landmarks are from the truth, on drawn ears: ``python tests/benchmarks/ear_fields.py [ears]``.

For every pixel that both the spline's field and the z-buffer's have: the distance of their (u, v), and how far from the pixel
the surface point lies that the spline's (u, v) names, over the mean edge of the landmarks' box (the paper's normaliser).
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from geometry.built_in import load_built_in
from geometry.ear import EAR_CURVES, SIDE_FROM_MODEL, load_ear_template
from geometry.mesh import Mesh
from geometry.unwrap import tutte
from geometry.uv import UVAtlas
from render.atlas_raster import AtlasRaster, TexelSampler
from render.correspondence import CorrespondenceField, draw_field
from render.ear_field import DEFAULT_SMOOTHING, EAR_PARTS, FlatEar, flat_ear, head_with_ear
from storage.ear_sample import DrawnEar, draw_ear

SEED = 7
ATLAS_SIZE = 512


@dataclass(frozen=True, slots=True)
class Errors:
    """Of the pixels of one ear; `off` is NaN where the spline's (u, v) lies beside the template's surface."""

    uv: np.ndarray
    off: np.ndarray
    part: np.ndarray
    yaw: np.ndarray
    overlap: float


class Scorer:
    """Drawn ears with their truths, drawn once."""

    def __init__(self, ears: list[DrawnEar], atlas: UVAtlas) -> None:
        template = load_ear_template()
        self.ears, self.raster = ears, AtlasRaster(atlas, ATLAS_SIZE)
        corners = np.searchsorted(template.vertices, template.landmarks.corners)
        landmarks_uv = np.einsum("pk,pkc->pc", template.landmarks.weights, atlas.uv[corners])
        self.flat = FlatEar(landmarks_uv, flat_ear().part_map)
        self.truths = [self.truth(ear, atlas) for ear in ears]
        head, skin = load_built_in("all"), load_built_in()
        self.places = {
            side: np.searchsorted(head.template_vertices, skin.template_vertices[load_ear_template(side).vertices])
            for side in ("right", "left")
        }

    @staticmethod
    def truth(ear: DrawnEar, atlas: UVAtlas) -> CorrespondenceField:
        """The true field with other coordinates than the template's."""
        own, uv = head_with_ear(ear.side), load_ear_template().atlas.uv
        if atlas.uv is uv:
            return ear.true_field()
        placed = np.zeros_like(own.uv)
        head, skin = load_built_in("all"), load_built_in()
        side = load_ear_template(ear.side).vertices
        placed[np.searchsorted(head.template_vertices, skin.template_vertices[side])] = atlas.uv
        return draw_field(replace(own, uv=placed), [ear.vertices_px], size_hw=ear.picture.shape[:2])

    def errors(self, ear: DrawnEar, truth: CorrespondenceField, found: CorrespondenceField) -> Errors:
        both = truth.is_face & found.is_face
        surface = self.raster.apply(ear.vertices_px[self.places[ear.side]])
        named = TexelSampler.at(self.raster, found.uv[both].astype(np.float64)).read(surface)[:, :2]
        y, x = np.nonzero(both)
        edge = np.ptp(ear.landmarks_px, axis=0).mean()
        return Errors(
            np.linalg.norm(found.uv[both] - truth.uv[both], axis=-1),
            np.linalg.norm(named - np.stack([x, y], axis=1), axis=1) / edge,
            truth.part[both],
            np.full(len(x), abs(np.degrees(ear.yaw)) - 90),
            both.sum() / found.is_face.sum(),
        )

    def run(self, *, smoothing: float, kept: np.ndarray, noise: float) -> tuple[Errors, int, int]:
        """Errors of all ears together, how many were refused, and how many folds were repaired."""
        rng, found = np.random.default_rng(SEED), []
        refused = repaired = 0
        for ear, truth in zip(self.ears, self.truths, strict=True):
            edge = np.ptp(ear.landmarks_px, axis=0).mean()
            given = ear.landmarks_px + rng.normal(0, noise * edge, (55, 2))
            given[~kept] = np.nan
            try:
                answer = self.flat.field(given, size_hw=truth.label.shape, smoothing=smoothing)
            except ValueError:
                refused += 1
                continue
            repaired += answer.folds.repaired
            found.append(self.errors(ear, truth, answer.field))
        together = (np.concatenate([getattr(e, name) for e in found]) for name in ("uv", "off", "part", "yaw"))
        return Errors(*together, float(np.mean([e.overlap for e in found]))), refused, repaired


def subset(share: float) -> np.ndarray:
    """The first and last landmark of each curve, and others evenly between: so many of each."""
    kept = np.zeros(55, dtype=bool)
    for curve in EAR_CURVES.values():
        n = curve.stop - curve.start
        kept[curve.start + np.linspace(0, n - 1, max(2, round(share * n))).round().astype(int)] = True
    return kept


def row(name: str, errors: Errors, refused: int, repaired: int) -> str:
    known = np.isfinite(errors.off)
    uv, off = np.quantile(errors.uv, (0.5, 0.95)), 100 * np.quantile(errors.off[known], (0.5, 0.95))
    return (
        f"| {name} | {uv[0]:.4f} | {uv[1]:.3f} | {off[0]:.2f} % | {off[1]:.1f} % | {1 - known.mean():.1%} | {repaired} | "
        f"{refused} |"
    )


def rows(scorer: Scorer) -> Iterator[str]:
    """Markdown, one table after another."""
    head = "| u, v median | 95 % | surface median | 95 % | beside | folds repaired | refused |\n|---|---|---|---|---|---|---|---|"
    every = np.ones(55, dtype=bool)
    yield "smoothing, noise " + head
    for noise in (0.0, 0.01, 0.02):
        for smoothing in (0.0, 1e-3, 1e-2, 3e-2, 1e-1, 3e-1):
            yield row(f"{smoothing:g}, {noise:.0%}", *scorer.run(smoothing=smoothing, kept=every, noise=noise))
    yield "\nlandmarks " + head
    for share in (1.0, 0.75, 0.5, 0.35, 0.2):
        kept = subset(share)
        yield row(str(kept.sum()), *scorer.run(smoothing=DEFAULT_SMOOTHING, kept=kept, noise=0.0))
    outer = np.arange(55) < 20
    yield row("20 of the outline", *scorer.run(smoothing=DEFAULT_SMOOTHING, kept=outer, noise=0.0))
    yield "\nparts, yaw " + head
    errors, *counts = scorer.run(smoothing=DEFAULT_SMOOTHING, kept=every, noise=0.0)
    bins = {name: errors.part == code for code, name in enumerate(EAR_PARTS, 1)}
    bins |= {
        f"{low} to {high}°": (errors.yaw >= low) & (errors.yaw < high)
        for low, high in ((-60, -25), (-25, -10), (-10, 10), (10, 25), (25, 60))
    }
    for name, inside in bins.items():
        if inside.any():
            yield row(name, Errors(errors.uv[inside], errors.off[inside], errors.part, errors.yaw, 0.0), *counts)
    yield f"\nof the spline's pixels {errors.overlap:.1%} are the ear's in truth"


def main() -> None:
    ears = [draw_ear(SEED, number) for number in range(int(sys.argv[1]) if len(sys.argv) > 1 else 48)]
    template = load_ear_template()
    scorer = Scorer(ears, template.atlas)
    for line in rows(scorer):
        print(line)
    seen = load_built_in().mean_shape[template.vertices].astype(np.float64) @ SIDE_FROM_MODEL.T
    conformal = Scorer(ears, tutte(Mesh(seen, template.atlas.triangles), boundary="natural"))
    every = np.ones(55, dtype=bool)
    print("\nThe same template laid flat conformally:")
    print(row("conformal", *conformal.run(smoothing=DEFAULT_SMOOTHING, kept=every, noise=0.0)))
    edges = [np.ptp(ear.landmarks_px, axis=0).mean() for ear in ears]
    print(f"mean edge of the landmarks' boxes: {np.mean(edges):.1f} px")


if __name__ == "__main__":
    main()
