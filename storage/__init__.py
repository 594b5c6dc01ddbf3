"""Sources, annotation files, shards and data sets: everything that touches a disk.

The names below are imported when first used, so that ``import storage`` costs nothing: the child process that reads
hostile files is ``python -m storage.mat_child``, and it must stay small.
"""

from geometry.lazy_names import lazy_names  # importing geometry finds a place for compiled kernels

_HOME = {
    "Annotation": "storage.annotations",
    "BadSample": "storage.bad_sample",
    "DerivedTarget": "storage.schema",
    "MatReader": "storage.mat_reader",
    "Rejected": "storage.bad_sample",
    "Schema": "storage.schema",
    "ShardedDataset": "storage.dataset",
    "Source": "storage.sources",
    "SourceItem": "storage.sources",
    "Target": "storage.schema",
    "annotations_from_variables": "storage.annotations",
    "check_sidecar": "storage.annotations",
    "concatenate": "storage.views",
    "decode_image": "storage.images",
    "decode_photograph": "storage.images",
    "fingerprint_sources": "storage.sources",
    "mix": "storage.views",
    "open_dataset": "storage.dataset",
    "open_photographs": "storage.photographs",
    "open_pose_renders": "storage.pose_renders",
    "open_source": "storage.sources",
    "read_annotation": "storage.annotations",
    "read_contour_landmarks": "storage.contour_landmarks",
    "read_fit_file": "storage.fit_files",
    "read_landmarks": "storage.landmark_files",
    "select": "storage.views",
    "split": "storage.views",
    "subset": "storage.views",
    "write_annotation": "storage.annotations",
}

__all__ = sorted(_HOME)
__getattr__ = lazy_names(__name__, _HOME)


def __dir__() -> list[str]:
    return __all__
