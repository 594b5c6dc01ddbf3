"""The built-in morphable model: an invented head that ships with the package, so that everything runs without a BFM.

71,134 vertices in eight parts, 199 identity and 29 expression modes, derived from CC0 data: `docs/built-in-model.md`
tells what it is and is not. Shapes are evaluated on a cage of 4,405 vertices and subdivided by a constant sparse
matrix, a fifth of the time of a dense basis; :meth:`BuiltInModel.dense` writes the basis out for whoever needs it.

Coefficients are scaled as 300W-LP's files scale the BFM's: basis columns of unit length over the whole template in
micrometres, coefficients already multiplied by their standard deviation. Restricted to the skin the columns are
therefore shorter than one and not quite orthogonal.
"""

# mypy: disable-error-code="override"
# A model's tables are attributes, and here worked out when they are asked for: nobody assigns to either.
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Float32, Int32, UInt8

from geometry.built_in_file import PARTS, BuiltInFile, built_in_file
from geometry.face_units import draw_unit_weights, unit_weights
from geometry.hole_closing import close_inner_loops
from geometry.mesh import submesh
from geometry.morphable_model import Coefficients, DenseModel, LinearRows, MorphableModel, SurfacePoints

RECIPE = 1
"""Part of the fingerprint: raised by hand when the same file gives other vertices or tables than before."""

UM_PER_MM = 1000.0
HEADS_PER_PRODUCT = 8  # columns enough for the processor's vectors, and a product that stays in its cache

ATLAS_PARTS = frozenset({"skin", "eye_cavity", "mouth_cavity"})


def load_built_in(parts: Literal["skin", "all"] | Sequence[str] = ("skin",)) -> "BuiltInModel":
    """The built-in model restricted to some of :data:`PARTS`; the skin alone (53,099 vertices) is what labels use.

    Raises ValueError for an unknown part and for a selection without the skin, which carries the 68 landmarks.
    """
    names = {"skin": ("skin",), "all": PARTS}.get(parts, (parts,)) if isinstance(parts, str) else tuple(parts)
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        raise ValueError(f"the built-in model has no part {unknown[0]!r}; it has {', '.join(PARTS)}")
    if "skin" not in names:
        raise ValueError(f"parts {list(names)} lack 'skin', which carries the 68 landmarks: select it too")
    return _load(tuple(name for name in PARTS if name in names))


@lru_cache(maxsize=4)
def _load(parts: tuple[str, ...]) -> "BuiltInModel":
    return BuiltInModel(built_in_file(), parts)


@dataclass(frozen=True, eq=False)
class BuiltInModel(MorphableModel):
    """The built-in model with some of its parts; tables and modes are decoded when first asked for.

    Vertex v of this model is vertex ``template_vertices[v]`` of the whole template, so two selections of parts can be
    brought together; `parts` keep the template's order.
    """

    file: BuiltInFile
    parts: tuple[str, ...]

    name = "built-in"
    licence = "CC0-1.0"

    def __reduce__(self) -> tuple[type, tuple[BuiltInFile, tuple[str, ...]]]:
        """A worker process loads the model itself: nothing decoded is sent to it."""
        return BuiltInModel, (self.file, self.parts)

    @cached_property
    def fingerprint(self) -> str:  # noqa: D102
        content = f"{self.file.meta['content_sha256']} {' '.join(self.parts)} recipe {RECIPE}"
        return hashlib.sha256(content.encode()).hexdigest()[:32]

    # ------------------------------------------------------------------------------------------ tables

    @cached_property
    def _kept(self) -> Bool[np.ndarray, "template"]:
        return np.isin(self.file.part, [PARTS.index(name) for name in self.parts])

    @cached_property
    def template_vertices(self) -> Int32[np.ndarray, "v"]:
        """The index in the whole template of every vertex of this model, ascending."""
        return np.flatnonzero(self._kept).astype(np.int32)

    @cached_property
    def _submesh(self) -> tuple[Int32[np.ndarray, "t 3"], Int32[np.ndarray, "template"]]:
        return submesh(self.file.triangles, self._kept)

    @cached_property
    def triangles(self) -> Int32[np.ndarray, "t 3"]:
        """(T 3) counter-clockwise from outside; the parts are separate surfaces but for skin, sockets and mouth bag."""
        return self._submesh[0]

    @cached_property
    def closing_triangles(self) -> Int32[np.ndarray, "c 3"]:
        """(C 3) close the openings of eyes and mouth in the atlas; none where there is no atlas."""
        if self.uv is None:
            return np.zeros((0, 3), dtype=np.int32)
        return close_inner_loops(self.uv, self.triangles)

    @cached_property
    def landmark_vertices(self) -> Int32[np.ndarray, "68"]:
        """(68,) the fixed vertices of the 68 iBUG points."""
        return self._submesh[1][self.file.landmarks]

    @cached_property
    def regions(self) -> UInt8[np.ndarray, "v"]:
        """(V,) index into `REGION_NAMES`."""
        return self.file.region[self._kept]

    @cached_property
    def part(self) -> UInt8[np.ndarray, "v"]:
        """(V,) index into :data:`PARTS`."""
        return self.file.part[self._kept]

    @cached_property
    def mirror(self) -> Int32[np.ndarray, "v"] | None:
        """(V,) the vertex on the other side, an exact involution; None where one eyeball was left out."""
        mirror = self._submesh[1][self.file.mirror[self._kept]]
        return None if (mirror < 0).any() else mirror

    @cached_property
    def uv(self) -> Float[np.ndarray, "v 2"] | None:
        """The model's own atlas, free of folds, or None where a part without one is selected (eyeballs, teeth, tongue).

        Every triangle has positive area (u right, v up) and the face is seen from the front: the subject's left cheek
        lies at u > 0.5, on the viewer's right, and the chin at the bottom.
        """
        return self.file.uv[self.template_vertices] if ATLAS_PARTS.issuperset(self.parts) else None

    @cached_property
    def identity_stddevs(self) -> Float[np.ndarray, "k_id"]:
        """(199,) the spread of each identity coefficient, in the coefficients' own scaling (µm)."""
        return self.file.identity_sd * UM_PER_MM

    @cached_property
    def expression_stddevs(self) -> Float[np.ndarray, "k_exp"]:
        """(29,) the root mean square of each expression coefficient about the neutral face, in the same scaling."""
        return self.file.expression_sd * UM_PER_MM

    # ------------------------------------------------------------------------------------------ shapes

    def decode(self) -> None:
        """Decode what shapes are made of now, not when it is first asked for: processes forked from this one share it."""
        _ = self._subdivision, self._identity_modes, self._expression_modes, self.file.cage_mean, self.mirror
        _ = self.identity_stddevs, self.expression_stddevs, self.landmark_vertices

    @cached_property
    def _subdivision(self) -> sp.csr_matrix:
        return self.file.subdivision[self.template_vertices]

    @cached_property
    def _identity_modes(self) -> Float32[np.ndarray, "k_id n3"]:
        return _modes_mm(self.file.identity_modes, self.file.meta["identity_step"])

    @cached_property
    def _expression_modes(self) -> Float32[np.ndarray, "k_exp n3"]:
        return _modes_mm(self.file.expression_modes, self.file.meta["expression_step"])

    @cached_property
    def mean_shape(self) -> Float32[np.ndarray, "v 3"]:  # noqa: D102
        return self._subdivide(self.file.cage_mean.reshape(-1))

    def vertices(self, coefficients: Coefficients) -> Float32[np.ndarray, "*n v 3"]:
        """Every vertex of the given faces (mm): one small product on the cage, one sparse product to the surface."""
        self.check(coefficients)
        z = coefficients.in_stddevs(self)
        cage = z.identity.astype(np.float32) @ self._identity_modes
        cage = cage + z.expression.astype(np.float32) @ self._expression_modes
        return self._subdivide(cage + self.file.cage_mean.reshape(-1))

    def _subdivide(self, cage: Float32[np.ndarray, "*n n3"]) -> Float32[np.ndarray, "*n v 3"]:
        heads = cage.reshape(-1, cage.shape[-1] // 3, 3)
        surface = np.empty((len(heads), len(self.template_vertices), 3), dtype=np.float32)
        for start in range(0, len(heads), HEADS_PER_PRODUCT):
            block = heads[start : start + HEADS_PER_PRODUCT]
            columns = np.ascontiguousarray(block.transpose(1, 0, 2)).reshape(heads.shape[1], -1)  # (n, heads · xyz)
            surface[start : start + len(block)] = (
                (self._subdivision @ columns).reshape(-1, len(block), 3).transpose(1, 0, 2)
            )
        return surface.reshape(*cage.shape[:-1], *surface.shape[1:])

    def rows(self, points: SurfacePoints) -> LinearRows:
        """The linear model of `points` alone, in float64, from the integers of the file."""
        n_points = len(points.corners)
        row = np.repeat(np.arange(n_points), 3)
        shape = (n_points, len(self.template_vertices))
        from_surface = sp.csr_matrix((points.weights.ravel(), (row, points.corners.ravel())), shape)
        from_cage = from_surface @ self._subdivision.astype(np.float64)
        columns = np.unique(from_cage.indices)  # a point is a combination of some twenty cage vertices
        from_cage = from_cage[:, columns]

        def at_points(modes: np.ndarray, step: float, stddevs: np.ndarray) -> np.ndarray:  # (k 3 n) -> (p 3 k)
            on_cage = modes[:, :, columns].astype(np.float64).transpose(2, 1, 0) * (step / stddevs)
            return (from_cage @ on_cage.reshape(len(columns), -1)).reshape(n_points, 3, -1)

        file = self.file
        return LinearRows(
            from_cage @ file.cage_mean[columns].astype(np.float64),
            at_points(file.identity_modes, file.meta["identity_step"], self.identity_stddevs),
            at_points(file.expression_modes, file.meta["expression_step"], self.expression_stddevs),
        )

    def dense(self) -> DenseModel:
        """The same model with its bases written out: 145 MB for the skin."""

        def basis(modes: np.ndarray, stddevs: np.ndarray) -> np.ndarray:
            columns = self._subdivide(modes).reshape(len(modes), -1)
            columns /= stddevs.astype(np.float32)[:, None]
            return columns

        return DenseModel(
            name=self.name,
            licence=self.licence,
            mean=self.mean_shape,
            identity_basis=basis(self._identity_modes, self.identity_stddevs),
            expression_basis=basis(self._expression_modes, self.expression_stddevs),
            identity_stddevs=self.identity_stddevs,
            expression_stddevs=self.expression_stddevs,
            triangles=self.triangles,
            landmark_vertices=self.landmark_vertices,
            regions=self.regions,
            closing_triangles=self.closing_triangles,
            mirror=self.mirror,
            uv=self.uv,
        )

    # ------------------------------------------------------------------------------------------ invented people

    def draw_identity(self, rng: np.random.Generator, *, spread: float = 0.85) -> Float[np.ndarray, "k_id"]:
        """Identity coefficients of an invented person; at a `spread` of 1 the odd mouth is not human any more."""
        return rng.normal(size=self.n_identity) * (spread * self.identity_stddevs)

    def draw_expression(self, rng: np.random.Generator) -> Float[np.ndarray, "k_exp"]:
        """Expression coefficients of a natural expression: units are drawn, then projected to the modes.

        Never draw the modes themselves: half of every mode is the opposite of an expression, an inverted mouth.
        """
        return self.expression_from_units(self.draw_units(rng))

    @property
    def unit_names(self) -> tuple[str, ...]:
        """The names of the 52 face units (ARKit's), in the order of their weights."""
        return tuple(self.file.meta["units52"])

    @property
    def expression_presets(self) -> dict[str, dict[str, float]]:
        """Named everyday expressions as weights of face units, for :meth:`unit_weights`."""
        return dict(self.file.meta["presets"])

    def unit_weights(self, expression: Mapping[str, float]) -> Float[np.ndarray, "u"]:
        """Weights of the 52 units from names, ``{"mouthSmile": 0.8}``: see :func:`geometry.face_units.unit_weights`."""
        return unit_weights(self.unit_names, expression)

    def draw_units(self, rng: np.random.Generator) -> Float[np.ndarray, "u"]:
        """Weights in [0, 1] of a natural expression: one or two presets and up to four weak single units."""
        return draw_unit_weights(rng, self.unit_names, list(self.expression_presets.values()))

    def expression_from_units(self, weights: Float[np.ndarray, "*n u"]) -> Float[np.ndarray, "*n k_exp"]:
        """Expression coefficients nearest to the given activations of the 52 face units (least squares)."""
        return weights @ self.file.unit_to_expression.T.astype(np.float64) * self.expression_stddevs

    # ------------------------------------------------------------------------------------------ left and right

    def mirror_vertices(self, vertices: Float[np.ndarray, "*n v 3"]) -> Float[np.ndarray, "*n v 3"]:
        """The mirrored faces, vertices re-indexed, so that the left ear's vertices lie on the left ear again."""
        if self.mirror is None:
            raise ValueError(f"parts {list(self.parts)} have one eyeball without the other: nothing to mirror it to")
        return vertices[..., self.mirror, :] * np.array([-1, 1, 1], dtype=vertices.dtype)

    def mirror_coefficients(self, coefficients: Coefficients) -> Coefficients:
        """The mirrored faces as coefficients: the least-squares projection of their mirrored shapes, over all parts.

        Identity goes to identity and expression to expression; the mean's own asymmetry goes to identity. The modes
        are not closed under mirroring, so a residue stays: 0.075 mm rms on the skin (`docs/built-in-model.md`).
        Over the skin alone it would be 0.06, but teeth and tongue would pay 0.4 mm for that.
        """
        self.check(coefficients)
        z, mirroring = coefficients.in_stddevs(self), _mirroring(self.file)
        return Coefficients.from_stddevs(
            self, z.identity @ mirroring.identity.T + mirroring.of_mean, z.expression @ mirroring.expression.T
        )


def _modes_mm(steps: np.ndarray, step: float) -> Float32[np.ndarray, "k n3"]:
    """(k 3 n) integers as displacements in mm at one standard deviation, xyz interleaved along the cage."""
    return steps.transpose(0, 2, 1).reshape(len(steps), -1) * np.float32(step)


@dataclass(frozen=True, slots=True)
class _Mirroring:
    """Linear maps of coefficients in standard deviations to those of the mirrored face, and what the mean adds."""

    identity: Float[np.ndarray, "k_id k_id"]
    expression: Float[np.ndarray, "k_exp k_exp"]
    of_mean: Float[np.ndarray, "k_id"]


@lru_cache(maxsize=1)
def _mirroring(file: BuiltInFile) -> _Mirroring:
    """The normal equations, kept on the cage: SᵀS and SᵀPS with the mirror's permutation P are small."""
    subdivision = file.subdivision.astype(np.float64)
    gram, cross = subdivision.T @ subdivision, subdivision.T @ subdivision[file.mirror]  # (n n), sparse

    def normal_equations(modes: np.ndarray, mean: np.ndarray) -> tuple[np.ndarray, ...]:
        count = len(modes)
        lhs, rhs, of_mean = np.zeros((count, count)), np.zeros((count, count)), np.zeros(count)
        for axis, sign in enumerate((-1.0, 1.0, 1.0)):
            m, x = modes[:, axis].astype(np.float64), mean[:, axis].astype(np.float64)
            lhs += m @ (gram @ m.T)
            rhs += sign * (m @ (cross @ m.T))
            of_mean += m @ (sign * (cross @ x) - gram @ x)
        return lhs, rhs, of_mean

    mean = file.cage_mean / np.float32(file.meta["identity_step"])
    lhs, rhs, of_mean = normal_equations(file.identity_modes, mean)
    solved = np.linalg.solve(lhs, np.column_stack([rhs, of_mean]))
    lhs, rhs, _ = normal_equations(file.expression_modes, mean)
    return _Mirroring(solved[:, :-1], np.linalg.solve(lhs, rhs), solved[:, -1])
