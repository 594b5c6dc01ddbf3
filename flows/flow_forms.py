"""What the server's form shows beside its fields."""

from collections.abc import Callable
from typing import Any, get_type_hints

from pydantic.fields import FieldInfo


def described(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its parameters' descriptions in the docstring: Prefect reads them there, and nowhere else."""
    hints = get_type_hints(function, include_extras=True)
    fields = ((name, field) for name, hint in hints.items() for field in getattr(hint, "__metadata__", ()))
    lines = [f"    {name}: {field.description}" for name, field in fields if isinstance(field, FieldInfo)]
    function.__doc__ = "\n".join([function.__doc__ or "", "", "Args:", *lines])
    return function
