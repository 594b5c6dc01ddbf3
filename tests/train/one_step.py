"""One step of training with frozen statistics: run by itself, or by torch's rendezvous as one of several processes.

python one_step.py DATASET FOLDER ACCUMULATE [RANK WORLD_SIZE PORT]
"""

import os
import sys
from pathlib import Path

import torch

from storage.dataset import open_dataset
from train.loop import train
from train.prnet import PRNet, PRNetConfig
from train.run_config import RunConfig
from train.system import OptimiserConfig, PhaseConfig


class FrozenPRNet(PRNet):
    """Batch statistics stay those of the start, so that a batch is the sum of its samples."""

    def begin(self, phase: PhaseConfig) -> None:
        self.network.eval()


def one_step(dataset: str | Path, folder: Path, *, accumulate: int = 1) -> None:
    """Weights after one plain step of rate 1 on the first eight samples: the gradient is what they moved by."""
    torch.manual_seed(3)
    optimiser = OptimiserConfig(kind="sgd", learning_rate=1.0, momentum=0.0)
    phase = PhaseConfig(name="train", steps=1, optimiser=optimiser)
    config = PRNetConfig(batch_size=8, width=4, resolution=32, phases=(phase,))
    opened = open_dataset(dataset)
    train(FrozenPRNet.for_dataset(config, opened), opened, folder, RunConfig(augment="none", accumulate=accumulate))


if __name__ == "__main__":
    if len(sys.argv) > 4:
        rank, world_size, port = sys.argv[4:]
        os.environ |= {
            "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world_size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
            "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1",
        }  # fmt: skip
    torch.set_num_threads(1)
    one_step(sys.argv[1], Path(sys.argv[2]), accumulate=int(sys.argv[3]))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
