"""What a build makes, apart from how it is built: a recipe for each kind of data set.

:mod:`flows.build` plans, locks, makes shards, resumes, verifies and publishes, and knows no target. What it builds is a
:class:`Recipe`. **A new kind of data set** is a config (frozen pydantic, with `name`, `shard_size` and whatever else
decides its bytes) and a recipe, and one line in :data:`RECIPES` or in a package's entry points. The order of calls:

* the plan, once, in the caller's process: ``listed(folder)`` → ``planned(config, model, pictures, files)`` →
  ``schema(…)``, ``tables()``. All that is costly happens here and goes into tables;
* a worker, once for each process: ``prepared(config, model, pictures, table)``, which reads the tables back;
* a worker, for each shard: ``read(pictures, read_file)`` → ``make_samples(…)`` → ``stored(sample)`` for each good
  sample, and ``collector()`` adds up numbers;
* publishing, once, with a recipe that was prepared again: ``merged(shards' numbers)`` and ``contact_sheet(dataset)``.

Bytes may depend on the arguments of these calls and on nothing else: no clock, no order of work, no number of workers.
A bad sample is a BadSample in its place, never an exception that ends a shard.
"""

import abc
import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from pydantic import BaseModel

from flows.config import BuildConfig
from geometry.morphable_model import MorphableModel
from storage.bad_sample import BadSample
from storage.dataset import ShardedDataset
from storage.manifest import ModelInfo
from storage.photographs import PhotographSource, fingerprint_photographs
from storage.processes import usable_cores
from storage.schema import Schema
from storage.sources import Source, check_sidecars, fingerprint_sources, open_source

ConfigT = TypeVar("ConfigT", bound=BaseModel)
PictureT = TypeVar("PictureT")
SampleT = TypeVar("SampleT")

ReadFile = Callable[["PlannedFile"], bytes]
"""A planned file's bytes, held to their digest. Raises SourceChanged."""
Table = Callable[[str], np.ndarray]
"""A constant array of the version, by its name."""


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """A file of the source: its path from the source's root, with slashes, and the sha256 that it was planned with."""

    name: str
    sha256: str
    n_bytes: int = 0
    """Its length, where it was just listed: the plan's list, which workers read, has none."""


@dataclass(frozen=True, slots=True)
class PlannedPicture:
    """One photograph of the plan: its files (the picture first, then what describes it), or why it is unusable."""

    source_id: str
    files: tuple[PlannedFile, ...] = ()
    code: str = ""
    reason: str = ""

    @property
    def bad(self) -> BadSample | None:
        """Why it cannot be used, known before anything was read."""
        return BadSample(self.code, self.reason) if self.code else None

    def listed(self) -> list[str]:
        """As a row of the plan's list: id, name and digest of each file (of two at least), code, reason."""
        files = [text for file in self.files for text in (file.name, file.sha256)]
        return [self.source_id, *files, *[""] * (4 - len(files)), self.code, self.reason]

    @classmethod
    def of_listed(cls, row: Sequence[str]) -> "PlannedPicture":
        """What :meth:`listed` wrote."""
        source_id, *files, code, reason = row
        pairs = zip(files[::2], files[1::2], strict=True)
        return cls(source_id, tuple(PlannedFile(name, sha256) for name, sha256 in pairs if name), code, reason)


@dataclass(frozen=True, slots=True)
class PlannedSource:
    """A source's pictures in the order of the plan, the unusable ones at its end; `kind` and `n_files` are for people.

    `sidecar_folders` are those that name the model of their coefficients.
    """

    root: Path
    kind: str
    n_files: int
    pictures: tuple[PlannedPicture, ...]
    sidecar_folders: tuple[Path, ...] = ()

    @classmethod
    def of(cls, listing: Source) -> "PlannedSource":
        """Every photograph of a listing with the digests of its files, then whatever the listing had to leave out."""
        pictures = []
        prefixes: dict[Path, str] = {}  # of each folder once: there are many files in few
        for item, found in zip(listing.items, fingerprint_sources(listing.items), strict=True):
            if isinstance(found, BadSample):
                pictures.append(PlannedPicture(item.source_id, code=found.code, reason=found.sentence))
                continue
            if item.folder not in prefixes:
                relative = item.folder.relative_to(listing.root).as_posix()
                prefixes[item.folder] = "" if relative == "." else f"{relative}/"
            names = (prefixes[item.folder] + name for name in item.names)
            files = tuple(PlannedFile(*file) for file in zip(names, found.sha256, found.n_bytes, strict=True))
            pictures.append(PlannedPicture(item.source_id, files))
        pictures += [PlannedPicture(r.source_id, code=r.code, reason=r.reason) for r in listing.rejected]
        n_files = sum(len(item.names) for item in listing.items)
        return cls(listing.root, listing.kind, n_files, tuple(pictures), listing.sidecar_folders)

    @classmethod
    def of_photographs(cls, listing: PhotographSource, *, kind: str) -> "PlannedSource":
        """The same of photographs with a file of landmarks beside each; `kind` is what the manifest calls them."""
        pictures = []
        for item, found in zip(listing.items, fingerprint_photographs(listing), strict=True):
            if isinstance(found, BadSample):
                pictures.append(PlannedPicture(item.source_id, code=found.code, reason=found.sentence))
                continue
            files = (PlannedFile(item.image, found.image_sha256), PlannedFile(item.landmarks, found.landmarks_sha256))
            pictures.append(PlannedPicture(item.source_id, files))
        pictures += [PlannedPicture(r.source_id, code=r.code, reason=r.reason) for r in listing.rejected]
        return cls(listing.root, kind, 2 * len(listing.items), tuple(pictures))

    def check_model(self, model: MorphableModel) -> None:
        """Raise ValueError when a folder says that its coefficients belong to another model."""
        check_sidecars(self.sidecar_folders, model)


@runtime_checkable
class Collector(Protocol):
    """Gathers the numbers of one shard."""

    def add(self, sample: Any) -> None:
        """Take in one good sample."""
        ...

    def result(self) -> dict[str, Any]:
        """The shard's numbers, JSON alone: sums, so that shards can be added up."""
        ...


class Recipe(abc.ABC, Generic[ConfigT, PictureT, SampleT]):
    """How the samples of one kind of data set are made; the module's docstring tells when each method is called.

    A picture gives :attr:`copies` samples or none. `PictureT` is what :meth:`read` makes of a photograph's files.
    """

    config_type: ClassVar[type[BaseModel]]
    """The class of its configs."""
    version: ClassVar[int]
    """Raised by hand whenever the same config and sources would give other bytes than before."""

    @property
    def copies(self) -> int:
        """Samples of each picture; they share a shard."""
        return 1

    # ------------------------------------------------------------------------------------------------------------ plan

    @classmethod
    def sample_source(cls, out: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> Path:
        """The embedded default: a small folder in 300W-LP's layout, drawn where it is missing.

        `progress` hears how much is done, and of how much.
        """
        return drawn_sample(out, progress)

    @classmethod
    def listed(cls, folder: Path) -> PlannedSource:
        """What lies in a source, with digests. Raises ValueError or OSError when it cannot be one."""
        return PlannedSource.of(open_source(folder))

    @classmethod
    @abc.abstractmethod
    def planned(
        cls, config: ConfigT, model: MorphableModel, pictures: Sequence[PlannedPicture], files: Mapping[str, Path]
    ) -> "Recipe[ConfigT, PictureT, SampleT]":
        """The recipe as the plan makes it, constant tables worked out.

        `files` are what the caller gave beside source and model (a mask, a template), by name: what is made of them
        goes into the tables, whose digests the plan holds. Raises ValueError for a config, model or file that does not
        go together with the others.
        """

    @abc.abstractmethod
    def schema(self, *, source_id_bytes: int) -> Schema:
        """The targets of a sample; the longest source id has so many bytes of UTF-8."""

    @abc.abstractmethod
    def tables(self) -> dict[str, np.ndarray]:
        """Constant arrays that lie beside the samples, by name."""

    def model_info(self, model: MorphableModel) -> ModelInfo:
        """What the manifest says of the labels' model."""
        return ModelInfo(name=model.name, fingerprint=model.fingerprint, licence=model.licence)

    # ---------------------------------------------------------------------------------------------------------- worker

    @classmethod
    @abc.abstractmethod
    def prepared(
        cls, config: ConfigT, model: MorphableModel, pictures: Sequence[PlannedPicture], table: Table
    ) -> "Recipe[ConfigT, PictureT, SampleT]":
        """The same recipe again, from the plan's tables."""

    @abc.abstractmethod
    def read(
        self, pictures: Sequence[PlannedPicture], root: Path, read_file: ReadFile
    ) -> Sequence[PictureT | BadSample]:
        """The files of these pictures (none of them bad), in order; `root` is where the source lies on this machine."""

    @abc.abstractmethod
    def make_samples(self, pictures: Iterable[PictureT | BadSample]) -> Iterator[list[SampleT] | BadSample]:
        """The samples of each picture in order, :attr:`copies` of them, or the reason why it cannot be used."""

    @abc.abstractmethod
    def stored(self, sample: SampleT) -> dict[str, object]:
        """The sample under the names of the schema. Raises BadSample."""

    @abc.abstractmethod
    def collector(self) -> Collector:
        """What adds up the numbers of one shard."""

    # ------------------------------------------------------------------------------------------------------ publishing

    @abc.abstractmethod
    def merged(self, shards: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The numbers of the whole data set, from those of its shards in order."""

    def contact_sheet(self, dataset: ShardedDataset) -> UInt8[np.ndarray, "_ _ 3"]:
        """A picture of some samples, drawn from the stored data alone; by default whatever their schema has to show."""
        from flows.sheets import contact_sheet

        return contact_sheet(dataset)


RECIPES: Mapping[str, str] = MappingProxyType(
    {
        "PosmapConfig": "flows.posmaps:PosmapRecipe",
        "DenseRegConfig": "flows.densereg_fields:DenseRegRecipe",
        "EarConfig": "flows.ear_fields:EarRecipe",
    }
)
"""Every recipe of this project by the name of its config's class, as ``module:class``: imported when it is wanted."""

GROUP = "facefoundry.recipes"
"""Entry points under which other installed packages name theirs, likewise."""


def recipes() -> dict[str, str]:
    """All recipes there are: this project's, then what installed packages add."""
    return dict(RECIPES) | {point.name: point.value for point in entry_points(group=GROUP) if point.name not in RECIPES}


def recipe_named(name: str) -> "type[Recipe[Any, Any, Any]]":
    """The recipe for configs of the class of that name."""
    module, _, recipe = (RECIPES if name in RECIPES else recipes())[name].partition(":")
    found: type[Recipe[Any, Any, Any]] = getattr(importlib.import_module(module), recipe)
    return found


def recipe_name(config: BuildConfig) -> str:
    """The name under which the recipe of a config is known. Raises ValueError for a config without one."""
    name = type(config).__name__
    if name not in RECIPES and name not in (known := recipes()):
        raise ValueError(
            f"there is no recipe for {name}; there are {', '.join(known)}: a package names its own under the entry "
            f"points {GROUP} (docs/extending.md)"
        )
    return name


def drawn_sample(out: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> Path:
    """The folder ``<out>/sources/sample`` in 300W-LP's layout, drawn from the built-in model where it is missing."""
    from storage.synthetic import write_sample_folder

    folder = out.absolute() / "sources" / "sample"
    write_sample_folder(folder, workers=usable_cores(), progress=progress)
    return folder
