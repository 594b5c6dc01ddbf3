"""Contact sheets and single samples as pictures, of any data set: drawn from the stored data alone, by what there is."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flows.other_panels import other_panels
from geometry.ear import N_EAR_LANDMARKS
from render.ear_view import PANELS as EAR_PANELS
from render.ear_view import ear_panels
from render.preview import (
    PANELS,
    Picture,
    colored_mask,
    field_panels,
    flat_weights,
    heat_picture,
    in_rows,
    plain_panels,
    sample_panels,
    titled,
)
from storage.dataset import ShardedDataset

CONTACT_SHEET_SAMPLES = 12


def contact_sheet(dataset: ShardedDataset, *, side: int = 160) -> Picture:
    """Samples spread evenly over the data set, each under its source id."""
    chosen = np.unique(np.linspace(0, len(dataset) - 1, CONTACT_SHEET_SAMPLES).astype(int))
    samples = _read_all(dataset, chosen.tolist())
    rows = [list(_panels(dataset, sample, side).values()) for sample in samples]
    titles = [str(sample["source_id"]) for sample in samples]
    return in_rows([titled(np.hstack(r), t) for r, t in zip(rows, titles, strict=True)], across=_across(len(rows[0])))


def sample_sheet(dataset: ShardedDataset, index: int, *, side: int = 384) -> Picture:
    """One sample large, each panel under its name."""
    sample = _read(dataset, index)
    panels = dict(_panels(dataset, sample, side))
    if "position_map" in dataset.schema.names:
        panels["weight mask"] = flat_weights(dataset.table("weight_mask"), side)
    panels |= other_panels(sample, side=side)
    tiles = [titled(panel, title) for title, panel in panels.items()]
    return titled(in_rows(tiles, across=3), str(sample["source_id"]))


def _across(n_panels: int) -> int:
    return 2 if n_panels <= 5 else 1


def _read(dataset: ShardedDataset, index: int) -> dict[str, Any]:
    """The sample with what is drawn on request."""
    return _read_all(dataset, [index])[0]


def _read_all(dataset: ShardedDataset, indices: Sequence[int]) -> list[dict[str, Any]]:
    """The same of several: read in one batch, their maps are one product."""
    on_request = [target.name for target in dataset.schema.derived if target.name == "dan_heatmap"]
    batch = dataset.read(indices, [*dataset.schema.names, *on_request])
    return [{name: values[place] for name, values in batch.items()} for place in range(len(indices))]


def _panels(dataset: ShardedDataset, sample: Mapping[str, Any], side: int) -> dict[str, Picture]:
    """Pictures of everything that the sample has, by name."""
    if sample["landmarks_px"].shape == (N_EAR_LANDMARKS, 2):
        return dict(zip(EAR_PANELS, ear_panels(sample, side=side), strict=True))
    panels: dict[str, Picture] = {}
    if "position_map" in sample:
        panels |= dict(zip(PANELS, sample_panels(sample, dataset.table("weight_mask"), side=side), strict=True))
    else:
        panels |= plain_panels(sample, side=side)
    if "uv" in sample or "part" in sample:
        panels |= field_panels(sample, side=side)
    if "mask" in sample:
        panels["mask"] = colored_mask(sample, side=side)
    if "dan_heatmap" in sample:
        panels["heatmap (DAN)"] = heat_picture(sample["dan_heatmap"], side=side)
    return panels
