"""The recipes: plan, map, collect. Importing this package imports nothing else."""

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
