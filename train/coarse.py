"""Systems whose encoder and shortcut can learn first and alone, many times as fast as the whole (ours: `prnet`, `mesh_gcn`)."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from train.system import Batch, PhaseConfig, System, SystemConfig, landmark_errors

COARSE = "coarse"
"""The phase in which they learn alone."""


class CoarseConfig(SystemConfig, frozen=True, extra="forbid"):
    """What such a system's config has; each says what its shortcut is, and 0 or False is none."""

    shortcut: int
    depth_offset: float = Field(
        1.0,
        ge=0,
        le=1,
        description="The share of a sample's mean error in z that counts: no picture tells where z is 0.",
    )

    @model_validator(mode="after")
    def _coarse_has_a_shortcut(self) -> "CoarseConfig":
        if not self.shortcut and any(phase.name == COARSE for phase in self.phases):
            raise ValueError(f"phase {COARSE} is the shortcut's, and the config has none: leave it out of phases")
        return self


class CoarseSystem(System):
    """A system with such a phase: what it learns in it, and what it is measured by."""

    config: CoarseConfig

    @abstractmethod
    def coarse_parts(self) -> Sequence[nn.Module]:
        """Encoder and shortcut; the config has one."""

    @abstractmethod
    def predict_landmarks(self, images: Float[Tensor, "n 3 s s"], *, coarse: bool = False) -> Float[Tensor, "n p d"]:
        """As of every system; `coarse`: what the shortcut alone says."""

    def learns(self, phase: PhaseConfig) -> Iterator[nn.Parameter]:
        """Everything, or encoder and shortcut."""
        if phase.name != COARSE:
            yield from super().learns(phase)
        else:
            for part in self.coarse_parts():
                yield from part.parameters()

    def errors(self, batch: Batch, phase: PhaseConfig) -> Float[np.ndarray, " n"]:
        """As of every system; in the shortcut's own phase of what it says alone."""
        return landmark_errors(self, self.predict_landmarks(batch["image"], coarse=phase.name == COARSE), batch)
