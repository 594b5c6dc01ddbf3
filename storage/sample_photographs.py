"""Photographs to fit for whoever has none: the sample folder's ``_0`` pictures with their landmarks as ``.pts`` files.

Drawn from the built-in model, and the one real photograph (:mod:`storage.sample_photograph`): the fits can be held
against the parameters that the pictures were drawn with.
"""

import os
from pathlib import Path

from storage.annotations import read_annotation
from storage.landmark_files import write_pts
from storage.sources import open_source
from storage.synthetic import MARKER_NAME
from storage.whole_files import write_atomically


def write_sample_photographs(folder: str | os.PathLike[str], sample: str | os.PathLike[str]) -> None:
    """Write what is missing of the folder, from a finished `sample` (:func:`storage.synthetic.write_sample_folder`)."""
    folder, source = Path(folder), open_source(sample)
    for item in source.items:
        if item.k or item.is_flip:
            continue
        picture = folder / f"{item.source_id.rpartition('_')[0]}.jpg"
        if picture.with_suffix(".pts").exists():
            continue
        picture.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(picture, item.read_image())
        write_pts(picture.with_suffix(".pts"), read_annotation(item.annotation_path).landmarks_px[:, :2])
    write_atomically(folder / MARKER_NAME, (source.root / MARKER_NAME).read_bytes())
