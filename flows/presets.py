"""Presets: functions that return a whole config, one for each data set that people build by name."""

from flows.config import PosmapConfig


def posmaps_300wlp(**changes: object) -> PosmapConfig:
    """PRNet's position maps from 300W-LP; `changes` are fields of PosmapConfig, or of its crop."""
    crop = {name: changes.pop(name) for name in tuple(changes) if name in ("size_px", "margin")}
    return PosmapConfig.model_validate({**changes, **({"crop": crop} if crop else {})})
