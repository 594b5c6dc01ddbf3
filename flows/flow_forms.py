"""What the server's form shows: the fields that flows share, and what stands beside each field."""

from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

from pydantic import Field
from pydantic.fields import FieldInfo

Model = Annotated[str, Field(description="'built-in', or the morphable model's file or folder.")]
Out = Annotated[str, Field(description="Where data sets lie.")]
Workers = Annotated[int, Field(ge=0, description="Worker processes; 0: one for each core.")]
Scheduler = Annotated[
    str | None, Field(description="A Dask scheduler's address, or 'local'; none: processes of this machine.")
]


def described(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its parameters' descriptions in the docstring: Prefect reads them there, and nowhere else."""
    hints = get_type_hints(function, include_extras=True)
    fields = ((name, field) for name, hint in hints.items() for field in getattr(hint, "__metadata__", ()))
    lines = [f"    {name}: {field.description}" for name, field in fields if isinstance(field, FieldInfo)]
    function.__doc__ = "\n".join([function.__doc__ or "", "", "Args:", *lines])
    return function
