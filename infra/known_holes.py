"""Known holes in the versions that are installed, from a folder of advisories: an audit where no service can be reached.

    git clone --depth 1 https://github.com/pypa/advisory-database
    make audit ADVISORIES=advisory-database

Reads OSV files (``vulns/<package>/<id>.yaml``) and names every advisory whose ranges hold a version that
`infra/constraints.txt` pins, or the lower bound of a dependency in `pyproject.toml`, with the versions that mend it. It is
as young as its folder: the newest date in it is said. Exit code 1: something pinned, or some lower bound, has a known hole.
"""

import argparse
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Hole:
    """An advisory that is true of a version."""

    package: str
    version: str
    advisory: str
    summary: str
    mended_in: tuple[str, ...]


def pinned(constraints: str) -> dict[str, str]:
    """Package to version, of lines ``name==version``."""
    lines = (line.partition("#")[0].strip() for line in constraints.splitlines())
    return {
        str(canonicalize_name(name)): version for name, _, version in (line.partition("==") for line in lines if line)
    }


def lower_bounds(pyproject: str) -> dict[str, str]:
    """Package to the least version that ``>=`` allows, of all dependencies and extras that have such a bound."""
    project = tomllib.loads(pyproject)["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    bounds: dict[str, str] = {}
    for requirement in map(Requirement, lines):
        for specifier in requirement.specifier:
            if specifier.operator == ">=":
                bounds[str(canonicalize_name(requirement.name))] = specifier.version
    return bounds


def holes(versions: Mapping[str, str], advisories: Path) -> Iterator[Hole]:
    """Every advisory that is true of one of the versions. Raises ValueError for a folder that has none of these files."""
    if not any(advisories.glob("vulns/*/*.yaml")):
        raise ValueError(f"{advisories} has no vulns/<package>/<id>.yaml; it must be a clone of pypa/advisory-database")
    for name, version in sorted(versions.items()):
        for path in sorted(advisories.glob(f"vulns/{name}/*.yaml")):
            advisory = yaml.safe_load(path.read_bytes())
            if "withdrawn" in advisory:
                continue
            affected = [one for one in advisory["affected"] if canonicalize_name(one["package"]["name"]) == name]
            if any(_holds(one, version) for one in affected):
                text = advisory.get("summary") or str(advisory.get("details", "")).strip().partition("\n")[0]
                yield Hole(name, version, advisory["id"], text, tuple(_fixes(affected)))


def newest(advisories: Path) -> str:
    """The last date at which one was published."""
    dates = (
        line.partition(":")[2].strip().strip("\"'")
        for path in advisories.glob("vulns/*/*.yaml")
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith("published:")
    )
    return max(dates, default="unknown")


def _holds(affected: Mapping, version: str) -> bool:
    """Whether an entry of an advisory is about a version: listed, or in one of its ranges (OSV's own evaluation)."""
    here = Version(version)
    if any(_version(listed) == here for listed in affected.get("versions", ())):
        return True
    for one in affected.get("ranges", ()):
        inside = False
        events = (
            [(kind, value) for event in one["events"] for kind, value in event.items()]
            if one["type"] == "ECOSYSTEM"
            else []
        )
        for kind, value in sorted(events, key=lambda event: _version(event[1])):
            since = _version(value)
            if kind == "introduced" and here >= since:
                inside = True
            elif (kind == "fixed" and here >= since) or (kind == "last_affected" and here > since):
                inside = False
        if inside:
            return True
    return False


def _fixes(affected: list[Mapping]) -> list[str]:
    found = {str(event["fixed"]) for one in affected for r in one.get("ranges", ()) if r["type"] == "ECOSYSTEM"
             for event in r["events"] if "fixed" in event}  # fmt: skip
    return sorted(found, key=_version)


def _version(text: object) -> Version:
    """As PyPI reads it; of what it cannot read (advisories say 2.6.0-NA) the numbers at its beginning, or 0."""
    try:
        return Version(str(text))
    except InvalidVersion:
        numbers = re.match(r"\d+(\.\d+)*", str(text))
        return Version(numbers[0] if numbers else "0")


def main() -> int:
    """Both lists, and what is wrong with them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("advisories", type=Path, help="a clone of pypa/advisory-database")
    folder = parser.parse_args().advisories
    found = 0
    for what, versions in (
        ("pinned versions", pinned((ROOT / "infra" / "constraints.txt").read_text(encoding="utf-8"))),
        ("lower bounds", lower_bounds((ROOT / "pyproject.toml").read_text(encoding="utf-8"))),
    ):
        wrong = list(holes(versions, folder))
        found += len(wrong)
        known = sum((folder / "vulns" / name).is_dir() for name in versions)
        print(f"{what}: {len(versions)}, {known} of packages that have advisories; {len(wrong)} known holes")
        for hole in wrong:
            mended = f"mended in {', '.join(hole.mended_in)}" if hole.mended_in else "not mended"
            print(f"  {hole.package} {hole.version}  {hole.advisory}  {mended}: {hole.summary[:150]}")
    print(f"newest advisory: {newest(folder)}")
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
