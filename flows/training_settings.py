"""What a training is told to do: a preset's config and the run's, changed field by field (``--set field=value``)."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from flows.errors import what_is_wrong
from train.systems import system_class

if TYPE_CHECKING:
    from train.run_config import RunConfig
    from train.system import SystemConfig

PresetName = Literal["tiny", "paper"]


def configs(
    system_name: str,
    preset: PresetName,
    *,
    settings: Sequence[str] = (),
    steps: int | None = None,
    augment: str | None = None,
) -> "tuple[SystemConfig, RunConfig]":
    """The preset's whole config and the run's, with what was asked for changed. Raises ValueError, naming the fields."""
    from train.run_config import RunConfig

    presets = system_class(system_name).presets
    if preset not in presets:
        raise ValueError(f"{system_name} has no preset {preset!r}; it has {', '.join(presets)}")
    chosen = presets[preset]()
    own: dict[str, Any] = chosen.model_dump(mode="json")
    run = RunConfig().model_dump(mode="json")
    if augment is not None:
        run["augment"] = augment
    if steps is not None:
        for phase in own["phases"]:
            phase |= {"steps": steps, "epochs": None}
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals:
            raise ValueError(f"--set takes field=value, such as batch_size=8, not {setting!r}")
        target = own if path.split(".")[0] in own else run
        _set(target, path, _value(text), known=(*own, *run))
    try:
        return type(chosen).model_validate(own), RunConfig.model_validate(run)
    except ValidationError as error:
        raise ValueError(f"--set {what_is_wrong(error.errors())}") from None


def _set(target: dict[str, Any], path: str, value: object, *, known: Sequence[str]) -> None:
    """Change one field; phases go by number or by name: ``phases.stage-1.optimiser.learning_rate``."""
    *way, last = path.split(".")
    place: Any = target
    there = f"there are {', '.join(known)}, and fields of theirs by dots"
    for number, step in enumerate(way, 1):
        place = _fields(place).get(step)
        if fields := _fields(place):
            names = [name for name in fields if not name.isdigit()] or list(fields)
            there = f"{'.'.join(way[:number])} has {', '.join(names)}"
    if not isinstance(place, dict) or last not in place:
        raise ValueError(f"there is no field {path!r} to --set; {there}")
    place[last] = value
    if last in ("steps", "epochs") and value is not None and {"steps", "epochs"} <= set(place):
        place["epochs" if last == "steps" else "steps"] = None  # a phase's length is one of the two


def _fields(value: object) -> dict[str, Any]:
    """What a dot may name: a table's fields, a list's parts by number and by name; of anything else nothing."""
    if isinstance(value, list):
        named = {one["name"]: one for one in value if isinstance(one, dict) and "name" in one}
        return {str(number): one for number, one in enumerate(value)} | named
    return value if isinstance(value, dict) else {}


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
