"""How a system is trained, whichever it is; lengths and rates are the system's own (:class:`train.system.PhaseConfig`)."""

from typing import Any, Literal

from pydantic import BaseModel, Field

OWN, NONE = "own", "none"
_WITHOUT_EFFECT = {"workers", "compile", "save_every", "log_every"}


class RunConfig(BaseModel, frozen=True, extra="forbid"):
    """How a system is trained, whichever it is. Lengths and rates are the system's (its phases)."""

    seed: int = Field(0, ge=0, lt=2**31, description="Seed of order, augmentation, dropout and what else is drawn.")
    augment: str = Field(
        OWN,
        description="own: the preset that the system's paper trained with; none; another preset or a mixture by weight "
        "(prnet:2+dan).",
    )
    precision: Literal["float32", "bf16"] = Field("float32", description="bf16: automatic mixed precision.")
    accumulate: int = Field(1, ge=1, description="Batches whose gradients make one step.")
    ema_decay: float | None = Field(
        None, gt=0, lt=1, description="Weights are averaged so; the average is what is validated and kept."
    )
    gradient_clip: float | None = Field(None, gt=0, description="Largest norm of the gradient.")
    diverged_above: float = Field(
        100.0, gt=1, description="A loss of so many times the phase's first one ends the run."
    )
    compile: bool = Field(False, description="torch.compile the network.")
    workers: int = Field(0, ge=0, description="Processes that read ahead.")
    validate_every: int = Field(200, ge=1, description="Steps between two validations.")
    save_every: int = Field(200, ge=1, description="Steps between two checkpoints.")
    log_every: int = Field(50, ge=1, description="Steps between two lines of the log.")

    def identity(self) -> dict[str, Any]:
        """The fields that a run's weights depend on."""
        return self.model_dump(mode="json", exclude=_WITHOUT_EFFECT)

    def augmentation(self, own: str) -> str | None:
        """The preset or mixture to read with; `own` is the system's."""
        return {OWN: own, NONE: None}.get(self.augment, self.augment)
