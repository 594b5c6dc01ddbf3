"""The recipes: plan, map, collect. Importing this package imports nothing else."""

FLOW_NAMES = ("build-300wlp-posmaps", "fit-landmarks")
"""Every deployed flow; `infra/prefect.yaml` deploys each of them once, under :data:`DEPLOYMENT_NAME`."""

DEPLOYMENT_NAME = "default"
