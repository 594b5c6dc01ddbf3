"""Configs, recipes and builds, the command line and the Prefect flows: plan, map, collect.

==================================================  ================================================================
command_line, commands, config_file, progress       the command line
build_*, fit_landmarks, profile_faces, rebuild,     Prefect flows; flow_forms, run_pages, dataset_events,
train_systems, evaluate, verify_datasets            training_events: what they tell the server
deploy, prefect_plugin, plain_yaml                  deployments
config, presets, recipe, targets                    what decides a data set's bytes
build, local, planned_list, models_at_hand,         how any data set is built, on this machine or on Dask's workers
refusals, errors, dask_workers, worker_start*
incremental, repair, upkeep                         and built again, mended, looked after
posmaps, posmap_*, atlases, placed_faces,           the recipes of position maps, of fields in photographs, of ears
face_products, face_checks, augmented_copies,
densereg_fields, photograph_sample,
field_statistics, ear_fields
fits, fit_*, face_fits                              landmark fits of photographs
profiles, face_profiles, florence                   photographs turned, meshes rendered
training, training_*, evaluations, predict,         systems trained, measured and used
prediction_*, picture_boxes, face_transfer
browse, dataset_page, sheets, other_panels,         looking at things
unwrap, doctor
==================================================  ================================================================

The names below are imported when first used, so that ``import flows`` costs nothing.
"""

from geometry.lazy_names import lazy_names

FLOW_NAMES = (
    "build-300wlp-posmaps",
    "build-densereg-fields",
    "build-ear-fields",
    "fit-landmarks",
    "profile-faces",
    "evaluate",
    "rebuild",
    "verify",
    "train-dan",
    "train-densereg",
    "train-fan3d",
    "train-mesh-gcn",
    "train-prnet",
)
"""Every deployed flow; `infra/prefect.yaml` deploys each of them once, under :data:`DEPLOYMENT_NAME`."""

DEPLOYMENT_NAME = "default"

_HOME = {
    "DenseRegConfig": "flows.config",
    "Ground": "flows.targets.family",
    "Layout": "flows.targets.family",
    "PlannedSource": "flows.recipe",
    "PosmapConfig": "flows.config",
    "PredictOptions": "flows.predict",
    "Recipe": "flows.recipe",
    "Scene": "flows.targets.scene",
    "TargetFamily": "flows.targets.family",
    "TrainingDone": "flows.training_card",
    "build_here": "flows.local",
    "evaluate_here": "flows.evaluations",
    "predict_here": "flows.predict",
    "train_here": "flows.training",
}

__all__ = sorted([*_HOME, "DEPLOYMENT_NAME", "FLOW_NAMES"])
__getattr__ = lazy_names(__name__, _HOME)


def __dir__() -> list[str]:
    return __all__
