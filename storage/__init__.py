"""Sources, annotation files, shards and data sets: everything that touches a disk.

==================================================  ================================================================
dataset, views, sample_index, decoding              reading a published data set: begin here
schema, codes, byte_codes, fixed_point_kernel,      what a sample holds, and how it becomes bytes
*_targets, zarr_format
manifest, shards, publish, versions, pins, verify,  versions: written, published, kept, repaired, compared
reuse, version_diff, phases
store, local_store, object_store, stores            where objects lie
sources, source_groups, annotations, contour_*,     300W-LP and AFLW2000-3D as they are on disk
file_names, mat_*
photographs, landmark_*, face_boxes, detector,      photographs and landmarks; fit_files, field_crops,
evaluation_*                                        pose_renders, mesh_*: what is made of them
synthetic, synthetic_groups, ear_sample, people,    what is drawn here for whoever has no data
people_*, sample_*, drawn_folder, drawing_workers
images, jpeg, json_files, regular_files,            files of any kind, strangers' above all
whole_files, file_digests, folder_*, bad_sample,
processes
card, exports                                       data cards; other programs' formats
==================================================  ================================================================

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
