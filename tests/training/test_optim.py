"""Penalties: the minimum that an optimiser reaches is that of the loss with its penalty."""

import pytest
import torch

from s6lib.training.optim import add_l1_subgradient, soft_threshold

START = torch.tensor([[1.0, 0.5, 0.05, -0.3]], dtype=torch.float64)
# Of (p - a)^2 / 2 + 0.1 |p| at a = (1, 0.5, 0.05, -0.3): a moved by 0.1 towards 0, and 0 where it is nearer.
MINIMUM = torch.tensor([[0.9, 0.4, 0.0, -0.2]], dtype=torch.float64)
OPTIMISERS = {
    "sgd": lambda p: torch.optim.SGD([p], 0.01),
    "sgd, momentum 0.9": lambda p: torch.optim.SGD([p], 0.01, momentum=0.9),
    "adam": lambda p: torch.optim.Adam([p], 0.003),
}


def minimise(name: str, proximal: bool) -> torch.Tensor:
    p = torch.nn.Parameter(torch.full_like(START, 0.7))
    optimiser, l1 = OPTIMISERS[name](p), torch.tensor([0.1], dtype=torch.float64)
    for _ in range(4000):
        p.grad = (p - START).detach()
        if not proximal:
            add_l1_subgradient([p], l1)
        optimiser.step()
        if proximal:
            soft_threshold([p], l1, optimiser)
    return p.detach()


@pytest.mark.parametrize("name", OPTIMISERS)
def test_soft_threshold_reaches_the_minimum(name):
    # also the exact zero, which the subgradient only circles
    p = minimise(name, proximal=True)
    torch.testing.assert_close(p, MINIMUM, atol=1e-4, rtol=0)
    assert p[0, 2] == 0


@pytest.mark.parametrize("name", OPTIMISERS)
def test_subgradient_circles_the_minimum(name):
    torch.testing.assert_close(minimise(name, proximal=False), MINIMUM, atol=0.01, rtol=0)
