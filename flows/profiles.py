"""Profiling a folder: every photograph of a 300W-like source, turned to the side in steps, into a folder like 300W-LP.

A source is whatever :mod:`storage.sources` reads: 300W-LP itself, of which only the photographs (``_0``) are taken, or
what `fit-landmarks` and `fit` wrote. Of each photograph come ``NAME_0`` (itself) and ``NAME_1, NAME_2, …``, one ``.jpg`` and
one ``.mat`` each, which share their coefficients to the bit. Subset folders stay, mirrored ones (``*_Flip``) too where the
source has them. In the ``.mat`` files `pt2d` is right in **every** view, in ``_0`` the source's own landmarks where it
gives any; the points on the visible outline lie beside, as in the release (:mod:`storage.contour_landmarks`).

Bytes depend on the source's bytes, the model and the config, never on the number of workers. Files appear whole, and
what is there is not made again; ``fits.json``, written last, says what the folder is and on what terms.
"""

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flows.errors import TooManyBad
from flows.face_profiles import (
    MAX_VIEWS,
    PlannedPhotograph,
    ProfilesConfig,
    ProfilesJob,
    profile_photographs,
    views_of,
)
from flows.local import check_scheduler, workers_of
from flows.models_at_hand import MODELS_FOLDER, model_at_hand
from flows.progress import ProgressMaker, silent_for
from flows.refusals import refuse_output_in_source, refuse_too_many_bad
from storage.bad_sample import BadSample, Rejected
from storage.drawn_folder import licence_of, unfinished_name
from storage.fit_files import FOLDER_MARKER, folder_record
from storage.json_files import read_json_object
from storage.manifest import digest_of
from storage.processes import usable_cores
from storage.publish import builders_lock
from storage.sources import Source, fingerprint_sources, open_source
from storage.whole_files import write_atomically

PROFILES_RECIPE_VERSION = 1
"""Raised by hand whenever the same config and source would give other bytes than before."""

PICTURES_PER_CALL = 4
"""Photographs that a worker is handed at once."""

_UNFINISHED = unfinished_name("profiles")
_VIEW_0 = re.compile(r"_0{1,2}$", re.ASCII)


@dataclass(frozen=True, slots=True)
class ProfilesPlan:
    """A planned folder, its lock held."""

    job: ProfilesJob
    photographs: tuple[PlannedPhotograph, ...]
    version: str
    about: dict[str, object]
    rejected: tuple[Rejected, ...]
    is_finished: bool

    def parts(self) -> list[tuple[PlannedPhotograph, ...]]:
        """The photographs in parts for one worker each."""
        n = len(self.photographs)
        return [self.photographs[first : first + PICTURES_PER_CALL] for first in range(0, n, PICTURES_PER_CALL)]


@dataclass(frozen=True, slots=True)
class Profiled:
    """A finished folder."""

    folder: Path
    version: str
    photographs: int
    pictures: int
    rejected: tuple[Rejected, ...]
    licence: str


def profile_here(
    source: str | os.PathLike[str] | None = None,
    *,
    out: str | os.PathLike[str],
    config: ProfilesConfig = ProfilesConfig(),  # noqa: B008 - frozen
    model: str | Sequence[str] = "built-in",
    workers: int = 0,
    max_bad: float = 0.01,
    fail_on_first: bool = False,
    progress: ProgressMaker = silent_for,
    scheduler: str | None = None,
) -> Profiled:
    """Profile every photograph of `source` into the folder `out`, with `workers` processes (0: one for each core), or with the
    workers of a Dask `scheduler`. Without `source` the photographs of the built-in sample are taken.

    Raises ValueError or OSError for a source, model or folder that cannot be used, AlreadyBuilding, TooManyBad,
    SourceChanged and WorkerDied. Whatever ends it, the files that are there stay, and the next call goes on.
    """
    check_scheduler(scheduler)
    with opened_profiles(source, out=out, config=config, model=model) as plan:
        if plan.is_finished:
            return finish_profiles(plan, [])
        outcomes: list[list[int | Rejected]] = []
        check_profiles(plan, outcomes, max_bad=max_bad, fail_on_first=fail_on_first)
        calls = [(plan.job, part) for part in plan.parts()]
        with progress(len(plan.photographs)) as report:
            for outcome in workers_of(scheduler)(profile_photographs, calls, workers):
                outcomes.append(outcome)
                report(len(outcome))
                check_profiles(plan, outcomes, max_bad=max_bad, fail_on_first=fail_on_first)
        return finish_profiles(plan, outcomes)


# ------------------------------------------------------------------------------------------------------------- plan


@contextmanager
def opened_profiles(
    source: str | os.PathLike[str] | None,
    *,
    out: str | os.PathLike[str],
    config: ProfilesConfig,
    model: str | Sequence[str],
) -> Iterator[ProfilesPlan]:
    """Plan the folder and hold its lock while the block runs. Raises as :func:`profile_here`.

    Without `source` the built-in sample is used, and drawn first, beside the folder, where it is missing.
    """
    folder = Path(out).absolute()
    root = _sample_source(folder) if source is None else Path(source).absolute()
    refuse_output_in_source(folder, root)
    _refuse_more_than_max(config)
    listing = open_source(root)
    photographs, rejected = planned_photographs(listing)
    if not photographs:
        because = f" The first: {rejected[0].source_id}: {rejected[0].reason}" if rejected else ""
        raise ValueError(f"{root} holds no photograph that could be turned: turned views (_1, _2, …) are not.{because}")
    morphable, location = model_at_hand(model, folder)
    listing.check_model(morphable)
    terms = _terms(root)
    decides = {
        "recipe": PROFILES_RECIPE_VERSION,
        "config": config.model_dump(mode="json"),
        "model": {"name": morphable.name, "fingerprint": morphable.fingerprint},
        "source": digest_of([[p.name, p.image_sha256, p.annotation_sha256] for p in photographs]),
    }
    version = digest_of(decides)[:16]
    about = {
        "dataset": "profiles",
        "version": version,
        **decides,
        **terms,
        "split": "by photograph: a name without its last number, with or without _Flip in its folder's",
    }
    with builders_lock(folder):
        finished = _state(folder, about)
        if finished:
            rejected = [Rejected(**entry) for entry in finished["rejected"]]
        else:
            write_atomically(folder / _UNFINISHED, _text(about))
        job = ProfilesJob(root, folder, location, config)
        yield ProfilesPlan(job, tuple(photographs), version, finished or about, tuple(rejected), bool(finished))


def planned_photographs(listing: Source) -> tuple[list[PlannedPhotograph], list[Rejected]]:
    """The source's photographs (k = 0) with their digests, and what cannot be used; turned views are passed over."""
    rejected = list(listing.rejected)
    items = [item for item in listing.items if item.k == 0]
    planned: list[PlannedPhotograph] = []
    taken: dict[str, str] = {}
    for item, found in zip(items, fingerprint_sources(items), strict=True):
        name = _VIEW_0.sub("", item.source_id)
        if isinstance(found, BadSample):
            rejected.append(Rejected.because(item.source_id, found))
        elif (first := taken.setdefault(name.casefold(), item.source_id)) != item.source_id:
            reason = f"its views would have the names of {first}'s; rename one of them"
            rejected.append(Rejected(item.source_id, "source.duplicate", reason))
        else:
            files = (item.image_path, item.annotation_path)
            image, annotation = (path.relative_to(listing.root).as_posix() for path in files)
            planned.append(
                PlannedPhotograph(item.source_id, image, found.image_sha256, annotation, found.annotation_sha256, name)
            )
    return planned, rejected


def _sample_source(folder: Path) -> Path:
    from storage.synthetic import write_sample_folder

    sample = folder.parent / "sample"
    write_sample_folder(sample, workers=usable_cores())
    return sample


def _refuse_more_than_max(config: ProfilesConfig) -> None:
    most = len(views_of(config, yaw=0.0, pitch=0.0))
    if config.sides == "outward":  # a head that looks a little to the other side of 0 has as many
        most += 1
    if most > MAX_VIEWS:
        raise ValueError(
            f"up to {most} views of each photograph, and names have room for {MAX_VIEWS}: larger yaw steps, or fewer pitches"
        )


def _terms(root: Path) -> dict[str, object]:
    """What the source's landmarks came with goes on."""
    fits = folder_record(root)
    if fits is None:
        return {"licence": licence_of(root)}
    return {key: fits[key] for key in ("licence", "landmark_origins") if key in fits}


def _state(folder: Path, about: dict[str, object]) -> dict | None:
    """The folder's marker when it is finished, None when there is something to do; ValueError for another folder."""
    for name in (FOLDER_MARKER, _UNFINISHED):
        try:
            found = read_json_object(folder / name)
        except ValueError:
            found = {}
        if found is None:
            continue
        if found.get("version") != about["version"]:
            raise ValueError(
                f"{folder / name} describes another folder of profiles than the one asked for (source, model or steps "
                "differ); choose another --out, or remove this one"
            )
        if name == FOLDER_MARKER and len(list(folder.rglob("*.jpg"))) == found["pictures"]:
            return found
        return None
    others = [
        path.name
        for path in folder.iterdir()
        if not path.name.startswith((".", _UNFINISHED)) and path.name != MODELS_FOLDER
    ]
    if others:
        raise ValueError(
            f"{folder} is not empty ({min(others)} lies in it), and nothing of it may be overwritten: "
            "give a new or empty folder as --out"
        )
    return None


# ----------------------------------------------------------------------------------------------------------- finish


def check_profiles(
    plan: ProfilesPlan, outcomes: Sequence[Sequence[int | Rejected]], *, max_bad: float, fail_on_first: bool
) -> None:
    """Raise TooManyBad when more than `max_bad` of the photographs cannot be used (or any, with `fail_on_first`)."""
    rejected = [(one.source_id, one.code, one.reason) for one in _all_rejected(plan, outcomes)]
    n = len(plan.photographs) + len(plan.rejected)
    refuse_too_many_bad(rejected, of=n, what="photographs", max_bad=max_bad, fail_on_first=fail_on_first)


def _all_rejected(plan: ProfilesPlan, outcomes: Sequence[Sequence[int | Rejected]]) -> list[Rejected]:
    found = [one for outcome in outcomes for one in outcome if isinstance(one, Rejected)]
    return sorted([*plan.rejected, *found], key=lambda r: (r.source_id, r.code))


def finish_profiles(plan: ProfilesPlan, outcomes: Sequence[Sequence[int | Rejected]]) -> Profiled:
    """Say in the folder, when all of it is there, what it is. Raises TooManyBad when nothing is left."""
    folder, licence = plan.job.out, str(plan.about["licence"])
    if plan.is_finished:
        about = plan.about
        return Profiled(
            folder, plan.version, int(str(about["photographs"])), int(str(about["pictures"])), plan.rejected, licence
        )
    views = [one for outcome in outcomes for one in outcome if isinstance(one, int)]
    rejected = _all_rejected(plan, outcomes)
    if not views:
        raise TooManyBad(f"none of the photographs can be used. The first: {rejected[0].reason} [{rejected[0].code}]")
    about = {
        **plan.about,
        "photographs": len(views),
        "pictures": sum(views),
        "rejected": [{"source_id": r.source_id, "code": r.code, "reason": r.reason} for r in rejected],
    }
    for partial in folder.rglob("*.partial"):  # what runs that were killed had in hand
        partial.unlink()
    write_atomically(folder / FOLDER_MARKER, _text(about))
    (folder / _UNFINISHED).unlink(missing_ok=True)
    return Profiled(folder, plan.version, len(views), sum(views), tuple(rejected), licence)


def _text(about: dict[str, object]) -> bytes:
    return (json.dumps(about, indent=2, ensure_ascii=False) + "\n").encode()
