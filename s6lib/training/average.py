"""The moving average of a network's weights."""

import copy

import torch
from torch import Tensor

from s6lib.models.builder import Net


class WeightAverage:
    """w_avg <- d * w_avg + (1 - d) * w after every step, with d = min(decay, (1 + t) / (10 + t)) at step t = 0, 1, ...

    The rising d forgets the random start within the first steps. Running statistics are averaged as the weights are, so
    that they belong together; what is not a floating-point number is copied. All of it is elementwise: replicas stay
    apart. Polyak and Juditsky 1992; the rising d as in TensorFlow's ExponentialMovingAverage.
    """

    def __init__(self, net: Net, decay: float):
        self.net, self.decay, self.steps = copy.deepcopy(net), decay, 0

    @torch.no_grad()
    def update(self, net: Net) -> None:
        """Moves the average towards `net` by one step."""
        pairs = list(zip(self.net.state_dict().values(), net.state_dict().values(), strict=True))
        real = [(mean, value) for mean, value in pairs if mean.is_floating_point()]
        share = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_([mean for mean, _ in real], [value for _, value in real], share)
        for mean, value in pairs:
            if not mean.is_floating_point():
                mean.copy_(value)
        self.steps += 1

    def state(self) -> dict[str, Tensor]:
        """Tensors that `load_state` goes on from."""
        return {**self.net.state_dict(), "steps": torch.tensor(self.steps)}

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        self.steps = int(tensors["steps"])
        self.net.load_state_dict({name: value for name, value in tensors.items() if name != "steps"})
