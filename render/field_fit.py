"""A morphable model fitted to a correspondence field: DenseReg as the start of a deformable model (sec. 1 and 4.3).

Every pixel of a field says which point of the surface it shows, so a field is a landmark fit with tens of thousands of
landmarks, and :func:`geometry.fit.fit_landmarks` solves it. What is done here is to make a thousand good ones of them.

**Cells.** The face's pixels are divided into square cells of the picture, at most `n_points` of them. A cell counts as one
correspondence, by as much of it as is face: errors of a network are alike in neighbouring pixels, so more pixels of one
place are no more certain than a few. In the first round the pixel in its middle stands for it.

**Rounds.** In the later ones each pixel is compared with where the last fit puts its surface point, and the cell's
correspondence is moved by the mean of its pixels' residuals, those far off left out (Geman-McClure). At the end of
the rounds that is the fit to all pixels, the pixels of a cell sharing one derivative. Within a cell noise averages out, and
wrong pixels do not take part; whole wrong cells are for the solver's own robust loss.

**Noise.** Nobody tells how exact a field is: drawn ones are within a hundredth of a pixel, predicted ones several pixels
off. σ is estimated from what the cells' residuals are after each round, over the degrees of freedom that the modes
leave (MacKay 1992, Bayesian interpolation), which is what the balance between the field and the prior depends on.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from geometry.fit import fit_landmarks
from geometry.fit_result import Fit, FitConfig
from geometry.morphable_model import MorphableModel, SurfacePoints
from render.correspondence import FieldTemplate
from render.surface_lookup import SurfaceLookup

_MOST_ROUNDS = 6  # three or four are usual: σ of a drawn field falls by a factor of ten with each
_SAME_NOISE = 0.1  # relative change of σ at which another round would change nothing
_PIXELS_A_CELL = 36  # looked at; of larger cells an even grid of pixels is
_LEAST_NOISE_PX = 0.01  # the z-buffer's grid of 1/256 px, seen over a slope
_OUTLIER = 3.0  # standard deviations at which the pull of a pixel, and of a cell, has fallen to a quarter
_RAYLEIGH_MEDIAN = np.sqrt(2 * np.log(2))  # of a distance in the plane, in standard deviations of each coordinate
_POSE_UNKNOWNS = 6
_LEAST_FREE = 0.1  # share of the coordinates that counts as left over whatever the modes take


@dataclass(frozen=True, slots=True)
class FieldFitter:
    """A model with the template that its fields are drawn with, prepared for many fields."""

    model: MorphableModel
    lookup: SurfaceLookup

    @classmethod
    def of(cls, model: MorphableModel, template: FieldTemplate) -> "FieldFitter":
        """Raises ValueError for a template of another model."""
        if len(template.uv) != model.n_vertices:
            raise ValueError(
                f"the template places {len(template.uv)} vertices and {model.name} has {model.n_vertices}: "
                "field and model must belong together, in one choice of the model's parts"
            )
        return cls(model, SurfaceLookup.of_template(template))

    def fit(
        self,
        uv: Float[np.ndarray, "h w 2"],
        is_face: Bool[np.ndarray, "h w"],
        *,
        n_points: int = 1000,
        source_id: str = "0",
    ) -> Fit:
        """As :func:`fit_field`."""
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1):  # sums do not depend on how many threads share a product
            return self._fit(uv, is_face, n_points, source_id)

    def _fit(self, uv: np.ndarray, is_face: np.ndarray, n_points: int, source_id: str) -> Fit:
        if n_points < 1:
            raise ValueError(f"a fit to {n_points} points of a field has none; a thousand are usual")
        pixels = _Pixels.of(self.lookup, uv, is_face, n_points)
        config = FitConfig(loss="geman_mcclure", loss_width=_OUTLIER, max_steps=100)

        def solved(correspondences: _Correspondences, noise_px: float | None) -> Fit:
            fit = fit_landmarks(
                self.model,
                correspondences.places_px,
                image_size_hw=(is_face.shape[0], is_face.shape[1]),
                weights=correspondences.weights,
                points=correspondences.points,
                config=config.model_copy(update={"noise_px": noise_px}),
                source_ids=source_id,
            )
            if isinstance(fit, list):
                raise TypeError("one field has one fit")
            return fit

        if not pixels.n_cells:
            return solved(_no_correspondences(self.model), None)
        fit, noise_px = solved(pixels.middles(), None), np.inf
        for _ in range(_MOST_ROUNDS - 1):
            if not fit.result.has_face:
                break
            correspondences, spread_px = pixels.compared_with(self._seen(fit, pixels))
            before, noise_px = noise_px, _noise(fit, spread_px, pixels.n_cells)
            fit = solved(correspondences, noise_px)
            if abs(noise_px / before - 1) < _SAME_NOISE:
                break
        return fit

    def _seen(self, fit: Fit, pixels: "_Pixels") -> Float[np.ndarray, "n 2"]:
        """Where the fit puts the surface point of every pixel."""
        vertices = fit.camera.project(self.model.vertices(fit.coefficients).astype(np.float64))[:, :2]
        return np.einsum("pc,pcx->px", pixels.points.weights, vertices[pixels.points.corners])


def fit_field(
    model: MorphableModel,
    template: FieldTemplate,
    uv: Float[np.ndarray, "h w 2"],
    is_face: Bool[np.ndarray, "h w"],
    *,
    n_points: int = 1000,
    source_id: str = "0",
) -> Fit:
    """Fit pose, identity and expression to one face's correspondence field, drawn or predicted.

    template  what the field was drawn with, or a network's training fields were
    uv        (u^h, u^v); noise and wrong values are expected
    is_face   the pixels that count: a field's ``is_face``, and with several faces ``field.face_index == k`` as well
    n_points  how many correspondences are made of them, at most; the time grows in proportion
    Returns the fit to these correspondences: its `landmarks_px` are their places in the picture, `points` what they show,
    and ``config.noise_px`` how exact the field was found to be (σ of a correspondence). No face pixel with a surface
    point, or too few, is a fit with a result code, as of :func:`geometry.fit.fit_landmarks`.

    Whoever fits field after field makes a :class:`FieldFitter` once.

    Raises ValueError for a template of another model.
    """
    return FieldFitter.of(model, template).fit(uv, is_face, n_points=n_points, source_id=source_id)


@dataclass(frozen=True, slots=True)
class _Correspondences:
    """What the solver is given: what is seen, where, and how much that counts."""

    points: SurfacePoints
    places_px: Float[np.ndarray, "c 2"]
    weights: Float[np.ndarray, " c"]


def _no_correspondences(model: MorphableModel) -> _Correspondences:
    """Landmarks of which none is known: the solver has a result for that."""
    n = len(model.landmark_vertices)
    return _Correspondences(model.landmarks, np.full((n, 2), np.nan), np.ones(n))


@dataclass(frozen=True, slots=True)
class _Pixels:
    """The face's pixels that are looked at, sorted by cell.

    places_px  (n 2) x, y
    points     what each of them shows
    cell       (n,) 0 … n_cells − 1, ascending
    full       how many pixels a cell has that is all face
    """

    places_px: Float[np.ndarray, "n 2"]
    points: SurfacePoints
    cell: Int[np.ndarray, " n"]
    n_cells: int
    full: float

    @classmethod
    def of(cls, lookup: SurfaceLookup, uv: np.ndarray, is_face: np.ndarray, n_points: int) -> "_Pixels":
        """Those that have a surface point, in at most `n_points` cells."""
        side = max(np.sqrt(is_face.sum() / n_points), 1.0)
        step = max(int(side / np.sqrt(_PIXELS_A_CELL)), 1)
        rows, columns = np.nonzero(is_face[::step, ::step])
        rows, columns = rows * step, columns * step
        points, found = lookup.points(uv[rows, columns])
        rows, columns = rows[found], columns[found]
        while True:  # cells of the rim are not full, so there are more of them than their size says
            number = (rows / side).astype(np.int64) * is_face.shape[1] + (columns / side).astype(np.int64)
            cells, cell = np.unique(number, return_inverse=True)
            if len(cells) <= n_points:
                break
            side *= 1.05 * np.sqrt(len(cells) / n_points)
        order = np.argsort(cell, kind="stable")
        chosen = SurfacePoints(points.corners[found][order], points.weights[found][order])
        places = np.stack([columns, rows], axis=1).astype(np.float64)[order]
        return cls(places, chosen, cell[order], len(cells), max((side / step) ** 2, 1.0))

    def middles(self) -> _Correspondences:
        """Of each cell the pixel nearest to the middle of its pixels, by the share of the cell that is face."""
        counts = np.bincount(self.cell)
        middle = np.stack([np.bincount(self.cell, of) for of in self.places_px.T], axis=1) / counts[:, None]
        chosen = self._least(np.linalg.norm(self.places_px - middle[self.cell], axis=1))
        return self._of(chosen, self.places_px[chosen], counts)

    def compared_with(self, seen_px: Float[np.ndarray, "n 2"]) -> tuple[_Correspondences, float]:
        """Of each cell: the pixel that stands for it, its surface point where all pixels of the cell put it.

        `seen_px` is where a fit puts the pixels' surface points. The second value is the cells' residual: the σ, in each
        coordinate, of a normal distribution with the same median.
        """
        residual = self.places_px - seen_px
        distance = np.linalg.norm(residual, axis=1)
        width = _OUTLIER * max(float(np.median(distance)) / _RAYLEIGH_MEDIAN, _LEAST_NOISE_PX)
        pull = (1 + (distance / width) ** 2) ** -2
        total = np.bincount(self.cell, pull)
        mean = np.stack([np.bincount(self.cell, pull * residual[:, k]) for k in range(2)], axis=1) / total[:, None]
        chosen = self._least(np.linalg.norm(residual - mean[self.cell], axis=1))
        spread = float(np.median(np.linalg.norm(mean, axis=1)) / _RAYLEIGH_MEDIAN)
        return self._of(chosen, seen_px[chosen] + mean, total), spread

    def _of(self, chosen: np.ndarray, places_px: np.ndarray, n_pixels: np.ndarray) -> _Correspondences:
        points = SurfacePoints(self.points.corners[chosen], self.points.weights[chosen])
        return _Correspondences(points, places_px, np.minimum(n_pixels / self.full, 1.0))

    def _least(self, values: Float[np.ndarray, " n"]) -> Int[np.ndarray, " c"]:
        """The pixel of each cell with the least value."""
        order = np.lexsort((values, self.cell))
        counts = np.bincount(self.cell)
        return order[np.cumsum(counts) - counts]


def _noise(fit: Fit, spread_px: float, n_cells: int) -> float:
    """σ of a cell's correspondence, from the residuals that are left after some of the coordinates were spent on modes."""
    left = 1 - (fit.determined_modes + _POSE_UNKNOWNS) / (2 * n_cells)
    return max(spread_px / float(np.sqrt(max(left, _LEAST_FREE))), _LEAST_NOISE_PX)
