"""Loaders, the five systems, the training loop, metrics and evaluation.

==================================================  ================================================================
loader, epoch_order, reading_augmentation,          data sets as batches of tensors
photograph_crops, device_targets
augmentation, zbuffer, zbuffer_triton               the torch twins of `render`
system, systems, coarse                             what the loop asks of a system, and which there are
dan, densereg, fan3d, prnet, mesh_gcn               the five systems; *_network, backbones, graph_layers and resizing
                                                    are what they are made of
loop, phase, run_config, checkpoint, averaging,     the training loop
meters, validation, run_log, processor
restore, training_data, prediction, onnx_export     a trained system in use
metrics, measures, published, shape_model,          how good it is
reconstruction, dense_errors, field_errors,
evaluation, evaluation_*
==================================================  ================================================================

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
