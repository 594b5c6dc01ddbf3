"""The systems there are, by name. Importing this module loads none of them, and no torch.

A new system is one file: a :class:`train.system.System` with its config and presets. In this project it lies here and has a
line in :data:`SYSTEMS`; another package, installed beside this one, names it in its ``pyproject.toml``::

    [project.entry-points."facefoundry.systems"]
    plain_cnn = "my_package.plain_cnn:PlainCnn"
"""

import importlib
from collections.abc import Mapping
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from train.system import System

SYSTEMS: Mapping[str, str] = MappingProxyType(
    {
        "dan": "train.dan:DAN",
        "densereg": "train.densereg:DenseReg",
        "fan3d": "train.fan3d:Fan3d",
        "mesh_gcn": "train.mesh_gcn:MeshGcn",
        "prnet": "train.prnet:PRNet",
    }
)
"""This project's systems, as ``module:class``."""

GROUP = "facefoundry.systems"


class UnknownSystem(ValueError):
    """A name that nobody gave to a system."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no system {name!r}; there are {', '.join(system_names())}, and what packages add")


def system_names() -> tuple[str, ...]:
    """Every system's name: this project's, then those that installed packages add."""
    return (*SYSTEMS, *sorted(point.name for point in entry_points(group=GROUP) if point.name not in SYSTEMS))


def system_class(name: str) -> "type[System]":
    """The system of that name. Raises UnknownSystem, and ValueError for a package's entry point that leads to no system."""
    home = SYSTEMS.get(name) or next((point.value for point in entry_points(group=GROUP, name=name)), None)
    if home is None:
        raise UnknownSystem(name)
    from train.system import System

    module, _, attribute = home.partition(":")
    kind = getattr(importlib.import_module(module), attribute)
    if not (isinstance(kind, type) and issubclass(kind, System)):
        raise ValueError(f"the system {name!r} is {home}, which is no train.system.System")
    if kind.name != name:
        raise ValueError(
            f"the system {name!r} is {home}, which calls itself {kind.name!r}: checkpoints are found by its name"
        )
    return kind
