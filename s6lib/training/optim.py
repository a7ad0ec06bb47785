"""Optimisers and weight penalties, elementwise, so that fused replicas never touch each other."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from s6lib.models.builder import Net
from s6lib.trial import Trial


def make_optimiser(trial: Trial, net: Net) -> tuple[list[nn.Parameter], torch.optim.Optimizer]:
    """The parameters that penalties act on, and the optimiser."""
    weights = {id(layer.weight) for layer in net.modules() if isinstance(layer, nn.Conv2d)}
    penalised = [p for p in net.parameters() if trial.penalise == "all" or id(p) in weights]
    chosen = {id(parameter) for parameter in penalised}
    groups: list[dict[str, Any]] = [
        {"params": penalised, "weight_decay": trial.l2},
        {"params": [p for p in net.parameters() if id(p) not in chosen], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if trial.optimiser == "sgd":
        return penalised, torch.optim.SGD(groups, trial.learning_rate, trial.momentum, fused=True)
    kind = torch.optim.AdamW if trial.l2_kind == "decoupled" else torch.optim.Adam
    return penalised, kind(groups, trial.learning_rate, fused=True)


@torch.no_grad()
def add_l1_subgradient(parameters: Sequence[nn.Parameter], l1: Tensor) -> None:
    """grad += l1 * sign(p), a lambda per replica [R]: the subgradient of l1 * sum|p|, 0 at 0."""
    for p in parameters:
        assert p.grad is not None
        p.grad.view(len(l1), -1).addcmul_(p.view(len(l1), -1).sign(), l1[:, None])


@torch.no_grad()
def soft_threshold(parameters: Sequence[nn.Parameter], l1: Tensor, optimiser: torch.optim.Optimizer) -> None:
    """p <- sign(p) * max(|p| - t, 0) with t = lr * l1 / (1 - momentum), for Adam lr * l1 / (sqrt(v) + eps) instead.

    The proximal step of l1 * sum|p| in the metric the optimiser steps in; unlike the subgradient it reaches exact
    zeros. A constant gradient g moves p by lr * g / (1 - momentum) under SGD, so the penalty must as well.
    Parikh and Boyd 2014, Proximal Algorithms, section 6.5.2.
    """
    for group in optimiser.param_groups:
        for p in group["params"]:
            if not any(p is q for q in parameters):
                continue
            step = group["lr"] / (1 - group.get("momentum", 0.0))
            threshold = (step * l1)[:, None].expand(-1, p[0].numel() * len(p) // len(l1)).reshape(p.shape)
            state = optimiser.state[p]
            if "exp_avg_sq" in state:
                correction = 1 - group["betas"][1] ** state["step"].double()
                threshold = threshold / ((state["exp_avg_sq"] / correction).sqrt() + group["eps"])
            p.copy_(p.sign() * (p.abs() - threshold).clamp_(min=0))
