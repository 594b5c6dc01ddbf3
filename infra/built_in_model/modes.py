"""Modes of shape: a Gaussian process morphable model (Lüthi et al. 2018, Gaussian Process Morphable Models).

Covariance = 6,000 random people made of MakeHuman's targets + smooth kernels of three scales, mostly symmetric. All of
it lives on the cage, the base vertices that carry the template; products are taken in the fine space, through SᵀS.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from geometry.face_units import draw_unit_weights
from infra.built_in_model.identities import PRESETS, Identities, expression_units
from infra.built_in_model.template import Template
from infra.built_in_model.wheel import Wheel

N_PEOPLE, N_EXPRESSIONS = 6000, 6000
N_IDENTITY_MODES, N_EXPRESSION_MODES = 199, 29

# Base vertices of hm08 that the template uses beyond the body.
HELPER_EYES = ((14598, 14669), (14670, 14741))
TEETH = (14992, 15127)
END_OF_BODY = 13380


@dataclass(frozen=True, slots=True)
class Scale:
    """One Gaussian kernel: length, standard deviation (dm), features kept, inducing points."""

    length_dm: float
    stddev_dm: float
    n_kept: int
    n_inducing: int


SCALES = (Scale(0.60, 0.018, 30, 120), Scale(0.25, 0.010, 90, 260), Scale(0.11, 0.0035, 170, 420))
FINE_DM = 0.2  # kernels shorter than this leave lids and teeth alone
SYMMETRIC_SHARE, ASYMMETRIC_SHARE = 0.9, 0.1


@dataclass(frozen=True, slots=True)
class ShapeModes:
    """The model on the cage, in decimetres; modes have unit length over the template's vertices."""

    cage: np.ndarray  # (n,) the base vertices it consists of
    from_cage: sp.csr_matrix  # (v n)
    mean: np.ndarray  # (n 3)
    identity: np.ndarray  # (199 n 3) float32
    identity_stddevs: np.ndarray
    expression: np.ndarray  # (29 n 3) float32
    expression_stddevs: np.ndarray
    unit_names: list[str]
    units: np.ndarray  # (52 n 3) float32


def build(wheel: Wheel, template: Template, *, seed: int = 0) -> ShapeModes:
    """Draw people and expressions, add the kernels, and keep the leading modes."""
    cage = np.unique(template.from_base.indices)
    from_cage = template.from_base[:, cage].tocsr()
    gram = (from_cage.T @ from_cage).tocsr()
    rng = np.random.default_rng(seed)

    # People: mean and covariance in the space of weights, where no shape needs to be stored
    identities = Identities(wheel)
    targets = identities.targets(wheel, cage)
    people = np.stack([identities.draw(rng) for _ in range(N_PEOPLE)])
    mean = wheel.base.vertices[cage] + np.tensordot(people.mean(0), targets, 1)
    variance, directions = np.linalg.eigh(np.cov(people.T))
    kept = variance > 1e-9
    of_people = np.tensordot(directions[:, kept].T * np.sqrt(variance[kept])[:, None], targets, 1)

    features = np.concatenate([of_people, _kernel_features(cage, mean)])
    features = _without_rigid_motion(features, mean, np.flatnonzero(cage < END_OF_BODY))
    identity, identity_stddevs = _leading_modes(features, gram, N_IDENTITY_MODES)

    # Expressions: second moment about the neutral face
    unit_names, units = expression_units(wheel, cage)
    drawn = np.stack([draw_unit_weights(rng, unit_names, list(PRESETS.values())) for _ in range(N_EXPRESSIONS)])
    moment, directions = np.linalg.eigh(drawn.T @ drawn / len(drawn))
    kept = moment > 1e-10
    features = np.tensordot(directions[:, kept].T * np.sqrt(moment[kept])[:, None], units, 1)
    expression, expression_stddevs = _leading_modes(features, gram, N_EXPRESSION_MODES)

    return ShapeModes(
        cage=cage,
        from_cage=from_cage,
        mean=mean,
        identity=identity.astype(np.float32),
        identity_stddevs=identity_stddevs,
        expression=expression.astype(np.float32),
        expression_stddevs=expression_stddevs,
        unit_names=unit_names,
        units=units.astype(np.float32),
    )


def _leading_modes(features: np.ndarray, gram: sp.csr_matrix, n_modes: int) -> tuple[np.ndarray, np.ndarray]:
    """Modes (k n 3) of unit length in the fine space, and their standard deviations."""
    m, n = features.shape[:2]
    columns = features.transpose(1, 0, 2).reshape(n, -1)  # (n, m · xyz)
    weighted = (gram @ columns).reshape(n, m, 3)
    inner = np.einsum("ikc,ijc->kj", columns.reshape(n, m, 3), weighted, optimize=True)
    variance, directions = np.linalg.eigh((inner + inner.T) / 2)
    leading = np.argsort(-variance)[:n_modes]
    modes = np.tensordot((directions[:, leading] / np.sqrt(variance[leading])).T, features, 1)
    return modes, np.sqrt(variance[leading])


def _kernel_features(cage: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """(m n 3) displacement fields whose outer products sum to the kernels' covariance."""
    eyes = [np.flatnonzero((cage >= first) & (cage <= last)) for first, last in HELPER_EYES]
    teeth = np.flatnonzero((cage >= TEETH[0]) & (cage <= TEETH[1]))
    points = mean.copy()
    for eye in eyes:  # an eyeball moves with its centre and keeps its form
        points[eye] = mean[eye].mean(0)
    features = []
    for scale in SCALES:
        fade = np.ones(len(mean))
        if scale.length_dm < FINE_DM:
            for eye in eyes:
                distance = np.linalg.norm(mean - mean[eye].mean(0), axis=1)
                fade *= 1 / (1 + np.exp(-(distance - 0.30) / 0.03))
            fade[teeth] = 0
        even = _nystroem(points, scale, parity=1) * fade[:, None]
        odd = _nystroem(points, scale, parity=-1) * fade[:, None]
        # a symmetric change moves x oddly about the midline, y and z evenly
        for functions, axes, share in (
            (odd, (0,), SYMMETRIC_SHARE),
            (even, (1, 2), SYMMETRIC_SHARE),
            (even, (0,), ASYMMETRIC_SHARE),
            (odd, (1, 2), ASYMMETRIC_SHARE),
        ):
            for axis in axes:
                field = np.zeros((functions.shape[1], len(mean), 3))
                field[:, :, axis] = (functions * scale.stddev_dm * np.sqrt(2 * share)).T
                features.append(field)
    return np.concatenate(features)


def _nystroem(points: np.ndarray, scale: Scale, *, parity: int) -> np.ndarray:
    """(n r) functions f with f·fᵀ ≈ the Gaussian kernel made even (parity 1) or odd (−1) about x = 0."""
    half = points[points[:, 0] > -1e-6]
    inducing = half[_farthest_points(half, min(scale.n_inducing, len(half)))]

    def gaussian(p: np.ndarray, q: np.ndarray) -> np.ndarray:
        squared = np.maximum((p**2).sum(1)[:, None] + (q**2).sum(1)[None] - 2 * p @ q.T, 0)
        return np.exp(-squared / (2 * scale.length_dm * scale.length_dm))

    def kernel(p: np.ndarray, q: np.ndarray) -> np.ndarray:
        return 0.5 * (gaussian(p, q) + parity * gaussian(p, q * [-1, 1, 1]))

    within, across = kernel(inducing, inducing), kernel(points, inducing)
    variance, directions = np.linalg.eigh(within + 1e-8 * np.eye(len(inducing)))
    leading = np.argsort(-variance)[: scale.n_kept]
    leading = leading[variance[leading] > 1e-6 * variance[leading[0]]]
    return across @ directions[:, leading] / np.sqrt(variance[leading])


def _farthest_points(points: np.ndarray, count: int) -> np.ndarray:
    """Indices of `count` well spread points, from the first on."""
    chosen, distance = [0], np.full(len(points), np.inf)
    for _ in range(count - 1):
        distance = np.minimum(distance, ((points - points[chosen[-1]]) ** 2).sum(1))
        chosen.append(int(distance.argmax()))
    return np.array(chosen)


def _without_rigid_motion(features: np.ndarray, mean: np.ndarray, face: np.ndarray) -> np.ndarray:
    """Take out of each field its linearised rigid motion, as measured on the cage's body vertices `face`."""
    centre = mean[face].mean(0)
    motions = _rigid_motions(mean - centre)
    to_motion = np.linalg.pinv(_rigid_motions(mean[face] - centre).reshape(-1, 6))
    amount = features[:, face].reshape(len(features), -1) @ to_motion.T
    return features - np.einsum("ncr,kr->knc", motions, amount)


def _rigid_motions(points: np.ndarray) -> np.ndarray:
    """(n 3 6) three translations and three infinitesimal rotations about the origin."""
    motions = np.zeros((len(points), 3, 6))
    for axis in range(3):
        motions[:, axis, axis] = 1
    x, y, z = points.T
    motions[:, 1, 3], motions[:, 2, 3] = -z, y
    motions[:, 0, 4], motions[:, 2, 4] = z, -x
    motions[:, 0, 5], motions[:, 1, 5] = -y, x
    return motions
