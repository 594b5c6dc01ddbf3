"""From where a random number is drawn, as configuration: the numbers that a paper's augmentation states."""

from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, Field, model_validator


def check_possible(name: str, limits: tuple[float, float], possible: tuple[float, float]) -> None:
    """Raise ValueError for a field whose draws (a spread's `limits`) can lie outside of what is possible."""
    (low, high), (lowest, highest) = limits, possible
    if low < lowest or high > highest:
        raise ValueError(
            f"{name} can be drawn from {low:g} to {high:g}, and is possible from {lowest:g} to {highest:g}: "
            "narrow its range (a normal one by its stddev, or by its reach)"
        )


class Uniform(BaseModel, frozen=True, extra="forbid"):
    """Every number of [low, high] alike."""

    kind: Literal["uniform"] = "uniform"
    low: float = Field(allow_inf_nan=False)
    high: float = Field(allow_inf_nan=False)

    @model_validator(mode="after")
    def _ordered(self) -> "Uniform":
        if self.low > self.high:
            raise ValueError(f"a range begins at its lower end, not [{self.low:g}, {self.high:g}]")
        return self

    @property
    def limits(self) -> tuple[float, float]:
        """The lowest and highest number that can come."""
        return self.low, self.high

    def draw(self, rng: np.random.Generator) -> float:
        """One number."""
        return float(rng.uniform(self.low, self.high))


class Normal(BaseModel, frozen=True, extra="forbid"):
    """A bell about `mean`; what lies beyond `reach` standard deviations is drawn again."""

    kind: Literal["normal"] = "normal"
    mean: float = Field(0.0, allow_inf_nan=False)
    stddev: float = Field(ge=0, allow_inf_nan=False)
    reach: float = Field(3.0, ge=1, le=10, description="Standard deviations.")

    @property
    def limits(self) -> tuple[float, float]:
        """The lowest and highest number that can come."""
        return self.mean - self.reach * self.stddev, self.mean + self.reach * self.stddev

    def draw(self, rng: np.random.Generator) -> float:
        """One number."""
        while abs(z := float(rng.standard_normal())) > self.reach:
            pass
        return self.mean + self.stddev * z


class OneOf(BaseModel, frozen=True, extra="forbid"):
    """One of a few numbers, each alike."""

    kind: Literal["one_of"] = "one_of"
    values: tuple[float, ...] = Field(min_length=1)

    @property
    def limits(self) -> tuple[float, float]:
        """The lowest and highest number that can come."""
        return min(self.values), max(self.values)

    def draw(self, rng: np.random.Generator) -> float:
        """One number."""
        return self.values[int(rng.integers(len(self.values)))]


Spread = Annotated[Uniform | Normal | OneOf, Field(discriminator="kind")]


class Sometimes(BaseModel, frozen=True, extra="forbid"):
    """An operation that happens to a share of the samples, by an amount that is drawn."""

    probability: float = Field(1.0, ge=0, le=1)
    amount: Spread

    @property
    def limits(self) -> tuple[float, float]:
        """The lowest and highest amount."""
        return self.amount.limits

    def draw(self, rng: np.random.Generator) -> float | None:
        """The amount, or None where nothing happens; both cost the same draws, so that neighbours do not move."""
        happens = rng.random() < self.probability
        amount = self.amount.draw(rng)
        return amount if happens else None
