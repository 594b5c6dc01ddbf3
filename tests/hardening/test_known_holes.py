"""The audit of pinned versions against a folder of advisories."""

import runpy

import pytest
import yaml
from packaging.version import Version

from tests.hardening.seeded_defects import ROOT

AUDIT = runpy.run_path(str(ROOT / "infra" / "known_holes.py"))


@pytest.fixture
def advisories(tmp_path):
    """A function that writes one advisory of the package `some-thing`."""

    def write(name: str, *events: dict, versions: tuple[str, ...] = (), **more: object) -> None:
        path = tmp_path / "vulns" / "some-thing" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        affected = {"package": {"name": "Some_Thing"}, "versions": list(versions)}
        affected["ranges"] = [{"type": "GIT", "events": [{"introduced": "0"}]}]
        affected["ranges"] += [{"type": "ECOSYSTEM", "events": list(events)}] if events else []
        path.write_text(yaml.safe_dump({"id": name, "details": "Dire.\nMore.", "affected": [affected], **more}))

    write.folder = tmp_path
    return write


def found(write, version: str) -> list[str]:
    return [hole.advisory for hole in AUDIT["holes"]({"some-thing": version}, write.folder)]


def test_a_version_has_a_hole_from_where_it_was_made_to_where_it_was_mended(advisories):
    advisories("TWO", {"introduced": "0"}, {"fixed": "1.2"}, {"introduced": "2.0rc1"}, {"fixed": "2.10"})
    for version, is_open in (("1.1.9", 1), ("1.2", 0), ("1.9", 0), ("2.0", 1), ("2.9.1", 1), ("2.10", 0), ("10", 0)):
        assert found(advisories, version) == ["TWO"] * is_open, version


def test_the_last_affected_version_is_affected_even_if_its_name_is_none(advisories):
    advisories("LAST", {"introduced": "0"}, {"last_affected": "2.6.0-NA"})
    assert [found(advisories, version) for version in ("2.5", "2.6", "2.6.1")] == [["LAST"], ["LAST"], []]


def test_without_a_mended_version_all_later_ones_have_it_and_a_listed_one_always_has(advisories):
    advisories("OPEN", {"introduced": "3"})
    advisories("LISTED", versions=("1.0.0",))
    assert [found(advisories, version) for version in ("1.0", "2", "4")] == [["LISTED"], [], ["OPEN"]]


def test_what_was_withdrawn_does_not_count_and_a_folder_of_something_else_is_refused(advisories, tmp_path):
    advisories("GONE", {"introduced": "0"}, withdrawn="2026-01-01T00:00:00Z")
    assert found(advisories, "1") == []
    with pytest.raises(ValueError, match="clone of pypa/advisory-database"):
        list(AUDIT["holes"]({"some-thing": "1"}, tmp_path / "vulns"))


def test_every_lower_bound_is_at_most_the_version_that_is_pinned():
    """So that what is tried is allowed; bounds go up with the holes that are known below them."""
    pinned = AUDIT["pinned"]((ROOT / "infra" / "constraints.txt").read_text(encoding="utf-8"))
    bounds = AUDIT["lower_bounds"]((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert len(bounds) > 40
    assert {name: bound for name, bound in bounds.items() if Version(bound) > Version(pinned[name])} == {}
