"""An evaluation on disk: metrics as JSON, error curves, a page of the best, median and worst predictions, the model's card."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from render.preview import color_values, encode_png, in_rows, titled
from storage.json_files import plain
from storage.whole_files import write_atomically
from train.evaluation import METHODS, OURS, Evaluation, Shown

METRICS, CURVES, PAGE, TEMPLATE, CARD = "metrics.json", "ced.png", "predictions.png", "template.png", "card.md"
EACH = 4
"""Faces of each kind on the page."""

_SIDE = 256
_TRUE, _PREDICTED = (80, 220, 80), (255, 60, 60)
_LINES = {"ours": "-", "mean shape": ":", "mean shape, true pose": "--"}


def write_report(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write what there is to show of an evaluation; the paths written. ``metrics.json`` comes last."""
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    if evaluation.errors:
        written.append(folder / CURVES)
        write_atomically(written[-1], _curves(evaluation))
    if evaluation.faces and evaluation.errors:
        written.append(folder / PAGE)
        write_atomically(written[-1], encode_png(predictions_page(evaluation)))
    if evaluation.template is not None and np.isfinite(evaluation.template).any():
        written.append(folder / TEMPLATE)
        write_atomically(written[-1], encode_png(template_picture(evaluation.template)))
    written.append(folder / CARD)
    pictures = [path.name for path in written[:-1]]
    write_atomically(written[-1], "\n".join(card_lines(evaluation.document, pictures)).encode())
    written.append(folder / METRICS)
    text = json.dumps(plain(evaluation.document), indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(written[-1], (text + "\n").encode())
    return written


def _curves(evaluation: Evaluation) -> bytes:
    """Cumulative error distributions, a panel for each measure."""
    import io

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(evaluation.errors)
    across = min(len(names), 3)
    down = -(-len(names) // across)
    figure = Figure(figsize=(4.2 * across, 3.4 * down), layout="constrained")
    FigureCanvasAgg(figure)
    for place, name in enumerate(names):
        axes = figure.add_subplot(down, across, place + 1)
        by_method = evaluation.errors[name]
        finite = np.concatenate([errors[np.isfinite(errors)] for errors in by_method.values()])
        limit = 100 * float(np.quantile(finite, 0.95)) if len(finite) else 1.0
        for method, errors in by_method.items():
            ordered = 100 * np.sort(errors)
            share = np.arange(1, len(ordered) + 1) / len(ordered)
            axes.step([0, *ordered], [0, *share], _LINES.get(method, "-"), where="post", label=method)
        axes.set(xlim=(0, max(limit, 1e-9)), ylim=(0, 1), title=name, xlabel="error, %", ylabel="share of images")
        axes.title.set_fontsize(8)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7, loc="lower right")
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110, metadata={"Software": None})
    return stream.getvalue()


def predictions_page(evaluation: Evaluation) -> UInt8[np.ndarray, "h w 3"]:
    """Best, median and worst faces by the first measure: green is true, red is predicted."""
    name, by_method = next(iter(evaluation.errors.items()))
    errors = by_method[OURS]
    shown = {face.name: face for face in evaluation.faces}
    order = [index for index in np.argsort(errors, kind="stable") if _name(evaluation, int(index)) in shown]
    middle = max((len(order) - EACH) // 2, 0)
    rows = {"best": order[:EACH], "median": order[middle : middle + EACH], "worst": order[-EACH:]}
    tiles = []
    for kind, chosen in rows.items():
        for place in range(EACH):
            if place >= len(chosen):
                tiles.append(np.full((_SIDE + 18, _SIDE, 3), 255, dtype=np.uint8))
                continue
            index = int(chosen[place])
            title = f"{kind} {100 * errors[index]:.2f} % {_name(evaluation, index)}"
            tiles.append(titled(drawn(shown[_name(evaluation, index)]), title))
    return titled(in_rows(tiles, across=EACH), f"{name}; green: true, red: predicted")


def _name(evaluation: Evaluation, index: int) -> str:
    """The face of an error: data sets keep every face, photographs may have lost some."""
    names = evaluation.document.get("images")
    return names[index] if names is not None else evaluation.faces[index].name


def drawn(face: Shown, *, side: int = _SIDE) -> UInt8[np.ndarray, "s s 3"]:
    """A face with its points."""
    factor = side / face.crop.shape[0]
    canvas = cv2.resize(np.ascontiguousarray(face.crop), (side, side), interpolation=cv2.INTER_LINEAR)
    for points, color in ((face.true_px, _TRUE), (face.predicted_px, _PREDICTED)):
        places = (points[np.isfinite(points).all(axis=1), :2] + 0.5) * factor - 0.5
        for x, y in np.rint(np.clip(places, -1e4, 1e4) * 16).astype(int).tolist():
            cv2.circle(canvas, (x, y), 28, color, -1, cv2.LINE_AA, 4)
    return canvas


def template_picture(template: Float[np.ndarray, "c c"], *, side: int = 384) -> UInt8[np.ndarray, "s s 3"]:
    """Mean errors painted on the template: dark is small, yellow the largest 2 % and more, grey where nothing fell."""
    known = np.isfinite(template)
    most = float(np.quantile(template[known], 0.98))
    colors = color_values(np.where(known, template, 0) / max(most, 1e-12))
    colors[~known] = 128
    large = cv2.resize(colors, (side, side), interpolation=cv2.INTER_NEAREST)
    return titled(large, f"mean error of (u, v) over the eyes' distance; yellow: {100 * most:.1f} %")


def table_lines(document: dict[str, Any]) -> list[str]:
    """The results as a text table: ours, both baselines, the papers' rows, and what is to be said beside them."""
    lines = [f"{document['system']} on {document['set']}: {document['n_images']} images"]
    if n_seen := document.get("test_data", {}).get("seen_in_training_and_left_out"):
        lines.append(f"left out: {n_seen} that the checkpoint learnt from")
    if "boxes" in document:
        lines.append(f"boxes: {document['boxes']}")
    width = max((len(name) for name in document["results"]), default=0)
    for name, by_method in document["results"].items():
        cells = [f"{method} {_cell(row)}" for method, row in by_method.items() if isinstance(row, dict)]
        lines.append(f"{name:<{width}}  " + "  |  ".join(cells))
        for row in by_method.get("published", []):
            lines.append(f"{'':<{width}}  {row['method']}: {_published(row)}")
    for source, table in document.get("yaw", {}).items():
        bins = ", ".join(f"{key} {_number(value)}" for key, value in table.items() if not isinstance(value, dict))
        lines.append(f"yaw by {source}: {bins}")
        if balanced := table.get("balanced"):
            lines.append(f"  balanced: {balanced['n_images']} images, {_number(balanced['mean of images %'])} %")
    missing = document.get("without_prediction", [])
    if missing:
        lines.append(f"{len(missing)} faces without a prediction, counted as failures; the first: {missing[0]}")
    return [*lines, *(f"note: {note}" for note in document["notes"])]


def card_lines(document: dict[str, Any], pictures: Sequence[str]) -> list[str]:
    """The measured model's card: its weights, what it learnt from, on what and how well it does."""
    checkpoint, data = document["checkpoint"], document["training_data"]
    latency = (
        f", {checkpoint['latency_ms']} ms from crop to geometry ({checkpoint['processor']})"
        if "latency_ms" in checkpoint
        else ""
    )
    test = document.get("test_data")
    return [
        f"# {document['system']} on {document['set']}",
        "",
        f"- weights: `{checkpoint['name']}`, sha256 `{checkpoint['sha256']}`, after {checkpoint['steps']} steps",
        f"- size: {checkpoint['n_parameters']:,} learnable parameters, {checkpoint['size_mb']} MB{latency}",
        f"- in the paper: {checkpoint['size_and_time_in_the_paper']}",
        f"- trained on: {data['name']} {data['version']}, fingerprint `{data['fingerprint']}`, model {data['model']}",
        f"- terms of the training data's sources: {'; '.join(data['licences']) or 'none stated'}",
        f"- measured on: {document['n_images']} images of {document['set']}"
        + (f" {test['version']}, fingerprint `{test['fingerprint']}`" if test else ""),
        f"- boxes: {document.get('boxes', 'none')}",
        *(f"- {note}" for note in document["notes"]),
        "",
        *markdown_table(document),
        "",
        *(f"![{name}]({name})" for name in pictures),
        "",
    ]


def markdown_table(document: dict[str, Any]) -> list[str]:
    """The results as a table: a row for each measure, ours and both baselines, and the paper's figure beside them."""
    lines = ["| measure | ours | mean shape | mean shape, true pose | published |", "|---|---|---|---|---|"]
    for name, by_method in document["results"].items():
        cells = [_cell(by_method[method]) if method in by_method else "" for method in METHODS]
        rows = [f"{row['method']}: {_published(row)}" for row in by_method.get("published", [])]
        lines.append(f"| {name.replace('|', '∣')} | {' | '.join(cells)} | {'<br>'.join(rows)} |")
    return lines


def _published(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value:g}" for key, value in row.items() if key != "method")


def _cell(row: dict[str, Any]) -> str:
    if "mean_percent" in row:
        named = {key: value for key, value in row.items() if key.startswith(("auc", "failure"))}
        more = [f"{key.removesuffix('_percent')} {_number(value)}" for key, value in named.items()]
        lost = [f"{row['n_missing']} missing"] if row.get("n_missing") else []
        return f"{_number(row['mean_percent'])} %" + (f" ({', '.join([*more, *lost])})" if more or lost else "")
    first = next((value for key, value in row.items() if isinstance(value, float)), None)
    return "" if first is None else _number(first)


def _number(value: Any) -> str:
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return "–"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
