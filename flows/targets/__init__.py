"""Families of targets: what can be made of one picture of faces. Importing this package loads none of them.

A new family is one file (its schema entries, its tables, how a sample gets its values: a
:class:`flows.targets.family.TargetFamily`). In this project it lies here and has a line in :data:`FAMILIES`; another
package, installed beside this one, names it in its ``pyproject.toml``::

    [project.entry-points."facefoundry.targets"]
    normals = "my_package.normals:NormalTargets"
"""

from collections.abc import Mapping
from importlib.metadata import entry_points
from types import MappingProxyType

POSITION_MAPS = "posmap"
"""What builds of crops make themselves; the other names are of families."""

FAMILIES: Mapping[str, str] = MappingProxyType(
    {
        "field": "flows.targets.field:FieldTargets",
        "parts": "flows.targets.parts:PartTargets",
        "heatmaps": "flows.targets.heatmaps:HeatmapTargets",
    }
)
"""This project's families beside the position maps, as ``module:class``."""

GROUP = "facefoundry.targets"


def family_home(name: str) -> str:
    """Where a family is, as ``module:class``. Raises ValueError for a name that nobody gave to one."""
    if name in FAMILIES:
        return FAMILIES[name]
    added = {point.name: point.value for point in entry_points(group=GROUP)}
    if name not in added:
        known = ", ".join((POSITION_MAPS, *FAMILIES, *sorted(added)))
        raise ValueError(f"there are no targets {name!r}; there are {known}, and what installed packages add")
    return added[name]


def in_order(names: tuple[str, ...]) -> tuple[str, ...]:
    """Each name once, in one order, so that the same choice is the same version. Raises ValueError for an unknown one."""
    own = (POSITION_MAPS, *FAMILIES)
    added = sorted({name for name in names if name not in own})
    for name in added:
        family_home(name)
    return (*(name for name in own if name in names), *added)
