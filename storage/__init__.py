"""Sources, annotation files, shards and data sets: everything that touches a disk.

The names below are imported when first used, so that ``import storage`` costs nothing: the child process that reads
hostile files is ``python -m storage.mat_child``, and it must stay small.
"""

import importlib

import geometry  # noqa: F401 - finds a place for compiled kernels

_HOME = {
    "Annotation": "storage.annotations",
    "BadSample": "storage.bad_sample",
    "MatReader": "storage.mat_reader",
    "Rejected": "storage.bad_sample",
    "Source": "storage.sources",
    "SourceItem": "storage.sources",
    "ShardedDataset": "storage.dataset",
    "annotations_from_variables": "storage.annotations",
    "check_sidecar": "storage.annotations",
    "decode_image": "storage.images",
    "decode_photograph": "storage.images",
    "fingerprint_sources": "storage.sources",
    "open_dataset": "storage.dataset",
    "open_photographs": "storage.photographs",
    "open_pose_renders": "storage.pose_renders",
    "open_source": "storage.sources",
    "read_annotation": "storage.annotations",
    "read_contour_landmarks": "storage.contour_landmarks",
    "read_fit_file": "storage.fit_files",
    "read_landmarks": "storage.landmark_files",
    "write_annotation": "storage.annotations",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'storage' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
