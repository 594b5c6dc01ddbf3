"""Presets: functions that return a whole config, one for each data set that people build by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from flows.config import BuildConfig, DenseRegConfig, FitsConfig, PosmapConfig
from geometry.fit_result import FitConfig
from geometry.landmarks import landmark_scheme


def posmaps_300wlp(**changes: object) -> PosmapConfig:
    """PRNet's position maps from 300W-LP; `changes` are fields of PosmapConfig, or of its crop."""
    crop = {name: changes.pop(name) for name in tuple(changes) if name in ("size_px", "margin")}
    return PosmapConfig.model_validate({**changes, **({"crop": crop} if crop else {})})


def densereg_fields(**changes: object) -> DenseRegConfig:
    """DenseReg's correspondence fields of whole photographs; `changes` are fields of DenseRegConfig."""
    return DenseRegConfig.model_validate(changes)


def ear_fields(**changes: object) -> BuildConfig:
    """Fields of ears; `changes` are fields of EarConfig."""
    from flows.ear_fields import EarConfig

    return EarConfig.model_validate(changes)


def landmark_fits(**changes: object) -> FitsConfig:
    """Fits to landmarks in photographs; `changes` are fields of FitsConfig, or of its fit.

    Jaw points march along the contour where the scheme has them, as they do where people or detectors put them.
    """
    scheme = landmark_scheme(str(changes.get("scheme", "ibug-68")))
    fit: dict[str, object] = {"contour": "march" if scheme.jaw else "fixed"}
    fit |= {name: changes.pop(name) for name in tuple(changes) if name in FitConfig.model_fields}
    return FitsConfig.model_validate({**changes, "fit": fit})


@dataclass(frozen=True, slots=True)
class Preset:
    """A data set that is built by name: its config, and which options of the command line it takes.

    `options` are a command's options and the changes that they are to `config`; `files` those that name a file.
    """

    config: Callable[..., BuildConfig]
    options: Mapping[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()

    def config_of(self, given: Mapping[str, object]) -> BuildConfig:
        """The config with the options that were given. Raises ValueError for one that it does not take."""
        strange = sorted(given.keys() - self.options.keys())
        if strange:
            names = ", ".join(f"--{name.replace('_', '-')}" for name in strange)
            raise ValueError(f"{names} does not belong to this data set; it takes {self.taken}")
        return self.config(**{self.options[name]: value for name, value in given.items()})

    @property
    def taken(self) -> str:
        """The options for people."""
        return ", ".join(f"--{name.replace('_', '-')}" for name in (*self.options, *self.files)) or "none of its own"


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "300wlp-posmaps": Preset(
            posmaps_300wlp,
            {
                "size": "size_px",
                "maps": "maps",
                "images": "images",
                "atlas": "atlas",
                "copies": "copies",
                "compat": "compat",
                "seed": "seed",
                "targets": "targets",
                "field_atlas": "field_atlas",
                "augment": "augment",
            },
            files=("mask",),
        ),
        "densereg-fields": Preset(densereg_fields, {"longest": "longest_px", "field_atlas": "atlas"}, files=("mask",)),
        "ear-fields": Preset(ear_fields, {"size": "size_px", "smoothing": "smoothing"}),
    }
)
"""By name: a flow's name without ``build-``."""
