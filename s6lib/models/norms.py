"""Normalisers for R fused replicas, over feature maps x of shape [N, R*C, H, W].

Replica r owns channels r*C .. (r+1)*C - 1, and no statistic ever mixes two replicas. Notation: a normaliser
averages over the axes named in its docstring, n for images, c for one replica's channels, (h, w) for pixels;
`mean` and `var` are population statistics, eps keeps the division finite, and scale and shift (gamma, beta)
are learned. A new normaliser is one class and one line in `NORMALISERS`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s6lib.models.layers import Conv2d

EPS = 1e-5  # torch's own default for all its norms
MOMENTUM = 0.1  # weight of the newest batch in running statistics, likewise
BLOCK = 1 << 19  # elements that group norm works on at a time: 2 MB of float32, about a core's own cache


@dataclass(frozen=True)
class NormContext:
    """Where in a network a normaliser stands: `channels` per replica, the map's size, and the trial's options."""

    channels: int
    height: int = 1
    width: int = 1
    replicas: int = 1
    groups: int = 1
    ghost_splits: int = 1
    running_var_start: float = 1.0

    @property
    def total(self) -> int:
        return self.replicas * self.channels


class GhostBatchNorm(nn.Module):
    """Batch norm over S interleaved parts of the batch: split k holds images k, k + S, k + 2S, ...

    Averages over (n in split k, h, w), per channel. Every split keeps its own running statistics (unbiased
    variance, momentum 0.1); evaluation uses their mean over splits. S = 1 is `nn.BatchNorm2d`.
    `running_var_start` is 0 in the `regularisers` study's own code and 1 where that code came from.
    Raises ValueError when S does not divide the batch. Hoffer, Hubara and Soudry 2017, arXiv 1705.08741.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, splits: int = 2, running_var_start: float = 1.0):
        super().__init__()
        self.channels, self.splits = channels, splits
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(splits, channels))
        self.register_buffer("running_var", torch.full((splits, channels), float(running_var_start)))

    def extra_repr(self) -> str:
        return f"{self.channels}, splits={self.splits}"

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            mean, var = self.running_mean.mean(0), self.running_var.mean(0)
            return F.batch_norm(x, mean, var, self.weight, self.bias, False, 0.0, EPS)
        n = len(x)
        if n % self.splits:
            raise ValueError(f"ghost_norm: splits={self.splits} does not divide a batch of {n}; valid: {divisors(n)}")
        affine = self.weight.repeat(self.splits), self.bias.repeat(self.splits)
        running = self.running_mean.view(-1), self.running_var.view(-1)
        return self.merge_batch(F.batch_norm(self.split_batch(x), *running, *affine, True, MOMENTUM, EPS))

    def split_batch(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N/S, S*C, H, W], split k in channels k*C .. (k+1)*C - 1; channels innermost in memory."""
        pixels = x.movedim(1, -1).unflatten(0, (-1, self.splits))  # [N/S, S, H, W, C]
        return pixels.movedim(1, 3).flatten(3, 4).movedim(-1, 1)

    def merge_batch(self, y: Tensor) -> Tensor:
        """The inverse of `split_batch`."""
        pixels = y.movedim(1, -1).unflatten(-1, (self.splits, -1))  # [N/S, H, W, S, C]
        return pixels.movedim(3, 1).flatten(0, 1).movedim(-1, 1)


class GroupNorm(nn.GroupNorm):
    """Group norm: averages over (c in group, h, w), per image; with one group per replica it is layer norm.

    y = gamma * (x - mean) / sqrt(var + eps) + beta. The numbers are torch's; on a CPU they come from sums over pixels
    (see `_GroupNorm`), since torch's kernel is slow for groups of few channels that are innermost in memory.
    Wu and He 2018, arXiv 1803.08494; Ba, Kiros and Hinton 2016, arXiv 1607.06450.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return super().forward(x)
        return _GroupNorm.apply(x, self.weight, self.bias, self.num_groups)


class _GroupNorm(torch.autograd.Function):
    """Group norm from sums per image and channel, in float32 at least, a few images at a time so that they stay in
    the cache: var = E[x^2] - E[x]^2."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, groups: int) -> Tensor:
        pixels, y = x.movedim(1, -1).flatten(1, 2), torch.empty_like(x)  # [N, H*W, C]
        out, wide = y.movedim(1, -1).flatten(1, 2), weight.dtype
        means, rstds = [], []
        for part, target in zip(pixels.split(_block(x)), out.split(_block(x)), strict=True):
            z = part.to(wide, copy=True)
            count = z.shape[1] * z.shape[2] // groups
            mean = _per_group(z.sum(1), groups) / count
            var = _per_group(z.square().sum(1), groups) / count - mean.square()
            rstd = torch.rsqrt(var.clamp_(min=0) + EPS)
            scale = _per_member(rstd, weight) * weight
            target.copy_(z.mul_(scale[:, None]).add_((bias - _per_member(mean, weight) * scale)[:, None]))
            means.append(mean)
            rstds.append(rstd)
        ctx.save_for_backward(x, weight, torch.cat(means), torch.cat(rstds))
        ctx.groups = groups
        return y

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, means, rstds = ctx.saved_tensors
        dx = torch.empty_like(x)
        block = _block(x)
        maps = (value.movedim(1, -1).flatten(1, 2).split(block) for value in (x, grad, dx))
        shift, scale = torch.zeros_like(weight), torch.zeros_like(weight)
        for part, slope, target, mean, rstd in zip(*maps, means.split(block), rstds.split(block), strict=True):
            z, g = part.to(weight.dtype), slope.to(weight.dtype, copy=True)
            m, r = _per_member(mean, weight), _per_member(rstd, weight)
            sums = g.sum(1)  # [N, C]: the gradients of shift and, below, of scale, per image
            slopes = ((g * z).sum(1) - m * sums) * r
            shift += sums.sum(0)
            scale += slopes.sum(0)
            count = z.shape[1] * z.shape[2] // ctx.groups
            a = _per_member(_per_group(sums * weight, ctx.groups) / count, weight) * r
            b = _per_member(_per_group(slopes * weight, ctx.groups) / count, weight) * r.square()
            g.mul_((r * weight)[:, None]).addcmul_(z, -b[:, None]).add_((b * m - a)[:, None])
            target.copy_(g)
        return dx, scale, shift, None


def _block(x: Tensor) -> int:
    """How many images of x are worked on at a time."""
    return max(1, BLOCK // x[0].numel())


def _per_group(values: Tensor, groups: int) -> Tensor:
    """[N, C] summed within groups, [N, G]."""
    return values.unflatten(1, (groups, -1)).sum(-1)


def _per_member(values: Tensor, like: Tensor) -> Tensor:
    """[N, G] repeated for every channel of a group, [N, C]."""
    return values.repeat_interleave(len(like) // values.shape[1], 1)


class LayerNormFull(nn.Module):
    """Layer norm with a scale and a shift for every element of a replica's [C, H, W].

    Averages over (c, h, w), per image. The statistics are those of `layer`; only the affine part is larger:
    2*C*H*W parameters instead of 2*C, and the input size is fixed. Ba, Kiros and Hinton 2016, arXiv 1607.06450.
    """

    def __init__(self, channels: int, height: int, width: int, replicas: int = 1):
        super().__init__()
        self.replicas = replicas
        self.weight = nn.Parameter(torch.ones(replicas * channels, height, width))
        self.bias = nn.Parameter(torch.zeros(replicas * channels, height, width))

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}, replicas={self.replicas}"

    def forward(self, x: Tensor) -> Tensor:
        return F.group_norm(x, self.replicas, eps=EPS) * self.weight + self.bias


class RMSNorm2d(nn.Module):
    """Layer norm without the mean: y = gamma * x / sqrt(mean(x^2) + eps) + beta.

    Averages over (c, h, w), per image. Zhang and Sennrich 2019, arXiv 1910.07467 (which leaves beta out; it is
    kept here so that the parameter count is that of `layer`).
    """

    def __init__(self, channels: int, replicas: int = 1):
        super().__init__()
        self.replicas = replicas
        self.weight = nn.Parameter(torch.ones(channels * replicas))
        self.bias = nn.Parameter(torch.zeros(channels * replicas))

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, replicas={self.replicas}"

    def forward(self, x: Tensor) -> Tensor:
        parts = x.unflatten(1, (self.replicas, -1))  # [N, R, C, H, W]
        scale = torch.rsqrt(parts.square().mean((2, 3, 4), keepdim=True) + EPS)
        return (parts * scale).flatten(1, 2) * per_channel(self.weight) + per_channel(self.bias)


class FilterResponseNorm(nn.Module):
    """Filter response norm with its thresholded unit: y = max(gamma * x / sqrt(mean(x^2) + eps) + beta, tau).

    Averages over (h, w), per image and channel, without a mean and without the batch; tau is learned and starts
    at 0. Singh and Krishnan 2020, arXiv 1911.09737 (eps 1e-6 as there; the unit replaces a ReLU there, and
    here follows the protocol's own).
    """

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.tau = nn.Parameter(torch.zeros(channels))

    def extra_repr(self) -> str:
        return f"{len(self.weight)}"

    def forward(self, x: Tensor) -> Tensor:
        y = x * torch.rsqrt(x.square().mean((2, 3), keepdim=True) + 1e-6)
        return torch.maximum(y * per_channel(self.weight) + per_channel(self.bias), per_channel(self.tau))


class BatchRenorm(nn.Module):
    """Batch norm whose training output is pulled towards the running statistics: y = gamma * (z * r + d) + beta.

    z is the batch-normalised x; r = clip(sd / running_sd, 1/r_max, r_max) and d = clip((mean - running_mean) /
    running_sd, -d_max, d_max) carry no gradient. Averages over (n, h, w), per channel. Ioffe 2017, arXiv
    1702.03275: r_max rises from 1 to 3 and d_max from 0 to 5; there from step 5,000 to 40,000 and 25,000 of ImageNet,
    here over the first `ramp` steps, so that a short MNIST run sees the method and not only its warm-up.
    """

    running_mean: Tensor
    running_var: Tensor
    steps: Tensor

    def __init__(self, channels: int, r_max: float = 3.0, d_max: float = 5.0, ramp: int = 1000):
        super().__init__()
        self.r_max, self.d_max, self.ramp = r_max, d_max, ramp
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("steps", torch.zeros(()))

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, r_max={self.r_max}, d_max={self.d_max}, ramp={self.ramp}"

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, EPS)
        with torch.no_grad():
            r, d = self._correction(x)
        z = F.batch_norm(x, None, None, None, None, True, 0.0, EPS)
        scale, shift = self.weight * r, self.weight * d + self.bias
        return z * per_channel(scale).to(x.dtype) + per_channel(shift).to(x.dtype)

    def _correction(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(r, d) of this batch, each [C]; moves the running statistics."""
        var, mean = torch.var_mean(x.to(self.running_mean.dtype), (0, 2, 3), correction=0)
        progress = (self.steps / self.ramp).clamp(max=1)
        r_max, d_max = 1 + (self.r_max - 1) * progress, self.d_max * progress
        running_sd = (self.running_var + EPS).sqrt()
        r = ((var + EPS).sqrt() / running_sd).clamp(1 / r_max, r_max)
        d = ((mean - self.running_mean) / running_sd).clamp(-d_max, d_max)
        count = x.numel() // x.shape[1]
        self.running_mean.lerp_(mean, MOMENTUM)
        self.running_var.lerp_(var * count / max(count - 1, 1), MOMENTUM)
        self.steps += 1
        return r, d


class StandardisedConv2d(Conv2d):
    """Convolution whose every filter has mean 0 and variance 1 before use: w <- (w - mean(w)) / sd(w).

    Averages over (c_in, kh, kw), per filter, so replicas stay apart. Qiao et al. 2019, arXiv 1903.10520; used
    with group norm as there.
    """

    def forward(self, x: Tensor) -> Tensor:
        var, mean = torch.var_mean(self.weight, (1, 2, 3), keepdim=True, correction=0)
        return self._conv_forward(x, (self.weight - mean) * torch.rsqrt(var + EPS), self.bias)


class GroupNormOverStandardised(GroupNorm):
    """Group norm behind convolutions whose filters are standardised: the builder makes the one before it `convolution`.

    Averages over (c in group, h, w), per image. Qiao et al. 2019, arXiv 1903.10520.
    """

    convolution = StandardisedConv2d


def per_channel(values: Tensor) -> Tensor:
    """[C] as [C, 1, 1], to broadcast over [N, C, H, W]."""
    return values.view(-1, 1, 1)


def divisors(n: int) -> list[int]:
    return [k for k in range(1, n + 1) if n % k == 0]


def group_norm(context: NormContext, kind: type[GroupNorm] = GroupNorm) -> nn.Module:
    """`kind` with `context.groups` groups in every replica. Raises ValueError when they do not divide the channels."""
    if context.groups < 1 or context.channels % context.groups:
        raise ValueError(
            f"group_norm: groups={context.groups} does not divide channels={context.channels}; "
            f"valid: {', '.join(map(str, divisors(context.channels)))}"
        )
    return kind(context.replicas * context.groups, context.total)


# Torch's own layers stand in the table as they are: batch norm averages over (n, h, w) per channel, layer norm over
# (c, h, w) per image, group norm over (c in group, h, w) per image, instance norm over (h, w) per image and channel.
NORMALISERS: dict[str, Callable[[NormContext], nn.Module] | None] = {
    "none": None,
    "batch": lambda context: nn.BatchNorm2d(context.total),
    "ghost": lambda context: GhostBatchNorm(context.total, context.ghost_splits, context.running_var_start),
    "layer": lambda context: GroupNorm(context.replicas, context.total),
    "layer_full": lambda context: LayerNormFull(context.channels, context.height, context.width, context.replicas),
    "group": group_norm,
    "instance": lambda context: nn.InstanceNorm2d(context.total, affine=True),
    "rms": lambda context: RMSNorm2d(context.channels, context.replicas),
    "filter_response": lambda context: FilterResponseNorm(context.total),
    "batch_renorm": lambda context: BatchRenorm(context.total),
    "group_ws": lambda context: group_norm(context, GroupNormOverStandardised),
}


def make_norm(name: str, context: NormContext) -> nn.Module | None:
    """The normaliser `name` at `context`; None for "none". Raises ValueError naming the valid ones."""
    if name not in NORMALISERS:
        raise ValueError(f"unknown normaliser {name!r}; valid: {', '.join(NORMALISERS)}")
    build = NORMALISERS[name]
    return build(context) if build else None
