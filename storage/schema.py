"""What one sample of a data set holds: a list of named targets. A new target is a new entry."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
from jaxtyping import Shaped
from pydantic import BaseModel, Field, model_serializer, model_validator

from storage.bad_sample import BadSample
from storage.byte_codes import FileBytes, Jpeg
from storage.codes import Code, FixedPoint, Plain, Utf8
from storage.zarr_format import ChunkFormat, Compression

DType = Literal["bool", "uint8", "uint16", "int16", "int32", "int64", "float32", "float64", "str", "bytes"]
_NAME = r"^[a-z][a-z0-9_]*$"
_KINDS = {"str": "U", "bytes": "O"}
"""NumPy's kinds of what is no number."""


class Target(BaseModel, frozen=True, extra="forbid"):
    """One stored array: what a sample of it means, and how it becomes bytes."""

    name: str = Field(pattern=_NAME)
    """The array's name, which is also its folder's."""
    dtype: DType
    """What readers get."""
    sample_shape: tuple[int, ...] = ()
    """The shape that readers get; pictures are (rows, columns, channels)."""
    axes: tuple[str, ...] = ()
    """A name for each axis of a sample; axes of equal name have equal length (xarray's rule)."""
    unit: str = ""
    """px, mm, rad, sRGB …"""
    description: str
    code: Code = Plain()
    """How values become stored numbers."""
    compression: Compression = "none"
    channels_first: bool = False
    """The last axis comes first on disk and in memory: smaller files, and no copy on the way to a network."""
    limits: tuple[float, float] | None = None
    """The lowest and highest value a good sample may have."""
    allow_nan: bool = False
    """Whether NaN means "not known" here; otherwise it makes a sample bad."""
    precision: float | None = None
    """The largest error of what readers get, in `unit`; None: not stated, or its code says it."""
    on_request: bool = False
    """Read only by those who name it, or ask for what is made of it."""

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Fields that came later: schemas without them are written as they always were, so versions stay."""
        return _without_defaults(handler(self), precision=None, on_request=False)

    @model_validator(mode="after")
    def _consistent(self) -> "Target":
        if self.axes and len(self.axes) != len(self.sample_shape):
            raise ValueError(f"{self.name}: {len(self.axes)} axis names {self.axes} for shape {self.sample_shape}")
        if self.channels_first and (len(self.sample_shape) != 3 or isinstance(self.code, Utf8)):
            raise ValueError(
                f"{self.name}: only (rows, columns, channels) can be channels first, not {self.sample_shape}"
            )
        if isinstance(self.code, FixedPoint) and self.allow_nan:
            raise ValueError(f"{self.name}: fixed point has no code for NaN")
        if isinstance(self.code, Jpeg) and not self.channels_first:
            raise ValueError(f"{self.name}: the jpeg code gives pictures with the channels first in memory")
        for dtype, kind in (("str", "utf8"), ("bytes", "file_bytes")):
            if (self.dtype == dtype) != (self.code.kind == kind):
                raise ValueError(
                    f"{self.name}: dtype {dtype} and the {kind} code go together, not {self.dtype} and {self.code.kind}"
                )
        self.code.stored(self.dtype, self.sample_shape)
        return self

    @property
    def chunk(self) -> ChunkFormat:
        """One sample on disk."""
        dtype, shape = self.code.stored(self.dtype, self.sample_shape)
        return ChunkFormat(dtype, self._in_memory(shape), self.compression)

    @property
    def memory_shape(self) -> tuple[int, ...]:
        """A sample's shape as it lies in a reader's memory, before :meth:`channels_last`."""
        return self._in_memory(self.sample_shape)

    def _in_memory(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (shape[-1], *shape[:-1]) if self.channels_first else shape

    @property
    def dimension_names(self) -> tuple[str, ...]:
        """Names of the stored array's dimensions."""
        names = self.axes or tuple(f"{self.name}_{axis}" for axis in range(len(self.sample_shape)))
        if isinstance(self.code, Utf8 | FileBytes | Jpeg):
            return ("sample", f"{self.name}_byte")
        if self.channels_first:
            names = (names[-1], *names[:-1])
        return ("sample", *names)

    @property
    def attributes(self) -> dict[str, object]:
        """What other programs read beside the array; `scale_factor` and `add_offset` are CF's, which xarray applies."""
        attributes: dict[str, object] = {"long_name": self.description, "units": self.unit, "code": self.code.kind}
        if isinstance(self.code, FixedPoint):
            attributes |= {"scale_factor": 1 / self.code.steps_per_unit, "add_offset": -float(self.code.offset)}
            attributes |= {"precision": self.code.precision}
        if isinstance(self.code, Jpeg):
            attributes |= {"quality": self.code.quality, "chroma_subsampling": "4:2:0"}
        if self.precision is not None:
            attributes |= {"precision": self.precision}
        return attributes

    def encode(self, value: object) -> Shaped[np.ndarray, "..."]:
        """One sample's array as it is stored.

        Raises BadSample for values that may not be stored (out of limits, not finite), and ValueError for a shape or
        dtype that is not the schema's: the first is the sample's fault, the second the program's.
        """
        array = np.asarray(value, dtype=object if self.dtype == "bytes" else None)
        if array.shape != self.sample_shape or not self._takes(array.dtype):
            raise ValueError(
                f"target {self.name} holds {self.dtype} of shape {self.sample_shape}, "
                f"and was given {array.dtype} of shape {array.shape}"
            )
        self._check_values(array)
        if self.channels_first:
            array = np.ascontiguousarray(array.transpose(2, 0, 1))
        try:
            return self.code.encode(array)
        except BadSample as bad:
            raise bad.about(self.name) from None

    def decode(self, stored: Shaped[np.ndarray, "n ..."]) -> Shaped[np.ndarray, "n ..."]:
        """A batch of stored samples as readers get it; channels-first targets are a view with the channels last."""
        return self.channels_last(self.code.decode(stored))

    def channels_last(self, values: Shaped[np.ndarray, "n ..."]) -> Shaped[np.ndarray, "n ..."]:
        """A batch in the readers' layout, as a view."""
        return np.moveaxis(values, 1, -1) if self.channels_first else values

    def _takes(self, dtype: np.dtype) -> bool:
        kind = _KINDS.get(self.dtype)
        return dtype == self.dtype if kind is None else dtype.kind == kind

    def _check_values(self, array: np.ndarray) -> None:
        checked_by_code = isinstance(self.code, FixedPoint) or array.dtype.kind != "f"
        if not (checked_by_code or self.allow_nan or np.isfinite(array).all()):
            raise BadSample("target.nonfinite", f"{self.name}: a value is NaN or infinite")
        if self.limits is not None and array.size:
            low, high = np.nanmin(array), np.nanmax(array)
            if low < self.limits[0] or high > self.limits[1]:
                raise BadSample(
                    "target.limits",
                    f"{self.name}: values from {low:g} to {high:g} {self.unit} leave the limits "
                    f"{self.limits[0]:g} to {self.limits[1]:g}",
                )


class DerivedTarget(BaseModel, frozen=True, extra="forbid"):
    """An array that is not stored but worked out on reading, by the decoder of that name in :mod:`storage.decoding`."""

    name: str = Field(pattern=_NAME)
    dtype: DType
    sample_shape: tuple[int, ...]
    unit: str = ""
    description: str
    decoder: str = Field(pattern=_NAME)
    channels_first: bool = False
    """Whether the array's memory has the channels first (readers get them last, as always)."""
    on_request: bool = False
    """Too large for whoever asks for everything: worked out only when a reader names it."""
    precision: float | None = None
    """The largest error, in `unit`; None: not stated."""

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Fields that came later: schemas without them are written as they always were, so versions stay."""
        return _without_defaults(handler(self), precision=None, on_request=False)


def _without_defaults(fields: dict[str, Any], **defaults: object) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in defaults or value != defaults[name]}


class Schema(BaseModel, frozen=True, extra="forbid"):
    """The named targets of a data set."""

    targets: tuple[Target, ...]
    derived: tuple[DerivedTarget, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> "Schema":
        names = [target.name for target in self.everything]
        for name in {"tables", "receipts"} & set(names) | {name for name in names if names.count(name) > 1}:
            raise ValueError(f"the name {name} is taken; every target needs a name of its own")
        lengths: dict[str, int] = {}
        for target in self.targets:
            for axis, length in zip(target.axes, target.sample_shape, strict=False):
                if lengths.setdefault(axis, length) != length:
                    raise ValueError(
                        f"axis {axis} has length {length} in {target.name} and {lengths[axis]} before; "
                        "axes of different lengths need different names"
                    )
        return self

    @property
    def everything(self) -> tuple[Target | DerivedTarget, ...]:
        """Every target, stored ones first."""
        return (*self.targets, *self.derived)

    def __getitem__(self, name: str) -> Target | DerivedTarget:
        """The target of that name; KeyError lists the names there are."""
        for target in self.everything:
            if target.name == name:
                return target
        known = ", ".join(target.name for target in self.everything)
        raise KeyError(f"no target {name!r} in this data set; it has {known}")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all targets but those that are read or worked out on request alone."""
        return tuple(target.name for target in self.everything if not target.on_request)

    def encode(self, sample: Mapping[str, object]) -> dict[str, np.ndarray]:
        """Every stored target of one sample, checked and encoded (see :meth:`Target.encode`)."""
        expected = {target.name for target in self.targets}
        if sample.keys() != expected:
            missing, unknown = sorted(expected - sample.keys()), sorted(sample.keys() - expected)
            raise ValueError(f"a sample needs exactly the schema's targets; missing: {missing}, unknown: {unknown}")
        return {target.name: target.encode(sample[target.name]) for target in self.targets}
