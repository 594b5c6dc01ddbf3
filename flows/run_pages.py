"""What a run shows on the server's pages: its name, its tags, and artifacts of what it made."""

import base64
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from uuid import UUID

import cv2
import numpy as np
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run

from flows.build import CONTACT_SHEET_KEY, Published, ShardOutcome
from flows.training_card import CARD, METRICS, TrainingDone
from render.preview import Picture, in_rows
from storage.bad_sample import Rejected
from storage.card import CARD_PAGE_KEY
from storage.card.shown_samples import encode_webp
from storage.images import decode_image
from storage.stores import store_at

_WIDTH_PX = 1000
"""Of pictures in artifacts: they lie in the server's database, some 100 kB each."""
_TILE_PX, _TILES = 160, 24


def name_run(name: str, *tags: str) -> None:
    """Name the run that this is called in, and add tags, now that it is known what it works on."""
    if flow_run.id is None:  # a plain function's call
        return
    with get_client(sync_client=True) as client:
        client.update_flow_run(UUID(flow_run.id), name=name, tags=sorted({*flow_run.tags, *tags}))


def name_build(dataset: str, version: str, *, verb: str = "") -> None:
    """Name a building run by data set and version."""
    name_run(f"{verb} {dataset} {version}".strip(), f"dataset:{dataset}", f"version:{version}")


def is_second_attempt() -> bool:
    """Whether the run that this is called in was begun before, and died or was started again."""
    if flow_run.id is None:
        return False
    with get_client(sync_client=True) as client:
        return client.read_flow_run(UUID(flow_run.id)).run_count > 1


def artifact_key(*words: str) -> str:
    """Words as an artifact's key, for which Prefect allows small letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(words).lower()).strip("-")


def summary(published: Published) -> dict[str, object]:
    """A finished build as plain values."""
    return {
        "dataset": published.dataset,
        "version": published.version,
        "path": str(published.path),
        "samples": published.samples,
        "rejected": published.rejected,
    }


def show_build(published: Published, outcomes: Sequence[ShardOutcome]) -> None:
    """Two artifacts of a build: counts, the card's address and the contact sheet; and what was rejected, by reason."""
    card = published.path / CARD_PAGE_KEY
    rows: dict[str, object] = {**summary(published), "card": f"[{CARD_PAGE_KEY}]({card.as_uri()})"}
    readback = published.statistics.get("landmark_readback_px", {})
    if isinstance(readback, Mapping) and readback:
        rows["landmarks read back (px)"] = f"mean {readback['mean']:.3f}, worst {readback['worst']:.3f}"
    sheet = decode_image(bytes(store_at(published.path).get(CONTACT_SHEET_KEY)))
    create_markdown_artifact(
        f"# {published.dataset} {published.version}\n\n{_table(rows)}\n\n{picture_in_page(sheet, 'contact sheet')}\n",
        key=artifact_key(published.dataset, "summary"),
        description=f"{published.samples} samples, {published.rejected} rejected",
    )
    holes = [Rejected(*hole) for outcome in outcomes for hole in outcome.rejected]
    show_rejected(holes, what="samples", key=artifact_key(published.dataset, "rejected"))


def show_rejected(rejected: Sequence[Rejected], *, what: str, key: str) -> None:
    """An artifact of what cannot be used: how many for each reason, and the first of each. None: no artifact."""
    if not rejected:
        return
    first = {hole.code: hole for hole in reversed(rejected)}
    create_table_artifact(
        [
            {"reason": code, what: n, "first": first[code].source_id, "why": first[code].reason}
            for code, n in Counter(hole.code for hole in rejected).most_common()
        ],
        key=key,
        description=f"{len(rejected)} rejected {what}",
    )


def show_folder(rows: Mapping[str, object], pictures: Sequence[Path], *, key: str, description: str) -> None:
    """An artifact of a written folder: its numbers, and some of its pictures, spread evenly."""
    chosen = [pictures[i] for i in np.unique(np.linspace(0, len(pictures) - 1, _TILES).astype(int))]
    tiles = [_fitted(decode_image(path.read_bytes()), (_TILE_PX, _TILE_PX)) for path in chosen]
    sheet = picture_in_page(in_rows(tiles, across=6), "some of the pictures")
    create_markdown_artifact(f"{_table(rows)}\n\n{sheet}\n", key=key, description=description)


def show_training(system: str, done: TrainingDone) -> None:
    """Two artifacts of a training: its numbers as a table, and its card with the curves."""
    from train.run_log import CURVES  # here: loads torch

    metrics = json.loads((done.folder / METRICS).read_text())
    create_table_artifact(
        [{"metric": name, "value": json.dumps(value)} for name, value in metrics.items()],
        key=artifact_key(system, "metrics"),
        description=f"{done.measure} {done.validation:.4f}" if done.validation is not None else "not validated",
    )
    card, curves = (done.folder / CARD).read_text(), done.folder / CURVES
    if curves.is_file():  # a training that was stopped before its first report has none
        drawn = picture_in_page(decode_image(curves.read_bytes()), "curves")
        card = card.replace(f"![curves]({CURVES})", drawn)
    create_markdown_artifact(card, key=artifact_key(system, "card"), description=str(done.checkpoint))


def show_evaluation(folder: Path, lines: Sequence[str]) -> None:
    """An artifact of an evaluation: its table, the cumulative errors and a page of predictions."""
    from train.evaluation_report import CURVES, PAGE  # here: loads torch

    pictures = [
        picture_in_page(decode_image((folder / name).read_bytes()), name)
        for name in (CURVES, PAGE)
        if (folder / name).is_file()
    ]
    text = "\n\n".join(["```\n" + "\n".join(lines) + "\n```", *pictures])
    create_markdown_artifact(text, key="evaluation", description=lines[0])


def picture_in_page(picture: Picture, title: str) -> str:
    """A picture as Markdown that carries its bytes: pages of the server cannot reach a run's files."""
    height, width = picture.shape[:2]
    if width > _WIDTH_PX:
        picture = _fitted(picture, (round(height * _WIDTH_PX / width), _WIDTH_PX))
    return f"![{title}](data:image/webp;base64,{base64.b64encode(encode_webp(picture)).decode()})"


def _fitted(picture: Picture, size_hw: tuple[int, int]) -> Picture:
    return cv2.resize(np.ascontiguousarray(picture), size_hw[::-1], interpolation=cv2.INTER_AREA)


def _table(rows: Mapping[str, object]) -> str:
    return "| | |\n|---|---|\n" + "\n".join(f"| {name} | {value} |" for name, value in rows.items())
