"""How the values of a target become the numbers on disk, and back: pure functions, held to laws by the tests.

A code refuses what it cannot hold, with :class:`BadSample`; it never clips, wraps or rounds to the nearest thing that
fits.
"""

from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float, Shaped, UInt16
from pydantic import BaseModel, Field, field_validator

from storage.bad_sample import BadSample
from storage.byte_codes import FileBytes, Jpeg

FILL_CODE = 65535
"""What a hole reads as through a reader that fills holes: no value is ever encoded as this."""

_BLOCK = 1 << 15


class Plain(BaseModel, frozen=True, extra="forbid"):
    """The values as they are."""

    kind: Literal["plain"] = "plain"

    def stored(self, dtype: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
        """Dtype and shape on disk of one sample of the given dtype and shape."""
        return dtype, shape

    def encode(self, values: Shaped[np.ndarray, "*shape"]) -> Shaped[np.ndarray, "*shape"]:
        """The same array."""
        return values

    def decode(self, stored: Shaped[np.ndarray, "*shape"]) -> Shaped[np.ndarray, "*shape"]:
        """The same array."""
        return stored


class FixedPoint(BaseModel, frozen=True, extra="forbid"):
    """Float32 as u16, ``value = code / steps_per_unit − offset``; by default −256 … 767.96 px in steps of 1/64 px.

    Steps are powers of two and offsets whole, so both directions are exact in float32 but for the one rounding: the
    error is at most half a step (1/128 px).
    """

    kind: Literal["fixed_point"] = "fixed_point"
    steps_per_unit: int = Field(default=64, ge=1, le=32768)
    offset: int = 256

    @field_validator("steps_per_unit")
    @classmethod
    def _power_of_two(cls, steps: int) -> int:
        if steps & (steps - 1):
            raise ValueError(f"{steps} steps per unit is not a power of two; decoding would not be exact in float32")
        return steps

    @property
    def lowest(self) -> float:
        """The smallest value that can be stored."""
        return float(-self.offset)

    @property
    def highest(self) -> float:
        """The largest value that can be stored: :data:`FILL_CODE` is kept free."""
        return (FILL_CODE - 1) / self.steps_per_unit - self.offset

    @property
    def precision(self) -> float:
        """The largest error of a stored value."""
        return 0.5 / self.steps_per_unit

    def stored(self, dtype: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
        """Dtype and shape on disk of one sample of the given dtype and shape."""
        if dtype != "float32":
            raise ValueError(f"fixed point holds float32 values, not {dtype}")
        return "uint16", shape

    def encode(self, values: Float[np.ndarray, "*shape"]) -> UInt16[np.ndarray, "*shape"]:
        """The nearest codes. Raises BadSample for values out of range and for NaN."""
        codes = np.empty(values.shape, dtype=np.uint16)
        for some, out in _blocks(values, codes):
            with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused below
                scaled = some * np.float32(self.steps_per_unit)
                np.rint(scaled, out=scaled)
                scaled += np.float32(self.offset * self.steps_per_unit)
            if not (scaled.min() >= 0 and scaled.max() < FILL_CODE):  # NaN fails too
                raise self._refusal(values)
            np.copyto(out, scaled, casting="unsafe")
        return codes

    def decode(self, stored: UInt16[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """The values of the codes (float32, exact)."""
        values = np.empty(stored.shape, dtype=np.float32)
        self.decode_into(stored, values)
        return values

    def decode_into(self, stored: UInt16[np.ndarray, "*shape"], values: Float[np.ndarray, "*shape"]) -> None:
        """Write the values of the codes into `values` (float32, contiguous)."""
        from storage.fixed_point_kernel import decode  # on first use: writing and listing need no compiler

        flat = np.ascontiguousarray(stored).reshape(-1)
        decode(flat, values.reshape(-1), np.float32(1 / self.steps_per_unit), np.float32(self.offset))

    def _refusal(self, values: np.ndarray) -> BadSample:
        if not np.isfinite(values).all():
            return BadSample("target.nonfinite", "a value is not finite; such a sample has no fixed-point code")
        return BadSample(
            "target.range",
            f"values from {values.min():.2f} to {values.max():.2f} do not fit the fixed-point range from "
            f"{self.lowest:g} to {self.highest:.2f}, and values are never clipped",
        )


class Utf8(BaseModel, frozen=True, extra="forbid"):
    """A text as UTF-8 bytes, padded with zeros."""

    kind: Literal["utf8"] = "utf8"
    max_bytes: int = Field(default=128, ge=1, le=65536)

    def stored(self, dtype: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
        """Dtype and shape on disk of one sample of the given dtype and shape."""
        if dtype != "str" or shape:
            raise ValueError(f"the utf8 code holds one text a sample, not {dtype} of shape {shape}")
        return "uint8", (self.max_bytes,)

    def encode(self, values: Shaped[np.ndarray, ""]) -> Shaped[np.ndarray, " b"]:
        """The padded bytes of one text (shape ()). Raises BadSample when it is too long or holds NUL."""
        text = str(values[()])  # of the array itself NumPy would print it, which takes ten times as long
        try:
            data = text.encode("utf-8")
        except UnicodeEncodeError:
            raise BadSample("target.text", f"{text!r} is not valid Unicode text") from None
        if len(data) > self.max_bytes or b"\0" in data:
            raise BadSample(
                "target.text",
                f"{text!r} has {len(data)} UTF-8 bytes; at most {self.max_bytes} fit, and none may be NUL",
            )
        stored = np.zeros(self.max_bytes, dtype=np.uint8)
        stored[: len(data)] = np.frombuffer(data, dtype=np.uint8)
        return stored

    def decode(self, stored: Shaped[np.ndarray, "*n b"]) -> Shaped[np.ndarray, "*n"]:
        """The texts as a NumPy array of strings."""
        rows = stored.reshape(-1, stored.shape[-1])
        texts = [row.tobytes().rstrip(b"\0").decode("utf-8") for row in rows]
        return np.array(texts, dtype=np.str_).reshape(stored.shape[:-1])


Code = Annotated[Plain | FixedPoint | Utf8 | FileBytes | Jpeg, Field(discriminator="kind")]


def _blocks(source: np.ndarray, target: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Both arrays piece by piece, so small that a piece stays in the processor's cache between operations."""
    flat = np.ascontiguousarray(source).reshape(-1)
    out = target.reshape(-1)
    for start in range(0, flat.size, _BLOCK):
        yield flat[start : start + _BLOCK], out[start : start + _BLOCK]
