"""What a family of targets is."""

import abc
import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Shaped

from flows.targets import family_home
from flows.targets.scene import Scene
from geometry.morphable_model import MorphableModel
from render.correspondence import FieldTemplate
from storage.schema import DerivedTarget, Schema, Target

Table = Callable[[str], np.ndarray]


@dataclass(frozen=True, slots=True)
class Layout:
    """How large the arrays of a sample are: its picture, and for how many faces there is room (None: it is of one)."""

    size_hw: tuple[int, int]
    max_faces: int | None = None

    def stacked(
        self, values: Iterable[Shaped[np.ndarray, "..."]], *, empty: float | bool | int
    ) -> Shaped[np.ndarray, "..."]:
        """The faces' values in one array; places of faces that are not there hold `empty`."""
        values = list(values)
        if self.max_faces is None:
            return values[0]
        stacked = np.full((self.max_faces, *values[0].shape), empty, dtype=values[0].dtype)
        stacked[: len(values)] = values
        return stacked

    def padded(self, picture: Shaped[np.ndarray, "h w ..."]) -> Shaped[np.ndarray, "_ _ ..."]:
        """A picture's array, its lower and right side filled with zeros."""
        if picture.shape[:2] == self.size_hw:
            return picture
        padded = np.zeros((*self.size_hw, *picture.shape[2:]), dtype=picture.dtype)
        padded[: picture.shape[0], : picture.shape[1]] = picture
        return padded


@dataclass(frozen=True, slots=True)
class Ground:
    """What all samples of a data set share, for families to take from."""

    layout: Layout
    model: MorphableModel
    template: FieldTemplate | None
    """The surface laid flat; None where no family asked for it (:attr:`TargetFamily.needs_template`)."""


class TargetFamily(abc.ABC):
    """Targets that are made together. The plan makes a family by `planned`, workers by `prepared` from its tables."""

    version: ClassVar[int] = 1
    """Raised by hand whenever the same pictures would give other values than before: it is in the data set's version."""

    needs_template = False
    """Whether scenes need the z-buffer, and so the ground a template."""

    @classmethod
    @abc.abstractmethod
    def planned(cls, ground: Ground, files: Mapping[str, Path]) -> "TargetFamily":
        """The family as the plan makes it. Raises ValueError for a file that cannot be used."""

    @classmethod
    @abc.abstractmethod
    def prepared(cls, ground: Ground, table: Table) -> "TargetFamily":
        """The same again, from the tables of the version."""

    def tables(self) -> dict[str, np.ndarray]:
        """Constant arrays of its own."""
        return {}

    @abc.abstractmethod
    def targets(self) -> tuple[Target, ...]:
        """Its stored targets."""

    def derived(self) -> tuple[DerivedTarget, ...]:
        """Its targets that readers work out (:mod:`storage.decoding` has the decoders)."""
        return ()

    @abc.abstractmethod
    def values(self, scene: Scene) -> dict[str, object]:
        """Its stored targets of one sample, by name. Raises BadSample."""


def family_named(name: str) -> type[TargetFamily]:
    """The family of that name. Raises ValueError for a name that nobody gave to one, and for what is no family."""
    module, _, attribute = family_home(name).partition(":")
    family = getattr(importlib.import_module(module), attribute)
    if not (isinstance(family, type) and issubclass(family, TargetFamily)):
        raise ValueError(f"the targets {name!r} are to be {module}:{attribute}, which is no TargetFamily")
    return family


def family_tables(families: Sequence[TargetFamily]) -> dict[str, np.ndarray]:
    """The tables of all families, and their versions once one of them was raised."""
    tables = {name: table for family in families for name, table in family.tables().items()}
    versions = np.array([family.version for family in families], dtype=np.int32)
    return {**tables, "target_versions": versions} if (versions > 1).any() else tables


def with_families(schema: Schema, families: Iterable[TargetFamily]) -> Schema:
    """The schema and the targets of `families`; a target that several of them have is there once."""
    targets = {target.name: target for target in schema.targets}
    derived = {target.name: target for target in schema.derived}
    for family in families:
        for target in family.targets():
            if targets.setdefault(target.name, target) != target:
                raise ValueError(f"two families of targets mean different things by {target.name}")
        derived |= {target.name: target for target in family.derived()}
    return Schema(targets=tuple(targets.values()), derived=tuple(derived.values()))
