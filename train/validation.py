"""The errors of a system over a data set, as its validation counts them."""

import numpy as np
import torch
from jaxtyping import Float

from storage.dataset import ShardedDataset
from train.loader import make_loader
from train.photograph_crops import holds_photographs
from train.system import PhaseConfig, System


@torch.no_grad()
def validation_errors(
    system: System,
    dataset: ShardedDataset,
    phase: PhaseConfig,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 32,
) -> Float[np.ndarray, " n"]:
    """What :meth:`System.errors` says of every sample, in the data set's order; of photographs, of one crop of each."""
    was_training = system.network.training
    system.network.eval()
    try:
        loader = make_loader(
            dataset,
            batch_size=batch_size,
            shards_in_flight=0,
            targets=system.targets,
            device=device,
            augment=system.augmentation if holds_photographs(dataset) else None,
            decode_on="device" if torch.device(device).type == "cuda" else "worker",
        )
        return np.concatenate([system.errors(batch, phase) for batch in loader])
    finally:
        system.network.train(was_training)
