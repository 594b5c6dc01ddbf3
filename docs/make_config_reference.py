"""Writes docs/configs.md from the configs themselves: python docs/make_config_reference.py.

`tests/flows/test_config_page.py` holds the page against what this would write.
"""

import ast
import inspect
import itertools
import re
import sys
import textwrap
import typing
from collections.abc import Iterator
from pathlib import Path
from types import NoneType

from annotated_types import Ge, Gt, Le, Lt, MinLen, MultipleOf
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from flows.config import DenseRegConfig, FitsConfig, PosmapConfig
from flows.ear_fields import EarConfig
from flows.face_profiles import ProfilesConfig
from geometry.fit_result import FitConfig
from render.augmentation_config import AugmentationConfig, OcclusionConfig
from render.crop import CropConfig
from render.people_config import HairWeights, PeopleConfig
from train import dan, densereg, fan3d, mesh_gcn, prnet
from train.run_config import RunConfig
from train.system import OptimiserConfig, PhaseConfig, SystemConfig

sys.path.insert(0, str(Path(__file__).parent))
from make_reference import as_markdown

PAGE = Path(__file__).with_name("configs.md")

SECTIONS: tuple[tuple[str, str, tuple[type[BaseModel], ...]], ...] = (
    (
        "Data sets",
        "What decides the bytes of a data set: it is in the manifest, and another value is another version.",
        (PosmapConfig, CropConfig, DenseRegConfig, EarConfig),
    ),
    ("Fits and turned faces", "Of `fit-landmarks` and `fit`, and of `profile`.", (FitsConfig, FitConfig, ProfilesConfig)),
    (
        "Augmentation and drawn people",
        "A *spread* is how a number is drawn: `Uniform(low, high)` or `Normal(mean, stddev, reach)` of `render.spreads`; one "
        "that is drawn *sometimes* is `Sometimes(probability, amount)`. Presets ([augmentation](augmentation.md), "
        "[people](rendered-people.md)) are functions that return whole configs.",
        (AugmentationConfig, OcclusionConfig, PeopleConfig, HairWeights),
    ),
    (
        "Trainings",
        "Every field is changed by `--set NAME=VALUE`, phases by `--set phases.NAME.FIELD=VALUE`: "
        "[training](training.md#tiny-and-paper). Defaults here are the papers'; `tiny` changes them.",
        (
            RunConfig, SystemConfig, PhaseConfig, OptimiserConfig, dan.DANConfig, fan3d.Fan3dConfig,
            densereg.DenseRegConfig, prnet.PRNetConfig, mesh_gcn.MeshGcnConfig,
        ),
    ),
)  # fmt: skip

_BOUNDS = {Ge: "≥ {0.ge}", Gt: "> {0.gt}", Le: "≤ {0.le}", Lt: "< {0.lt}", MultipleOf: "a multiple of {0.multiple_of}",
           MinLen: "at least {0.min_length}"}  # fmt: skip


def page() -> str:
    """The whole page."""
    lines = [
        "# Every config",
        "",
        "Configs are frozen pydantic models beside what they configure; an unknown field, a wrong type or a value out of "
        "range is refused with its name. The command line has an option for what is chosen often; in Python all of them can be "
        "set: `build_here(PosmapConfig(crop=CropConfig(margin=1.6)), …)`. "
        "This page is made from the program (`python docs/make_config_reference.py`).",
    ]
    for title, about, models in SECTIONS:
        lines += ["", f"## {title}", "", about]
        for model in models:
            lines += ["", *section(model)]
    return "\n".join(lines) + "\n"


def section(model: type[BaseModel]) -> Iterator[str]:
    """One model: where it lives, what it is, a row for each field that its parent does not have alike."""
    yield f"### {model.__name__}"
    yield ""
    about = as_markdown(inspect.cleandoc(model.__doc__ or "").splitlines()[0])
    yield f"`{model.__module__}.{model.__name__}`. {about}"
    of_system = issubclass(model, SystemConfig) and model is not SystemConfig
    yield from ["", f"Besides those of {SystemConfig.__name__}:"] if of_system else []
    yield from ("", "| field | type | default | |", "|---|---|---|---|")
    said = docstrings_of_fields(model)
    for name, field in model.model_fields.items():
        if of_system and name in SystemConfig.model_fields:
            continue
        meaning = field.description or said.get(name) or see(field)
        yield f"| `{name}` | {type_of(field)} | {default_of(field)} | {cell(meaning)} |"


def docstrings_of_fields(model: type[BaseModel]) -> dict[str, str]:
    """The texts that stand under fields in the source."""
    (body,) = (node.body for node in ast.parse(textwrap.dedent(inspect.getsource(model))).body)
    texts = {}
    for field, text in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            texts[field.target.id] = " ".join(str(text.value.value).split())
    return texts


def see(field: FieldInfo) -> str:
    """Of a config within a config: where its fields are."""
    names = [t.__name__ for t in (field.annotation, *typing.get_args(field.annotation)) if is_config(t)]
    return f"See [{names[0]}](#{names[0].lower()})." if names else ""


def is_config(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def type_of(field: FieldInfo) -> str:
    """The type and its bounds, for people."""
    bounds = [_BOUNDS[type(m)].format(m) for m in field.metadata if type(m) in _BOUNDS]
    bounds = [bound.replace(str(2**63), "2⁶³").replace(str(2**31), "2³¹") for bound in bounds]
    return cell(", ".join([plain(field.annotation), *bounds]))


def plain(annotation: typing.Any) -> str:
    """A type as one would say it."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin is tuple:
        return (
            f"list of {plain(arguments[0])}"
            if arguments[-1] is Ellipsis
            else f"{len(arguments)} × {plain(arguments[0])}"
        )
    if origin is typing.Annotated:
        return "spread" if is_spread(annotation) else plain(arguments[0])
    if "Sometimes" in str(annotation):
        return "spread, sometimes; or none"
    if arguments:
        if is_spread(annotation):
            return "spread or none" if NoneType in arguments else "spread"
        return " or ".join("none" if a is NoneType else plain(a) for a in arguments)
    return {"str": "text", "int": "whole number", "float": "number", "bool": "true or false"}.get(
        annotation.__name__, annotation.__name__
    )


def is_spread(annotation: typing.Any) -> bool:
    """Whether it is one of the distributions of :mod:`render.draws`."""
    return "Uniform" in str(annotation)


def default_of(field: FieldInfo) -> str:
    """The default, short; a dash where there is none."""
    value = field.default
    if value is PydanticUndefined:
        return "—"
    if value is None:
        return "none"
    if isinstance(value, BaseModel):
        changed = {k: v for k, v in value.model_dump(exclude_defaults=True).items() if k != "kind"}
        told = cell(", ".join(f"{k} {shown(v)}" for k, v in changed.items()))
        is_spread = not type(value).__name__.endswith("Config") and told
        return told if is_spread else f"its defaults, but {told}" if told else "its defaults"
    if isinstance(value, bool):
        return str(value).lower()
    return f"`{value}`" if isinstance(value, str) else cell(shown(value)) or "none"


def shown(value: object) -> str:
    """A value in one line."""
    if isinstance(value, tuple):
        return " ".join(map(shown, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def cell(text: str) -> str:
    """Text that may stand in a table."""
    return re.sub(r"\s+", " ", text).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page())
