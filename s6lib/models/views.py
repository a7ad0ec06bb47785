"""Test-time augmentation: a network whose answer to a test image is the mean of its answers to shifted copies of it.

Training does not change, and no parameter is added; the multiply-adds per test image are those of all its views.
After Simonyan and Zisserman 2015 (arXiv:1409.1556), who average class probabilities over flips and crops.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s6lib.models.builder import channels_last


class Views(nn.Module):
    """In evaluation, every image shifted by each of V `shifts` (down, right; pixels), view by view: [N, R, H, W] ->
    [V N, R, H, W]. What is shifted in repeats the image's edge, which is black in 99 % of MNIST. In training, x as
    it is."""

    def __init__(self, shifts: Sequence[tuple[int, int]]):
        super().__init__()
        self.shifts = tuple(shifts)
        self.margin = max(abs(step) for shift in self.shifts for step in shift)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return x
        height, width = x.shape[-2:]
        wide = F.pad(x, [self.margin] * 4, mode="replicate")
        corners = [(self.margin - down, self.margin - right) for down, right in self.shifts]
        return channels_last(torch.cat([wide[..., i : i + height, j : j + width] for i, j in corners]))


class MeanOfViews(nn.Module):
    """In evaluation, the mean over V views that stand view by view: [V N, ...] -> [N, ...]. In training, x as it is."""

    def __init__(self, views: int):
        super().__init__()
        self.views = views

    def forward(self, x: Tensor) -> Tensor:
        return x if self.training else x.unflatten(0, (self.views, -1)).mean(0)
