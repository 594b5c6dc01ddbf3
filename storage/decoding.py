"""Targets that are worked out on reading. A new one is a function and an entry in :data:`DECODERS`.

A position map is linear in the parameters (see :mod:`render.position_map`), so a parametric data set stores about a
kilobyte where a materialised one stores a map, and a batch is decoded as one matrix product.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, runtime_checkable

import numpy as np

from geometry.morphable_model import Coefficients, MorphableModel
from storage.manifest import ModelInfo
from storage.schema import DerivedTarget

Arrays = Mapping[str, np.ndarray]


@runtime_checkable
class Constants(Protocol):
    """What a decoder may need beside the samples."""

    def table(self, name: str) -> np.ndarray:
        """A constant array of the data set."""
        ...

    def model(self) -> MorphableModel:
        """The morphable model that the data set's parameters belong to."""
        ...


Decode = Callable[[Arrays, int], np.ndarray]
"""(stored targets of a batch, how many samples) -> the derived target of the batch."""


@dataclass(frozen=True, slots=True)
class Decoder:
    """`prepare(constants)` is called once for each reader and gives the function that decodes batches."""

    needs: tuple[str, ...]
    prepare: Callable[[Constants], Decode]
    needs_model: bool = False


class MissingModel(FileNotFoundError):
    """The morphable model of a parametric data set is not at hand."""


def models_folder_of(version_folder: Path) -> Path:
    """Where the models of a version lie: ``<out>/models`` for ``<out>/<name>/<version>``."""
    return version_folder.absolute().parent.parent / "models"


def model_file_name(info: ModelInfo) -> str:
    """The file in that folder that holds the model."""
    return f"{info.fingerprint}.ffmodel.npz"


def find_model(info: ModelInfo, models_folder: Path) -> MorphableModel:
    """The model of that fingerprint: the converted one in `models_folder`, or the built-in one.

    A file is read in full when a process opens it for the first time: a damaged one would give maps that look right.
    Raises MissingModel, which says how to bring it, and ValueError for a file that is damaged or holds another model.
    """
    path = models_folder / model_file_name(info)
    if path.is_file():
        status = path.stat()
        return _verified_model(path, info.fingerprint, (status.st_ino, status.st_size, status.st_mtime_ns))
    return _built_in_model(info, models_folder)


def check_model(info: ModelInfo, models_folder: Path, *, full: bool) -> None:
    """Raise what :func:`find_model` would, of the file as it is now; without `full`, its contents are not read."""
    path = models_folder / model_file_name(info)
    if path.is_file():
        _open_model(path, info.fingerprint, full=full)
    else:
        _built_in_model(info, models_folder)


@lru_cache(maxsize=4)
def _verified_model(path: Path, fingerprint: str, status: tuple[int, int, int]) -> MorphableModel:
    return _open_model(path, fingerprint, full=True)


def _open_model(path: Path, fingerprint: str, *, full: bool) -> MorphableModel:
    from geometry.model_archive import open_model  # here, because reading stored targets alone needs no model

    model = open_model(path, verify=full)
    if model.fingerprint != fingerprint:
        raise ValueError(
            f"{path.name} holds the model {model.fingerprint}, not that of its name: delete it and import it again"
        )
    return model


def _built_in_model(info: ModelInfo, models_folder: Path) -> MorphableModel:
    from geometry.models import load_model

    path = models_folder / model_file_name(info)
    built_in = load_model("built-in")
    if built_in.fingerprint == info.fingerprint:
        return built_in
    raise MissingModel(
        f"the position maps of this data set are parameters of the model {info.name!r}, and {path.name} is not in "
        f"{models_folder}: run `facefoundry model import FILES --out {models_folder.parent}` with that model's files "
        f"(fingerprint {info.fingerprint}), or copy the file from where the data set was built"
    )


def _prepare_position_map(constants: Constants) -> Decode:
    from render.atlas_raster import AtlasRaster
    from render.position_map import decode_position_maps

    model = constants.model()
    raster = AtlasRaster.from_tables(
        constants.table("atlas_corners"), constants.table("atlas_weights"), constants.table("atlas_covered")
    )

    def decode(stored: Arrays, n_samples: int) -> np.ndarray:
        if not n_samples:
            return np.zeros((0, raster.size, raster.size, 3), dtype=np.float32)
        vertices = model.vertices(Coefficients(stored["identity"], stored["expression"]))
        affines, mirrored = stored["crop_from_model"], stored["mirrored"].astype(bool)
        return decode_position_maps(raster, vertices, affines, mirrored=mirrored, mirror=model.mirror)

    return decode


def _prepare_coverage(constants: Constants) -> Decode:
    covered = constants.table("atlas_covered").astype(bool)

    def decode(stored: Arrays, n_samples: int) -> np.ndarray:
        return np.broadcast_to(covered, (n_samples, *covered.shape))

    return decode


DECODERS: Mapping[str, Decoder] = MappingProxyType(
    {
        "position_map_from_parameters": Decoder(
            needs=("identity", "expression", "crop_from_model", "mirrored"),
            prepare=_prepare_position_map,
            needs_model=True,
        ),
        "coverage_of_atlas": Decoder(needs=(), prepare=_prepare_coverage),
    }
)


def decoder_of(target: DerivedTarget) -> Decoder:
    """The decoder that a target names. Raises ValueError for one that this program does not have."""
    if target.decoder not in DECODERS:
        raise ValueError(
            f"target {target.name} is decoded by {target.decoder!r}, which this program does not know "
            f"({', '.join(DECODERS)}): update facefoundry, or read the other targets alone"
        )
    return DECODERS[target.decoder]
