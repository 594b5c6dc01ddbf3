"""What the server's form shows of every deployed flow: each parameter with a type, a word on what it is, and its limits."""

import importlib

import pytest
import yaml
from prefect.utilities.schema_tools.validation import ValidationError, validate

from flows import FLOW_NAMES, dataset_events
from flows.deploy import full_name, infra_folder

DEPLOYMENTS = {
    full_name(each).partition("/")[0]: each
    for each in yaml.safe_load((infra_folder() / "prefect.yaml").read_text())["deployments"]
}
KINDS = {"build", "training", "evaluation", "upkeep"}


def flow_named(name: str):
    module, _, function = DEPLOYMENTS[name]["entrypoint"].rpartition(".")
    return getattr(importlib.import_module(module), function)


def is_typed(parameter: dict) -> bool:
    """Whether the form can tell what may be put in: a type, a choice, or one of several types."""
    choices = parameter.get("anyOf") or [parameter]
    return all("type" in choice or "enum" in choice or "$ref" in choice for choice in choices)


@pytest.mark.parametrize("name", FLOW_NAMES)
def test_every_parameter_has_a_type_a_title_and_a_description(name):
    flow = flow_named(name)
    form = flow.parameters.model_dump()
    assert form["properties"], name
    for parameter, field in form["properties"].items():
        assert is_typed(field), (parameter, field)
        assert field["title"], parameter
        assert len(field.get("description", "")) > 10, f"{name}: {parameter} has no description"
    assert flow.description, name
    assert DEPLOYMENTS[name]["description"], name


@pytest.mark.parametrize("name", FLOW_NAMES)
def test_the_form_refuses_what_the_flow_would_refuse(name):
    """A worker count below zero, a share above one: said before a process starts."""
    properties = flow_named(name).parameters.properties
    for parameter, (bound, limit) in {"workers": ("minimum", 0), "max_bad": ("maximum", 1)}.items():
        if parameter in properties:
            field = properties[parameter]
            assert any(choice.get(bound) == limit for choice in field.get("anyOf") or [field]), (parameter, field)


@pytest.mark.parametrize("given", [{"images": "jpeg:101"}, {"seed": 2**63}, {"size": 64}])
def test_the_form_of_the_main_job_refuses_what_its_config_would_refuse(given):
    form = flow_named("build-300wlp-posmaps").parameters.model_dump(exclude_none=True)
    with pytest.raises(ValidationError):
        validate(given, form, raise_on_error=True)
    validate({"images": "jpeg:100", "seed": 2**63 - 1, "size": 128}, form, raise_on_error=True)


def test_every_run_can_be_found_by_what_it_is():
    for name, deployment in DEPLOYMENTS.items():
        assert deployment["tags"][0] == "facefoundry"  # infra/automations.yaml looks after these runs alone
        assert len(KINDS & set(deployment["tags"])) == 1, name
        assert deployment["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}, name


@pytest.mark.parametrize("name", FLOW_NAMES)
def test_a_run_is_named_by_what_it_works_on_and_not_by_chance(name):
    assert flow_named(name).flow_run_name, "the server would call it by an adjective and an animal"


@pytest.mark.parametrize(
    ("dataset", "refused"),
    [("300wlp-posmaps", {"augment": "prnet"}), ("densereg-fields", {"longest": 1}), ("ear-fields", {"size": 1})],
)
def test_a_build_whose_config_is_refused_is_told_as_one_that_failed(dataset, refused, monkeypatch):
    told = []
    monkeypatch.setattr(dataset_events, "emit_event", lambda **event: told.append(event))
    with pytest.raises(ValueError, match=next(iter(refused))):
        flow_named(f"build-{dataset}").fn(**refused)
    (event,) = told
    assert event["event"] == "dataset.failed"
    assert event["payload"]["dataset"] == dataset
