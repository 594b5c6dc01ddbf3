"""Presets: functions that return a whole config, one for each data set that people build by name."""

from flows.config import FitsConfig, PosmapConfig
from geometry.fit_result import FitConfig
from geometry.landmarks import landmark_scheme


def posmaps_300wlp(**changes: object) -> PosmapConfig:
    """PRNet's position maps from 300W-LP; `changes` are fields of PosmapConfig, or of its crop."""
    crop = {name: changes.pop(name) for name in tuple(changes) if name in ("size_px", "margin")}
    return PosmapConfig.model_validate({**changes, **({"crop": crop} if crop else {})})


def landmark_fits(**changes: object) -> FitsConfig:
    """Fits to landmarks in photographs; `changes` are fields of FitsConfig, or of its fit.

    Jaw points march along the contour where the scheme has them, as they do where people or detectors put them.
    """
    scheme = landmark_scheme(str(changes.get("scheme", "ibug-68")))
    fit: dict[str, object] = {"contour": "march" if scheme.jaw else "fixed"}
    fit |= {name: changes.pop(name) for name in tuple(changes) if name in FitConfig.model_fields}
    return FitsConfig.model_validate({**changes, "fit": fit})
