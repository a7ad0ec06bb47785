"""Convolution and dropout for R fused replicas, written so that a training step moves little memory.

Replica r owns channels r*C .. (r+1)*C - 1 of every map. Together the two compute what torch's own compute, replica
by replica; what differs is where the work is done. benchmarks/ablations.py shows what each difference gives.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s6lib import streams

INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # as wide as a floating-point number of so many bytes


class Conv2d(nn.Conv2d):
    """`groups` convolutions side by side, one per replica: [N, R*C_in, H, W] -> [N, R*C_out, H', W'].

    In training the weights are multiplied by `gain`, the factor 1/(1 - p) of the dropout before it: conv(g * x, w)
    = conv(x, g * w), and weights are few where activations are many.
    """

    def __init__(self, *shape, gain: float = 1.0, **options):
        super().__init__(*shape, **options)
        self.gain = gain

    def extra_repr(self) -> str:
        return super().extra_repr() + (f", gain={self.gain:.4g}" if self.gain != 1 else "")

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.training and self.gain != 1:
            weight = weight * self.gain
        first = weight.shape[1] == 1 and self.groups > 1 and self.padding_mode == "zeros"
        if first and x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            weight, groups = block_diagonal(weight, self.groups)
            return F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, groups)
        return super()._conv_forward(x, weight, bias)


def block_diagonal(weight: Tensor, groups: int, most: int = 4) -> tuple[Tensor, int]:
    """Filters of one-channel images [R*C, 1, k, k] as [R*C, b, k, k] with zeros for the other images; and R / b.

    oneDNN fills vectors of bfloat16 with input channels, so that up to four images at once, three of them times
    zero, cost half of what one by one costs.
    """
    block = max(b for b in range(1, most + 1) if groups % b == 0)
    places = torch.eye(block, dtype=weight.dtype).repeat_interleave(len(weight) // groups, 0)
    return weight * places.repeat(groups // block, 1)[:, :, None, None], groups // block


class Dropout(nn.Module):
    """Zeroes elements with probability p (rounded to 1/65536), in training.

    `scale` = 1/(1 - p) is what the rest is to be multiplied by so that the mean stays; a network leaves that to the
    next convolution's weights (see `Conv2d`). With a `source` attached (see `builder.attach_dropout`) each replica's
    mask comes from its own stream, in the order (n, h, w, c); without one, from torch's global generator.
    """

    per_channel = False

    def __init__(self, p: float, replicas: int = 1):
        super().__init__()
        self.p, self.replicas = p, replicas
        self.dropped = round(p * 65536)  # of 65536 possible draws
        self.source: streams.BitStream | None = None

    @property
    def scale(self) -> float:
        return 65536 / (65536 - self.dropped)

    def extra_repr(self) -> str:
        return f"p={self.p:g}"

    def forward(self, x: Tensor) -> Tensor:
        return _Masked.apply(x, self._keep(x)) if self.training and self.p else x

    def _keep(self, x: Tensor) -> Tensor:
        """1 where an element stays, 0 where it goes: integers as wide as x's, of x's shape or [N, R*C, 1, 1]."""
        n, c, h, w = x.shape
        h, w = (1, 1) if self.per_channel else (h, w)
        if self.source is None:
            bits = torch.randint(-32768, 32768, (n, h, w, c), dtype=torch.int16, device=x.device)
        else:
            bits = self._own_bits(n * h * w, c // self.replicas).view(n, h, w, c)
        # Compared into int16, in place: on a CPU nine times as fast as a comparison that makes bools.
        keep = torch.ge(bits, self.dropped - 32768, out=bits)
        return keep.to(INTEGERS[x.element_size()]).permute(0, 3, 1, 2)  # [N, R*C, H, W], channels last

    def _own_bits(self, places: int, channels: int) -> Tensor:
        """int16 [places, R * channels], each replica's from its own stream; 4 values to a 64-bit word."""
        words = -(-channels // 4)
        assert self.source is not None
        block = self.source.take(places * words).view(self.replicas, places, words)
        values = block.transpose(0, 1).clone(memory_format=torch.contiguous_format).view(torch.int16)
        return values[..., :channels].reshape(places, -1)  # [places, R, 4 * words] -> [places, R * channels]


class Dropout2d(Dropout):
    """Dropout of whole channels: one draw per image and channel."""

    per_channel = True


class _Masked(torch.autograd.Function):
    """x where `keep` is 1, zero where it is 0: a product of bit patterns with 0 or 1, one pass without rounding."""

    @staticmethod
    def forward(ctx, x: Tensor, keep: Tensor) -> Tensor:
        ctx.save_for_backward(keep)
        return masked(x, keep)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return masked(grad, *ctx.saved_tensors), None


def masked(x: Tensor, keep: Tensor) -> Tensor:
    return (x.view(keep.dtype) * keep).view(x.dtype)
