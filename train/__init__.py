"""Loaders, the five systems, the training loop, metrics and evaluation.

The names below are imported when first used, so that ``import train`` does not load torch.
"""

from geometry.lazy_names import lazy_names

_HOME = {
    "BadCheckpoint": "train.checkpoint",
    "OptimiserConfig": "train.system",
    "PhaseConfig": "train.system",
    "Prediction": "train.prediction",
    "Predictor": "train.prediction",
    "RunConfig": "train.run_config",
    "System": "train.system",
    "SystemConfig": "train.system",
    "make_loader": "train.loader",
    "system_class": "train.systems",
    "system_names": "train.systems",
}

__all__ = sorted(_HOME)
__getattr__ = lazy_names(__name__, _HOME)


def __dir__() -> list[str]:
    return __all__
