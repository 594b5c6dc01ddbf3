"""A made-up face with the Basel models' numbers of vertices, and writers of every model file format.

The face is an egg with a nose, lopsided so that a flip shows; its vertices are numbered at random except that the
landmarks and the 275 vertices of the inner mouth have the numbers that they have in BFM 2009.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import scipy.io

from geometry.model_tables import CUT_LANDMARKS, N_CUT, N_WHOLE, WHOLE_LANDMARKS

OUTER, SLIT = 512, 78
N_IDENTITY, N_EXPRESSION = 6, 4


def ring_mesh(sizes: list[int], *, radii: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rings of so many vertices, from outside in, stitched: (n 2) polar (radius, angle), triangles toward +z."""
    angles = [2 * np.pi * (np.arange(size) + 0.5 * (k % 2)) / size for k, size in enumerate(sizes)]
    polar = np.concatenate([np.stack([np.full(len(a), r), a], axis=1) for a, r in zip(angles, radii, strict=True)])
    starts = np.concatenate([[0], np.cumsum(sizes)])
    triangles = [_stitch(starts[k], sizes[k], starts[k + 1], sizes[k + 1]) for k in range(len(sizes) - 1)]
    return polar, np.concatenate(triangles)


def _stitch(start_a: int, n_a: int, start_b: int, n_b: int) -> np.ndarray:
    """Triangles between the outer ring a and the inner ring b, by merging their angles."""
    if n_b == 1:
        i = np.arange(n_a)
        return np.stack([start_a + i, start_a + (i + 1) % n_a, np.full(n_a, start_b)], axis=1)
    order = np.argsort(np.concatenate([(np.arange(n_a) + 1) / n_a, (np.arange(n_b) + 1) / n_b]), kind="stable")
    steps_a = order < n_a
    i = np.cumsum(steps_a) - steps_a
    j = np.cumsum(~steps_a) - ~steps_a
    a, b = start_a + i % n_a, start_b + j % n_b
    third = np.where(steps_a, start_a + (i + 1) % n_a, start_b + (j + 1) % n_b)
    return np.stack([a, third, b], axis=1)


def _sizes(first: int, last: int, total: int) -> list[int]:
    """Ring sizes from `first` down to `last` that sum up to `total`."""
    n_rings = round(total / ((first + last) / 2))
    sizes = np.rint(np.linspace(first, last, n_rings)).astype(int)
    spare = total - sizes.sum()
    inner = np.arange(1, n_rings - 1)
    sizes[inner] += spare // len(inner)
    sizes[inner[: spare % len(inner)]] += 1
    assert (sizes.sum(), sizes[0], sizes[-1]) == (total, first, last)
    return sizes.tolist()


def _egg(polar: np.ndarray, slit_radius: float) -> np.ndarray:
    """Polar rings about the mouth as a face in mm: x right, y up, z toward the viewer."""
    radius, angle = polar.T
    share = np.clip((radius - slit_radius) / (1 - slit_radius), 0, 1)
    x = 85 * radius * np.cos(angle)
    height = (0.35 + 0.65 * share) * radius  # the slit of the mouth is flat
    y = (1 - share) * -68 + share * -22 + 112 * height * np.sin(angle)
    dome = 1 - 0.8 * ((x / 90) ** 2 + ((y + 22) / 118) ** 2)
    nose = 22 * np.exp(-((x / 9) ** 2) - ((y + 34) / 14) ** 2)
    z = 120 * np.sqrt(np.clip(dome, 0.01, None)) + nose + 1.5 * np.sin(x / 40) + 0.02 * y
    return np.stack([x, y, z], axis=1)


def landmark_places() -> np.ndarray:
    """Where the 68 points lie on the egg, (68 2) in mm."""
    jaw = np.radians(np.linspace(188, 352, 17))
    points = [(70 * np.cos(a), -7 + 103 * np.sin(a)) for a in jaw]
    brow = [(x, 22 + 5 * np.sin(k * np.pi / 4)) for k, x in enumerate((-56, -47, -37, -27, -17))]
    points += brow + [(-x, y) for x, y in reversed(brow)]
    points += [(0, 0), (0, -11), (0, -22), (0, -33)] + [(x, -43 - 0.1 * (12 - abs(x))) for x in (-12, -6, 0, 6, 12)]
    for centre in (-31, 31):
        points += [(centre + 11 * np.cos(a), 4 * np.sin(a)) for a in np.radians((180, 120, 60, 0, 300, 240))]
    points += [(26 * np.cos(a), -68 + 11 * np.sin(a)) for a in np.radians(np.arange(180, -180, -30))]
    points += [(19 * np.cos(a), -68 + 6.5 * np.sin(a)) for a in np.radians(np.arange(180, -180, -45))]
    return np.array(points)


def _nearest_distinct(places: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    chosen: list[int] = []
    for place in places:
        distance = np.linalg.norm(vertices[:, :2] - place, axis=1)
        distance[chosen] = np.inf
        chosen.append(int(distance.argmin()))
    return np.array(chosen)


def _left_out() -> np.ndarray:
    """275 vertices of the whole model, so many before each landmark as in BFM 2009."""
    order = np.argsort(CUT_LANDMARKS)
    whole, before = WHOLE_LANDMARKS[order], (WHOLE_LANDMARKS - CUT_LANDMARKS)[order]
    new = np.diff(before, prepend=0)
    return np.concatenate([np.arange(end - n, end) for end, n in zip(whole, new, strict=True)])


@dataclass(frozen=True)
class BaselFace:
    """What the files are written from: µm, indices from zero, triangles outward, modes as columns."""

    mean: np.ndarray  # (53490 3) f32
    triangles: np.ndarray  # (106466 3)
    trim: np.ndarray  # (53215,)
    identity: np.ndarray  # (160470 K) f32, unit columns
    sigma: np.ndarray
    mean_expression: np.ndarray  # (159645,)
    expression: np.ndarray  # (159645 K) f32, not of unit length
    sigma_expression: np.ndarray

    @property
    def trim_rows(self) -> np.ndarray:
        return (3 * self.trim[:, None] + np.arange(3)).ravel()

    @property
    def cut_triangles(self) -> np.ndarray:
        new = np.full(N_WHOLE, -1)
        new[self.trim] = np.arange(N_CUT)
        kept = new[self.triangles]
        return kept[(kept >= 0).all(axis=1)]

    @property
    def cut_mean(self) -> np.ndarray:
        return self.mean[self.trim]

    def slit(self) -> np.ndarray:
        """The 78 vertices of the mouth's slit, in the cut's numbering."""
        new = np.full(N_WHOLE, -1)
        new[self.trim] = np.arange(N_CUT)
        touching = (new[self.triangles] < 0).any(axis=1)
        return np.setdiff1d(np.unique(new[self.triangles[touching]]), [-1])

    def tri_mouth(self) -> np.ndarray:
        """(114 3) triangles over the slit, wound both ways, as the published ones are."""
        rng = np.random.default_rng(5)
        return np.stack([rng.choice(self.slit(), 3, replace=False) for _ in range(114)])

    def symlist(self) -> np.ndarray:
        """(2 26720) pairs over all vertices of the cut: 211 with themselves, 7 twice."""
        shuffled = np.random.default_rng(3).permutation(N_CUT)
        alone, rest = shuffled[:211], shuffled[211:].reshape(2, -1)
        return np.concatenate([np.stack([alone, alone]), rest, rest[:, :7]], axis=1)

    def segbin(self) -> np.ndarray:
        """(4 53215) nose, eyes, mouth, rest."""
        x, y, _ = self.cut_mean.T / 1000
        segment = np.full(N_CUT, 3)
        segment[(np.abs(y) < 30) & (np.abs(x) < 60)] = 1
        segment[((x / 32) ** 2 + ((y + 68) / 16) ** 2) < 1] = 2
        segment[(np.abs(x) < 15) & (np.abs(y + 25) < 25)] = 0
        return (segment == np.arange(4)[:, None]).astype(np.uint8)

    def uv(self) -> np.ndarray:
        low, high = self.cut_mean[:, :2].min(axis=0), self.cut_mean[:, :2].max(axis=0)
        return ((self.cut_mean[:, :2] - low) / (high - low)).astype(np.float64)


def make_face() -> BaselFace:
    rng = np.random.default_rng(11)
    rings, inner = _sizes(OUTER, SLIT, N_CUT), [70, 64, 56, 44, 30, 10, 1]
    radii = np.concatenate([np.linspace(1, 0.14, len(rings)), np.linspace(0.12, 0, len(inner))])
    polar, triangles = ring_mesh(rings + inner, radii=radii)
    egg = _egg(polar, 0.14)
    number = np.full(N_WHOLE, -1)
    left_out = _left_out()
    number[N_CUT:] = rng.permutation(left_out)
    landmarks = _nearest_distinct(landmark_places(), egg[:N_CUT])
    number[landmarks] = WHOLE_LANDMARKS
    free = np.setdiff1d(np.arange(N_WHOLE), number[number >= 0])
    number[number < 0] = rng.permutation(free)
    mean = np.empty((N_WHOLE, 3), np.float32)
    mean[number] = egg * 1000
    identity, _ = np.linalg.qr(rng.normal(size=(3 * N_WHOLE, N_IDENTITY)))
    return BaselFace(
        mean=mean,
        triangles=number[triangles],
        trim=np.setdiff1d(np.arange(N_WHOLE), left_out),
        identity=identity.astype(np.float32),
        sigma=np.array([8.8e5, 5.1e5, 3.6e5, 2.2e5, 1.9e5, 1.5e5]),
        mean_expression=(500 * rng.normal(size=3 * N_CUT)).astype(np.float32),
        expression=(700 * rng.normal(size=(3 * N_CUT, N_EXPRESSION))).astype(np.float32),
        sigma_expression=np.array([1.6, 1.5, 0.9, 0.4]),
    )


# ---------------------------------------------------------------- MATLAB files; writers take changes to their variables


def _save(path: Path, variables: dict, changes: dict) -> Path:
    """Changes replace variables; a change to None leaves the variable out."""
    variables = {name: value for name, value in {**variables, **changes}.items() if value is not None}
    scipy.io.savemat(path, variables)
    return path


def _column(values: np.ndarray) -> np.ndarray:
    return np.asarray(values).reshape(-1, 1)


def _inward(triangles: np.ndarray) -> np.ndarray:
    return triangles[:, [1, 0, 2]]


def bfm2009(folder: Path, face: BaselFace, **changes) -> Path:
    variables = {
        "shapeMU": _column(face.mean),
        "shapePC": face.identity,
        "shapeEV": _column(face.sigma).astype(np.float32),
        "texMU": np.full((3 * N_WHOLE, 1), 127, np.float32),
        "tl": (_inward(face.triangles) + 1).astype(np.float64),
        "segMB": np.zeros((4, 4)),
    }
    return _save(folder / "01_MorphableModel.mat", variables, changes)


def lp_shape(folder: Path, face: BaselFace, **changes) -> Path:
    variables = {
        "mu_shape": _column(face.cut_mean),
        "w": face.identity[face.trim_rows],
        "sigma": _column(face.sigma),
        "tri": (_inward(face.cut_triangles) + 1).T.astype(np.float64),
        "keypoints": (CUT_LANDMARKS[None] + 1).astype(np.float64),
        "symlist": (face.symlist() + 1).astype(np.float64),
        "segbin": face.segbin(),
        "mu_tex": np.full((30, 1), 127.0),
    }
    return _save(folder / "Model_Shape.mat", variables, changes)


def lp_expression(folder: Path, face: BaselFace, name: str = "Model_Exp.mat", **changes) -> Path:
    variables = {
        "mu_exp": _column(face.mean_expression),
        "w_exp": face.expression,
        "sigma_exp": _column(face.sigma_expression),
    }
    return _save(folder / name, variables, changes)


def face3d(folder: Path, face: BaselFace, **changes) -> Path:
    fields = {
        "shapeMU": _column(face.cut_mean),
        "shapePC": face.identity[face.trim_rows],
        "shapeEV": _column(face.sigma),
        "expMU": _column(face.mean_expression),
        "expPC": face.expression,
        "expEV": _column(face.sigma_expression),
        "tri": (_inward(face.cut_triangles) + 1).T.astype(np.float64),
        "tri_mouth": (face.tri_mouth() + 1).T.astype(np.float64),
        "kpt_ind": (CUT_LANDMARKS[None] + 1).astype(np.float64),
    }
    fields = {name: value for name, value in {**fields, **changes}.items() if value is not None}
    return _save(folder / "BFM.mat", {"model": fields}, {})


def bfm_info(folder: Path, face: BaselFace, **changes) -> Path:
    """face3d's struct."""
    fields = {
        "trimIndex": _column(face.trim + 1).astype(np.float64),
        "kpt_ind": (CUT_LANDMARKS[None] + 1).astype(np.float64),
        "symlist": (face.symlist() + 1).astype(np.float64),
        "segbin": face.segbin(),
        "tri_mouth": (face.tri_mouth() + 1).T.astype(np.float64),
        **changes,
    }
    return _save(folder / "BFM_info.mat", {"model_info": fields}, {})


def model_info(folder: Path, face: BaselFace, **changes) -> Path:
    """3DDFA's flat file, whose segments are of the whole model."""
    whole = np.zeros((N_WHOLE, 4), np.uint8)
    whole[:, 3] = 1
    whole[face.trim] = face.segbin().T
    variables = {
        "trimIndex": _column(face.trim + 1).astype(np.uint16),
        "tri": (_inward(face.cut_triangles) + 1).T.astype(np.float64),
        "keypoints": (CUT_LANDMARKS[None] + 1).astype(np.float64),
        "symlist": (face.symlist() + 1).astype(np.float64),
        "segbin": whole,
    }
    return _save(folder / "model_info.mat", variables, changes)


def bfm_uv(folder: Path, face: BaselFace, **changes) -> Path:
    return _save(folder / "BFM_UV.mat", {"UV": face.uv()}, changes)


# ---------------------------------------------------------------- HDF5


@dataclass(frozen=True)
class Bfm2017:
    """What a BFM 2017 file is written from: mm, σ not variance."""

    mean: np.ndarray  # (28588 3) f32
    mean_expression: np.ndarray
    triangles: np.ndarray
    identity: np.ndarray  # (85764 K)
    sigma: np.ndarray
    expression: np.ndarray
    sigma_expression: np.ndarray
    landmarks: np.ndarray


def make_bfm2017(n_vertices: int = 28_588) -> Bfm2017:
    rng = np.random.default_rng(17)
    sizes = _sizes(420, 70, n_vertices)
    polar, triangles = ring_mesh(sizes, radii=np.linspace(1, 0.14, len(sizes)))
    number = rng.permutation(n_vertices)
    egg = _egg(polar, 0.14)
    mean = np.empty((n_vertices, 3), np.float32)
    mean[number] = egg
    identity, _ = np.linalg.qr(rng.normal(size=(3 * n_vertices, 5)))
    expression, _ = np.linalg.qr(rng.normal(size=(3 * n_vertices, 3)))
    return Bfm2017(
        mean=mean,
        mean_expression=(0.5 * rng.normal(size=(n_vertices, 3))).astype(np.float32),
        triangles=number[triangles],
        identity=identity.astype(np.float32),
        sigma=np.array([610.0, 410.0, 300.0, 180.0, 90.0]),
        expression=expression.astype(np.float32),
        sigma_expression=np.array([350.0, 200.0, 80.0]),
        landmarks=number[_nearest_distinct(landmark_places(), egg)],
    )


NAMED = {"center.nose.tip": 30, "right.eye.corner_outer": 36, "left.eye.corner_outer": 45, "center.chin.tip": 8}


def bfm2017(folder: Path, face: Bfm2017, *, named: dict[str, int] = NAMED, **changes) -> Path:
    """`changes` are keyed by data set, slashes written as two underscores; None leaves it out."""
    points = [{"id": name, "coordinates": face.mean[face.landmarks[index]].tolist()} for name, index in named.items()]
    points.append({"id": "right.ear.lobule", "coordinates": [0.0, 0.0, 0.0]})
    content = {
        "shape/model/mean": face.mean.ravel(),
        "shape/model/pcaBasis": face.identity,
        "shape/model/pcaVariance": (face.sigma**2).astype(np.float32),
        "shape/representer/cells": face.triangles.T.astype(np.int32),
        "shape/representer/points": face.mean.T,
        "expression/model/mean": face.mean_expression.ravel(),
        "expression/model/pcaBasis": face.expression,
        "expression/model/pcaVariance": (face.sigma_expression**2).astype(np.float32),
        "color/model/mean": np.full(30, 0.5, np.float32),
        "metadata/landmarks/json": json.dumps(points),
        **{name.replace("__", "/"): value for name, value in changes.items()},
    }
    path = folder / "model2017-1_face12_nomouth.h5"
    with h5py.File(path, "w") as file:
        for name, value in content.items():
            if value is not None:
                file[name] = value
    return path


def landmark_list(folder: Path, landmarks: np.ndarray, name: str = "landmarks68.txt") -> Path:
    path = folder / name
    path.write_text("\n".join(str(index) for index in landmarks.tolist()))
    return path
