"""Trained systems as ONNX: from a crop to what the system predicts, in pixels of the crop, checked against torch.

What goes in is ``images``, float32 (n 3 S S) in [0, 1], crops cut as the data set cut them; what comes out has the names of
:data:`OUTPUTS`. Post-processing that is no network (landmarks read from DenseReg's field, pose) is not in the file.

ONNX knows no sparse products and another antialiased resize than torch. A mesh's matrices become gathered rows, and resizing
becomes a product with torch's own weights, so that both give the same numbers.
"""

import copy
import json
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from geometry.extras import how_to_get
from storage.whole_files import write_atomically
from train.graph_layers import padded_rows
from train.prediction import Predictor
from train.restore import Restored
from train.system import System

OPSET = 18
OUTPUTS: Mapping[str, tuple[str, ...]] = {
    "prnet": ("position_map", "landmarks_px"),
    "mesh_gcn": ("vertices_px", "landmarks_px"),
    "dan": ("landmarks_px",),
    "fan3d": ("heatmaps", "landmarks_px"),
    "densereg": ("uv", "label"),
}
"""Of a network with depth also ``depth``; of one that learnt parts ``part`` alone."""

TOLERANCE_PX = 0.02
"""Largest difference from torch that is let pass: rounding in float32 over tens of layers."""

_N_CHECKED = 2
_MOST_TIES = 0.05


class MissingOnnx(RuntimeError):
    """The packages that write and run ONNX are not installed."""


class ExportDiffers(RuntimeError):
    """The exported network does not give what torch gives."""


@dataclass(frozen=True, slots=True)
class Exported:
    """A written file: names of its outputs, and the largest difference of each from torch, in its own unit."""

    path: Path
    size_mb: float
    differences: Mapping[str, float]


def export_onnx(restored: Restored, path: str | os.PathLike[str], *, seed: int = 0) -> Exported:
    """Write a system as ONNX and run the file: it is kept only when it gives what torch gives.

    Compared on random pictures with smooth faces of colour; where a network's decision is a tie (an argmax), a pixel may
    differ, so shares of pixels are compared for labels. Raises MissingOnnx, ExportDiffers.
    """
    path = Path(path)
    _require("onnx", "onnxscript", "onnxruntime")
    import onnxruntime

    names = output_names(restored.system)
    crop_px = restored.data.crop_px
    module = ExportedSystem(restored.system, names, crop_px=crop_px).eval()
    pictures = _pictures(crop_px, seed)
    private = path.with_name(f".{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with torch.no_grad(), _quiet():
            program = torch.onnx.export(
                module,
                (pictures,),
                dynamo=True,
                input_names=["images"],
                output_names=list(names),
                dynamic_shapes={"images": {0: torch.export.Dim("n", min=1, max=4096)}},
                opset_version=OPSET,
                verbose=False,
            )
        assert program is not None
        program.model.metadata_props.update(_about(restored))
        program.save(str(private))
        session = onnxruntime.InferenceSession(str(private), providers=["CPUExecutionProvider"])
        differences = compared(restored, module, session, names, pictures)
        write_atomically(path, private.read_bytes())
    finally:
        private.unlink(missing_ok=True)
        private.with_name(private.name + ".data").unlink(missing_ok=True)
    return Exported(path, path.stat().st_size / 1e6, differences)


def output_names(system: System) -> tuple[str, ...]:
    """What a system's file gives."""
    if system.name == "densereg" and getattr(system.config, "kind", "") == "parts":
        return ("part",)
    return OUTPUTS.get(system.name, ("landmarks_px",)) + (
        ("depth",) if getattr(system.config, "depth", False) is True else ()
    )


class ExportedSystem(nn.Module):
    """A system's way from crops to its outputs, of operations that ONNX has."""

    def __init__(self, system: System, names: tuple[str, ...], *, crop_px: int) -> None:
        super().__init__()
        self.system = copy.copy(system)
        # The copy has padded rows wherever the network has sparse matrices, which cannot be copied.
        sparse = [matrix for matrix in system.network.buffers() if matrix.layout == torch.sparse_csr]
        self.network = copy.deepcopy(system.network, {id(matrix): padded_rows(matrix) for matrix in sparse})
        self.system.network = self.network
        self.names = names
        size = getattr(system.config, "size_px" if system.name == "fan3d" else "resolution", None)
        if system.name in ("fan3d", "densereg") and size is not None:
            weights = resize_weights(crop_px, size)  # a constant: worked out in the graph it would be ONNX's own resize
            self.system.at_network_size = lambda images: weights @ images @ weights.T  # type: ignore[attr-defined]

    def forward(self, images: Float[Tensor, "n 3 s s"]) -> tuple[Tensor, ...]:
        """The outputs in the order of their names."""
        system = self.system
        match system.name:
            case "prnet":
                return system.predict_maps(images), system.predict_landmarks(images)  # type: ignore[attr-defined]
            case "mesh_gcn":
                vertices = system.predict_vertices(images)  # type: ignore[attr-defined]
                return vertices, vertices[:, system.state()["landmark_vertices"]]
            case "densereg":
                fields = system.predict_fields(images)  # type: ignore[attr-defined]
                return tuple(fields[name] for name in self.names)
            case "fan3d":
                heatmaps = system.heatmaps_of(system.at_network_size(images))  # type: ignore[attr-defined]
                return heatmaps, system.predict_landmarks(images)
            case _:
                return (system.predict_landmarks(images),)


def compared(
    restored: Restored, module: nn.Module, session: object, names: tuple[str, ...], pictures: Float[Tensor, "n 3 s s"]
) -> dict[str, float]:
    """The largest difference of each output from torch's own prediction. Raises ExportDiffers."""
    with torch.no_grad():
        expected = dict(zip(names, module(pictures), strict=True))
        own = Predictor(restored).system.predict_landmarks(pictures)
    found = dict(zip(names, session.run(None, {"images": pictures.numpy()}), strict=True))  # type: ignore[attr-defined]
    differences = {}
    for name, values in expected.items():
        mine, theirs = values.double().numpy(), found[name].astype(np.float64)
        if mine.shape != theirs.shape:
            raise ExportDiffers(f"{name} has shape {theirs.shape} in ONNX and {mine.shape} in torch")
        if name in ("label", "part"):
            differences[name] = float((mine != theirs).mean())
            limit = 0.01
        else:
            both = np.isfinite(mine) & np.isfinite(theirs)
            away = np.abs(mine - theirs)[both]
            limit = {"uv": 1e-4, "depth": 1e-3, "heatmaps": 1e-3}.get(name, TOLERANCE_PX)
            differences[name] = float(away.max(initial=0.0))
            if name == "uv" and away.size:  # a pixel between two bins may go either way: most must agree, and closely
                differences[name] = float(np.median(away)) if (away > limit).mean() < _MOST_TIES else float(away.max())
            if (np.isfinite(mine) != np.isfinite(theirs)).mean() > 0.01:
                raise ExportDiffers(f"{name} is unknown at other places in ONNX than in torch")
        if name == "landmarks_px" and restored.system.name == "fan3d":
            differences[name] = float(np.median(np.abs(mine - theirs)))  # the maximum of a flat heatmap is anywhere
        if differences[name] > limit:
            raise ExportDiffers(f"{name} differs by {differences[name]:.3g} from torch, more than {limit:g}")
    if "landmarks_px" in expected and restored.system.name != "fan3d":
        whole = float((expected["landmarks_px"].double() - own.double()).abs().max())
        if whole > TOLERANCE_PX:
            raise ExportDiffers(f"what was exported gives landmarks {whole:.3g} px from the system's own")
    return differences


def resize_weights(side: int, size: int) -> Float[Tensor, "z s"]:
    """W with W · image · Wᵀ = the picture at another side: bilinear, corners on corners, smoothed where it shrinks.

    Torch's own weights: what it makes of the unit vectors.
    """
    if side == size:
        return torch.eye(side)
    return functional.interpolate(
        torch.eye(side)[None, None], size=(size, side), mode="bilinear", align_corners=True, antialias=size < side
    )[0, 0]


def _pictures(crop_px: int, seed: int) -> Float[Tensor, "n 3 s s"]:
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.rand(_N_CHECKED, 3, 8, 8, generator=rng)
    return functional.interpolate(coarse, size=(crop_px, crop_px), mode="bicubic").clamp(0, 1)


def _about(restored: Restored) -> dict[str, str]:
    data = restored.data
    return {
        "facefoundry_system": restored.system.name,
        "checkpoint_sha256": restored.sha256,
        "crop": json.dumps({"size_px": data.crop_px, "margin": data.margin, "longest_px": data.longest_px}),
        "landmark_indices": json.dumps(list(restored.system.landmark_indices)),
        "licences": "; ".join(data.licences),
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter's notes about packages that nobody needs here, and about its own deprecations."""
    log = logging.getLogger("torch.onnx")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(before)


def _require(*packages: str) -> None:
    from importlib.util import find_spec

    lacking = [package for package in packages if find_spec(package) is None]
    if lacking:
        raise MissingOnnx(f"{', '.join(lacking)} is not installed: {how_to_get('onnx')}")
