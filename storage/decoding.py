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
from jaxtyping import Shaped

from geometry.morphable_model import Coefficients, MorphableModel
from storage.local_store import copied_here
from storage.manifest import ModelInfo
from storage.schema import DerivedTarget, Schema
from storage.store import Place
from storage.stores import store_at

Arrays = Mapping[str, np.ndarray]


@runtime_checkable
class Constants(Protocol):
    """What a decoder may need beside the samples."""

    @property
    def schema(self) -> Schema:
        """All targets of the data set."""
        ...

    def table(self, name: str) -> Shaped[np.ndarray, "..."]:
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


def models_folder_of(version: Place) -> Place:
    """Where the models of a version lie: ``<out>/models`` for ``<out>/<name>/<version>``."""
    return (version.absolute() if isinstance(version, Path) else version).parent.parent / "models"


def model_file_name(info: ModelInfo) -> str:
    """The file in that folder that holds the model."""
    from geometry.model_archive import SUFFIX  # here, because reading stored targets alone needs no model

    return f"{info.fingerprint}{SUFFIX}"


def find_model(info: ModelInfo, models_folder: Place) -> MorphableModel:
    """The model of that fingerprint: the converted one in `models_folder`, or the built-in one.

    A file is read in full when a process opens it for the first time: a damaged one would give maps that look right.
    Raises MissingModel, which says how to bring it, and ValueError for a file that is damaged or holds another model.
    """
    path = _file_at_hand(info, models_folder)
    if path.is_file():
        status = path.stat()
        return _verified_model(path, info.fingerprint, (status.st_ino, status.st_size, status.st_mtime_ns))
    return _built_in_model(info, models_folder)


def check_model(info: ModelInfo, models_folder: Place, *, full: bool) -> None:
    """Raise what :func:`find_model` would, of the file as it is now; without `full`, its contents are not read."""
    path = _file_at_hand(info, models_folder)
    if path.is_file():
        _open_model(path, info.fingerprint, full=full)
    else:
        _built_in_model(info, models_folder)


def _file_at_hand(info: ModelInfo, models_folder: Place) -> Path:
    """The model's file, fetched into the user's cache where the data set lies in an object store."""
    if isinstance(models_folder, Path):
        return models_folder / model_file_name(info)
    return copied_here(
        store_at(models_folder), model_file_name(info), Path.home() / ".cache" / "facefoundry" / "models"
    )


@lru_cache(maxsize=4)
def _verified_model(path: Path, fingerprint: str, status: tuple[int, int, int]) -> MorphableModel:
    """Read in full once; `status` (inode, size, time of change) tells a file that took its place."""
    return _open_model(path, fingerprint, full=True)


def _open_model(path: Path, fingerprint: str, *, full: bool) -> MorphableModel:
    from geometry.model_archive import open_model

    model = open_model(path, verify=full)
    if model.fingerprint != fingerprint:
        raise ValueError(
            f"{path.name} holds the model {model.fingerprint}, not that of its name: delete it and import it again"
        )
    return model


def _built_in_model(info: ModelInfo, models_folder: Place) -> MorphableModel:
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


def _prepare_cropped_photograph(constants: Constants) -> Decode:
    from geometry.frames import Similarity2D
    from render.crop import warp_image
    from storage.images import PictureRoom, decode_rgba

    size_px = constants.schema["image"].sample_shape[0]

    def decode(stored: Arrays, n_samples: int) -> np.ndarray:
        pictures = np.empty((n_samples, 3, size_px, size_px), dtype=np.uint8)
        room = PictureRoom()
        for picture, content, matrix in zip(pictures, stored["photograph"], stored["crop_from_image"], strict=True):
            crop = warp_image(decode_rgba(content, room=room), Similarity2D(matrix), size_px=size_px)
            picture[...] = np.moveaxis(crop, -1, 0)
        return np.moveaxis(pictures, 1, -1)

    return decode


def _of_each_face(
    name: str, draw: Callable[[np.ndarray, tuple[int, int]], np.ndarray]
) -> Callable[[Constants], Decode]:
    """A decoder that calls ``draw(landmarks_px, size_hw)`` for each sample of the target `name`."""

    def prepare(constants: Constants) -> Decode:
        target = constants.schema[name]
        size_hw, dtype = (target.sample_shape[0], target.sample_shape[1]), np.dtype(target.dtype)
        shape = (*target.sample_shape[2:], *size_hw)  # one picture behind the other

        def decode(stored: Arrays, n_samples: int) -> np.ndarray:
            pictures = np.empty((n_samples, *shape), dtype=dtype)
            for picture, landmarks_px in zip(pictures, stored["landmarks_px"], strict=True):
                picture[:] = draw(landmarks_px, size_hw)
            return np.moveaxis(pictures, 1, -1) if len(shape) > 2 else pictures

        return decode

    return prepare


def _dan_heatmap(landmarks_px: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    from render.heatmaps import distance_heatmap

    return distance_heatmap(landmarks_px[:, :2], size_hw=size_hw)


def _landmark_discs(landmarks_px: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    from render.heatmaps import disc_radius, part_discs

    height = float(np.ptp(landmarks_px[:, 1]))
    return part_discs(landmarks_px[:, :2], size_hw=size_hw, radius_px=disc_radius(height))


def _landmark_heatmaps(landmarks_px: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    from render.heatmaps import gaussian_heatmaps

    return gaussian_heatmaps(landmarks_px[:, :2], size_hw=size_hw)


def _prepare_landmark_z(constants: Constants) -> Decode:
    from render.heatmaps import z_targets

    def decode(stored: Arrays, n_samples: int) -> np.ndarray:
        landmarks = stored["landmarks_px"]
        return np.stack([z_targets(sample) for sample in landmarks]) if n_samples else landmarks[..., 2]

    return decode


DECODERS: Mapping[str, Decoder] = MappingProxyType(
    {
        "position_map_from_parameters": Decoder(
            needs=("identity", "expression", "crop_from_model", "mirrored"),
            prepare=_prepare_position_map,
            needs_model=True,
        ),
        "image_from_photograph": Decoder(needs=("photograph", "crop_from_image"), prepare=_prepare_cropped_photograph),
        "coverage_of_atlas": Decoder(needs=(), prepare=_prepare_coverage),
        "dan_heatmap": Decoder(needs=("landmarks_px",), prepare=_of_each_face("dan_heatmap", _dan_heatmap)),
        "landmark_discs": Decoder(needs=("landmarks_px",), prepare=_of_each_face("landmark_discs", _landmark_discs)),
        "landmark_heatmaps": Decoder(
            needs=("landmarks_px",), prepare=_of_each_face("landmark_heatmaps", _landmark_heatmaps)
        ),
        "landmark_z": Decoder(needs=("landmarks_px",), prepare=_prepare_landmark_z),
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
