"""Random streams: everything random in a replica is derived from (seed, purpose, epoch) alone.

No stream is shared between replicas and none is carried from epoch to epoch, so seed 3 sees the same
initial weights, data order, rotations and dropout masks whoever it trains with, and a run that
resumes at an epoch boundary needs no saved random state.
"""

import numpy as np
import torch

PURPOSES = ("init", "order", "augment", "dropout")
WORDS = {"cpu": 1 << 19, "cuda": 1 << 22}  # 64-bit words drawn per replica and refill: 4 MB, 32 MB


def generator(seed: int, purpose: str, epoch: int = 0, device: str | torch.device = "cpu") -> torch.Generator:
    """The generator of one replica for one purpose in one epoch."""
    key = np.random.SeedSequence([seed, PURPOSES.index(purpose), epoch]).generate_state(1, np.uint64)[0]
    return torch.Generator(device=device).manual_seed(int(key >> np.uint64(1)))


class BitStream:
    """Uniform 64-bit words for R replicas, each from its own generator, drawn in large blocks.

    A block costs R generator calls, a `take` none: what a step costs in Python hardly grows with R.
    """

    def __init__(self, generators: list[torch.Generator]):
        self.generators = generators
        self.device = generators[0].device
        self.block = torch.empty(len(generators), 0, dtype=torch.int64, device=self.device)
        self.position = 0

    def take(self, words: int) -> torch.Tensor:
        """The next `words` words of every replica, int64 [R, words]; valid until the next `take`."""
        if self.position + words > self.block.shape[1]:
            self._refill(words)
        self.position += words
        return self.block[:, self.position - words : self.position]

    def _refill(self, words: int) -> None:
        size = max(words, WORDS[self.device.type])  # what is left of the old block is dropped
        if size != self.block.shape[1]:
            self.block = torch.empty(len(self.generators), size, dtype=torch.int64, device=self.device)
        for row, source in zip(self.block, self.generators, strict=True):
            row.random_(-(2**63), None, generator=source)
        self.position = 0
