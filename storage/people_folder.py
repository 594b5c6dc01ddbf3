"""A folder of rendered people: what :mod:`storage.people` draws, with its truth, in 300W-LP's layout.

Every picture has its truth beside it (:mod:`storage.people_truth`); those of a scaled orthographic camera have 300W-LP's
`.mat` too, with the landmarks right in **every** view (300W-LP's own are not), so that ``build 300wlp-posmaps`` reads the
folder as it is. All pictures of a person lie in ``train`` or all in ``validation``.
"""

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from geometry.built_in import load_built_in
from geometry.camera import ScaledOrthographicCamera
from render.shading import PhongLight
from storage.annotations import write_annotation
from storage.drawing_workers import drawn_by_workers
from storage.drawn_folder import DrawnFolder
from storage.jpeg import encode_jpeg
from storage.landmark_files import write_pts
from storage.people import Family, PeoplePlan, Split, draw_family, draw_picture, draw_shot, truth_of
from storage.people_truth import SUFFIX
from storage.whole_files import write_atomically


def write_people_folder(
    folder: str | os.PathLike[str],
    plan: PeoplePlan,
    *,
    workers: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[Split, list[int]]:
    """Write the folder, or what is missing of it; a finished one is left as it is. Returns who is in which part.

    A plan gives the same bytes with any number of workers (processes, started by forkserver) and in any order.
    `progress` hears after every person how many are done, and of how many.
    Raises ValueError for a folder that holds anything else.
    """
    drawn = DrawnFolder(Path(folder), "people", plan.description())
    everyone = range(plan.n_people)
    parts: dict[Split, list[int]] = {"train": [], "validation": []}
    for person in everyone:
        parts[plan.split(person)].append(person)
    if not drawn.begin():
        return parts
    for split, members in parts.items():
        if members:
            (drawn.path / split).mkdir(exist_ok=True)
            write_atomically(drawn.path / split / drawn.marker_name, drawn.text.encode())  # it may go its own way
    write_atomically(drawn.path / "split.json", (json.dumps(parts, indent=2) + "\n").encode())
    written = drawn_by_workers(partial(write_person, drawn.path, plan), everyone, workers=workers)
    for done, _ in enumerate(written, start=1):
        progress(done, plan.n_people)
    drawn.finish()
    return parts


def write_person(folder: Path, plan: PeoplePlan, number: int) -> int:
    """Write what is missing of one person's pictures and truths into the folder's part that they belong to."""
    part = folder / plan.split(number)
    suffixes = (".jpg", SUFFIX, ".mat" if plan.config.camera == "orthographic" else ".pts")
    with threadpool_limits(1):  # sums, and so bytes, depend on how many threads share a product
        for expression in range(plan.n_expressions):
            stems = [plan.stem(number, expression, view) for view in range(plan.n_views)]
            missing = [
                view
                for view, stem in enumerate(stems)
                if not all((part / f"{stem}{suffix}").exists() for suffix in suffixes)
            ]
            if not missing:
                continue
            family = draw_family(plan, number, expression)
            for view in missing:
                _write_picture(part / stems[view], plan, family, view)
    return number


def _write_picture(stem: Path, plan: PeoplePlan, family: Family, view: int) -> None:
    shot = draw_shot(plan, family, view)
    truth = truth_of(plan, family, view, shot)
    write_atomically(
        stem.with_name(f"{stem.name}.jpg"), encode_jpeg(draw_picture(plan, family, view, shot), shot.quality)
    )
    if isinstance(shot.camera, ScaledOrthographicCamera):
        write_annotation(
            stem.with_name(f"{stem.name}.mat"),
            coefficients=family.coefficients,
            camera=shot.camera,
            landmarks_px=np.array(truth.landmarks_px),
            model=load_built_in(),
            image_height=plan.config.side_px,
            texture=family.person.texture_coefficients,
            illumination=shot.light.illum_para if isinstance(shot.light, PhongLight) else None,
            color=shot.color.color_para if isinstance(shot.light, PhongLight) else None,
        )
    else:
        write_pts(stem.with_name(f"{stem.name}.pts"), np.array(truth.landmarks_px)[:, :2])
    write_atomically(stem.with_name(f"{stem.name}{SUFFIX}"), truth.model_dump_json().encode())
