"""Configs, recipes and builds, the command line and the Prefect flows: plan, map, collect.

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
