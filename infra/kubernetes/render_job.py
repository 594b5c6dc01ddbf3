"""Prints the job that job-template.json makes of its defaults, as the worker would send it: to be looked at and validated."""

import json
import re
from pathlib import Path

PLACEHOLDER = re.compile(r"\{\{ (\w+) \}\}")
GIVEN_BY_WORKER = {"name": "example", "command": ["prefect", "flow-run", "execute"]}


def filled(value: object, variables: dict[str, object]) -> object:
    """The template with variables put in; what has neither value nor default is left out, as Prefect does."""
    if isinstance(value, dict):
        items = {key: filled(entry, variables) for key, entry in value.items()}
        return {key: entry for key, entry in items.items() if entry is not None}
    if isinstance(value, list):
        return [filled(entry, variables) for entry in value]
    if not isinstance(value, str):
        return value
    whole = PLACEHOLDER.fullmatch(value)
    return variables.get(whole[1]) if whole else PLACEHOLDER.sub(lambda match: str(variables.get(match[1], "")), value)


def example_job() -> dict[str, object]:
    """The manifest for a run that nothing was changed for, with a name as the cluster would make it."""
    template = json.loads(Path(__file__).with_name("job-template.json").read_text())
    defaults = {name: entry.get("default") for name, entry in template["variables"]["properties"].items()}
    job = filled(template["job_configuration"]["job_manifest"], {**defaults, **GIVEN_BY_WORKER})
    job["metadata"]["name"] = job["metadata"].pop("generateName") + "x7k2p"
    return job


if __name__ == "__main__":
    print(json.dumps(example_job(), indent=2))
