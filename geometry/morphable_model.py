"""The morphable model: coefficients in, vertices out.

``vertices = mean_shape + identity_basis · identity + expression_basis · expression`` (Blanz and Vetter 1999, eq. 1;
the expression term as in Zhu et al. 2016, eq. 1). Lengths are millimetres. Coefficients keep **the file's own scaling**
(for 300W-LP and BFM 2009: already multiplied by σ, so the first is of the order of 5e5); :meth:`Coefficients.in_stddevs`
gives the scaling in which every coefficient has spread one.
"""

import abc
import hashlib
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Float, Float32, Int, Int32, Shaped, UInt8

from geometry.mesh import Mesh, check_triangles

REGION_NAMES = ("other", "eyes", "nose", "mouth", "brows", "ears", "neck", "forehead", "cheek_jaw")
"""What ``model.regions[v]`` counts: the index of vertex v's region in this list, for every model."""


@dataclass(frozen=True, slots=True)
class Coefficients:
    """Identity and expression of one face, or of many (leading batch dimensions), in the model file's own scaling."""

    identity: Float[np.ndarray, "*n k_id"]
    expression: Float[np.ndarray, "*n k_exp"]

    def in_stddevs(self, model: "MorphableModel") -> "Coefficients":
        """The same face with every coefficient divided by its standard deviation."""
        return Coefficients(self.identity / model.identity_stddevs, self.expression / model.expression_stddevs)

    @classmethod
    def from_stddevs(
        cls, model: "MorphableModel", identity: Float[np.ndarray, "*n k_id"], expression: Float[np.ndarray, "*n k_exp"]
    ) -> "Coefficients":
        """Coefficients given in standard deviations, brought to the model file's own scaling."""
        return cls(identity * model.identity_stddevs, expression * model.expression_stddevs)


@dataclass(frozen=True, slots=True)
class SurfacePoints:
    """Points on a mesh: point p is ``Σ_k weights[p, k] · vertices[corners[p, k]]``, the weights of a point sum to one."""

    corners: Int32[np.ndarray, "p 3"]
    weights: Float[np.ndarray, "p 3"]

    @classmethod
    def at_vertices(cls, indices: Int[np.ndarray, " p"]) -> "SurfacePoints":
        """The vertices themselves as surface points."""
        corners = np.repeat(np.asarray(indices, dtype=np.int32)[:, None], 3, axis=1)
        return cls(corners, np.tile(np.array([1.0, 0.0, 0.0]), (len(corners), 1)))


@dataclass(frozen=True, slots=True)
class LinearRows:
    """The linear model of some surface points alone: everything a landmark fit needs, and nothing of the other vertices.

    ``position[p] = mean[p] + identity[p] @ c_id + expression[p] @ c_exp`` in millimetres, coefficients in the file's scaling.
    """

    mean: Float[np.ndarray, "p 3"]
    identity: Float[np.ndarray, "p 3 k_id"]
    expression: Float[np.ndarray, "p 3 k_exp"]

    def positions(self, coefficients: Coefficients) -> Float[np.ndarray, "*n p 3"]:
        """The points of the given faces, model frame."""
        offset = coefficients.identity @ _columns(self.identity) + coefficients.expression @ _columns(self.expression)
        return self.mean + offset.reshape(*offset.shape[:-1], *self.mean.shape)


def _columns(rows: np.ndarray) -> np.ndarray:
    return rows.reshape(-1, rows.shape[-1]).T


class MorphableModel(abc.ABC):
    """What every 3DMM of this project offers; :class:`DenseModel` and the built-in model are two implementations.

    Attributes every model has:

    name, licence            for people
    triangles                (T 3) counter-clockwise from outside
    closing_triangles        (C 3) close the slit of the mouth and other inner holes **in the atlas only** (PRNet's `tri_mouth`)
    landmark_vertices        (68,) the fixed vertices of the 68 iBUG points
    regions                  (V,) index into :data:`REGION_NAMES`
    mirror                   (V,) the vertex on the other side of the face, or None where the model does not know
    identity_stddevs, expression_stddevs   (K,) the spread of each coefficient, in the coefficients' own scaling
    uv                       (V 2) an atlas that comes with the model, or None
    """

    name: str
    licence: str
    triangles: Int32[np.ndarray, "t 3"]
    closing_triangles: Int32[np.ndarray, "c 3"]
    landmark_vertices: Int32[np.ndarray, "68"]
    regions: UInt8[np.ndarray, " v"]
    mirror: Int32[np.ndarray, " v"] | None
    identity_stddevs: Float[np.ndarray, " k_id"]
    expression_stddevs: Float[np.ndarray, " k_exp"]
    uv: Float[np.ndarray, "v 2"] | None

    @property
    @abc.abstractmethod
    def fingerprint(self) -> str:
        """32 hexadecimal digits of the content: equal fingerprints give equal vertices, whatever the file's name."""

    @property
    @abc.abstractmethod
    def mean_shape(self) -> Float32[np.ndarray, "v 3"]:
        """The mean identity with the mean expression (mm)."""

    @abc.abstractmethod
    def vertices(self, coefficients: Coefficients) -> Float32[np.ndarray, "*n v 3"]:
        """Every vertex of the given faces (mm); a batch is one matrix product."""

    @abc.abstractmethod
    def rows(self, points: SurfacePoints) -> LinearRows:
        """The linear model of `points` alone, in float64."""

    @property
    def n_vertices(self) -> int:
        """How many vertices a face has."""
        return len(self.regions)

    @property
    def n_identity(self) -> int:
        """How many identity coefficients there are (199 for BFM 2009)."""
        return len(self.identity_stddevs)

    @property
    def n_expression(self) -> int:
        """How many expression coefficients there are (29 for 300W-LP)."""
        return len(self.expression_stddevs)

    @property
    def landmarks(self) -> SurfacePoints:
        """The 68 fixed landmarks as surface points."""
        return SurfacePoints.at_vertices(self.landmark_vertices)

    def mesh(self, coefficients: Coefficients) -> Mesh:
        """One face as a mesh in the model frame."""
        return Mesh(self.vertices(coefficients), self.triangles)

    def neutral(self) -> Coefficients:
        """The coefficients of the mean face."""
        return Coefficients(np.zeros(self.n_identity), np.zeros(self.n_expression))

    def check(self, coefficients: Coefficients) -> None:
        """Raise ValueError when `coefficients` belong to a model with another number of modes."""
        got = (coefficients.identity.shape[-1], coefficients.expression.shape[-1])
        if got != (self.n_identity, self.n_expression):
            raise ValueError(
                f"{got[0]} identity and {got[1]} expression coefficients do not fit {self.name}, which has "
                f"{self.n_identity} and {self.n_expression}: they were made for another model"
            )


@dataclass(frozen=True)
class DenseModel(MorphableModel):
    """A morphable model with its bases written out: BFM of any year, or whatever was imported.

    identity_basis (K_id, 3V) and expression_basis (K_exp, 3V) are stored mode by mode, xyz interleaved, in millimetres
    per unit of coefficient: a batch of faces is one product ``coefficients @ basis``.
    """

    name: str
    licence: str
    mean: Float32[np.ndarray, "v 3"]
    identity_basis: Float32[np.ndarray, "k_id v3"]
    expression_basis: Float32[np.ndarray, "k_exp v3"]
    identity_stddevs: Float[np.ndarray, " k_id"]
    expression_stddevs: Float[np.ndarray, " k_exp"]
    triangles: Int32[np.ndarray, "t 3"]
    landmark_vertices: Int32[np.ndarray, "68"]
    regions: UInt8[np.ndarray, " v"]
    closing_triangles: Int32[np.ndarray, "c 3"] = field(default_factory=lambda: np.zeros((0, 3), np.int32))
    mirror: Int32[np.ndarray, " v"] | None = None
    uv: Float[np.ndarray, "v 2"] | None = None

    def __post_init__(self) -> None:
        """Refuse tables that do not belong together."""
        n = len(self.mean)
        for what, basis, stddevs in (
            ("identity", self.identity_basis, self.identity_stddevs),
            ("expression", self.expression_basis, self.expression_stddevs),
        ):
            if basis.shape != (len(stddevs), 3 * n):
                raise ValueError(f"{what} basis {basis.shape} does not fit {len(stddevs)} modes of {n} vertices")
        check_triangles(self.triangles, n)
        check_triangles(self.closing_triangles, n)

    @cached_property
    def fingerprint(self) -> str:
        """32 hexadecimal digits over every table; an imported file states its own, and nothing is hashed again."""
        arrays = (
            self.mean, self.identity_basis, self.expression_basis, self.identity_stddevs, self.expression_stddevs,
            self.triangles, self.landmark_vertices, self.regions, self.closing_triangles, self.mirror, self.uv,
        )  # fmt: skip
        return fingerprint_of(arrays)

    @property
    def mean_shape(self) -> Float32[np.ndarray, "v 3"]:
        """The mean identity with the mean expression (mm)."""
        return self.mean

    def vertices(self, coefficients: Coefficients) -> Float32[np.ndarray, "*n v 3"]:
        """Every vertex of the given faces (mm), by two dense products."""
        self.check(coefficients)
        flat = coefficients.identity.astype(np.float32) @ self.identity_basis
        flat += coefficients.expression.astype(np.float32) @ self.expression_basis
        flat += self.mean.reshape(-1)
        return flat.reshape(*flat.shape[:-1], -1, 3)

    def rows(self, points: SurfacePoints) -> LinearRows:
        """The bases' rows at the points' corners, mixed."""

        def at_points(basis: np.ndarray) -> np.ndarray:  # (k, 3v) -> (p 3 k)
            corners = basis.reshape(len(basis), -1, 3)[:, points.corners].astype(np.float64)  # (k p 3 xyz)
            return np.einsum("kpcx,pc->pxk", corners, points.weights)

        mean = np.einsum("pcx,pc->px", self.mean[points.corners].astype(np.float64), points.weights)
        return LinearRows(mean, at_points(self.identity_basis), at_points(self.expression_basis))


def fingerprint_of(arrays: tuple[Shaped[np.ndarray, "..."] | None, ...]) -> str:
    """32 hexadecimal digits over dtypes, shapes and bytes, in order; None counts as its own value."""
    digest = hashlib.sha256()
    for array in arrays:
        if array is None:
            digest.update(b"none;")
            continue
        array = np.ascontiguousarray(array)
        digest.update(f"{array.dtype.str}{array.shape};".encode())
        digest.update(array.data)
    return digest.hexdigest()[:32]
