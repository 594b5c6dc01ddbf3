"""An exponential moving average of weights: what is validated and kept when a training asks for it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn


class WeightAverage:
    """The average of a network's state over steps, a step's share being 1 − decay.

    Early on the decay is (1 + n)/(10 + n) after n steps, so that the average does not begin as the random start. Whatever
    is no floating-point number, such as a count of batches, is taken as it is.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.n_steps = 0
        self.state = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take in the network after a step."""
        share = 1 - min(self.decay, (1 + self.n_steps) / (10 + self.n_steps))
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                self.state[name].lerp_(value, share)
            else:
                self.state[name].copy_(value)
        self.n_steps += 1

    @contextmanager
    def in_place_of(self, network: nn.Module) -> Iterator[None]:
        """The network has the average's weights within the block, and its own again after it."""
        own = {name: value.detach().clone() for name, value in network.state_dict().items()}
        network.load_state_dict(self.state)
        try:
            yield
        finally:
            network.load_state_dict(own)

    def state_dict(self) -> dict[str, object]:
        """What :meth:`load_state_dict` needs."""
        return {"n_steps": self.n_steps, "state": self.state}

    def load_state_dict(self, saved: Mapping[str, object]) -> None:
        """Go on where `saved` was taken."""
        self.n_steps = int(saved["n_steps"])  # type: ignore[call-overload]
        for name, value in saved["state"].items():  # type: ignore[attr-defined]
            self.state[name].copy_(value)
