import pytest
import torch
from torch import nn

from s6lib.models import builder
from s6lib.models.views import MeanOfViews, Views
from s6lib.studies import NETWORKS

SHIFTS = ((0, 0), (1, 1), (-1, -1))  # of `frontier_views`


def networks(*names: str, replicas: int = 2) -> list[builder.Net]:
    """Networks in float64 with the same weights, whose running statistics are not those they start with."""
    seeds, images = range(replicas), digits(replicas, seed=1)
    nets = [builder.initialise(builder.build(NETWORKS[name], replicas=replicas), seeds).double() for name in names]
    for net in nets:
        net.train()(images)
    return [net.eval() for net in nets]


def digits(replicas: int, seed: int = 0) -> torch.Tensor:
    """Noise on a black ground [8, R, 28, 28], black as normalised images are."""
    images = torch.full((8, replicas, 28, 28), -0.42, dtype=torch.float64)
    source = torch.Generator().manual_seed(seed)
    images[..., 4:-4, 4:-4] = torch.randn(8, replicas, 20, 20, dtype=torch.float64, generator=source)
    return images


def shifted(images: torch.Tensor, down: int, right: int) -> torch.Tensor:
    return images.roll((down, right), (-2, -1))  # nothing but black goes around the edge


def test_views_are_shifted_copies_view_by_view():
    images = digits(3)
    found = Views([(0, 0), (2, -1)]).eval()(images)
    assert torch.equal(found, torch.cat([images, shifted(images, 2, -1)]))


def test_what_comes_in_repeats_the_edge():
    image = torch.arange(9.0).view(1, 1, 3, 3)
    assert Views([(1, 0)]).eval()(image)[0, 0].tolist() == [[0, 1, 2], [0, 1, 2], [3, 4, 5]]


def test_logits_are_the_mean_over_views():
    plain, views = networks("frontier", "frontier_views")
    images = digits(2)
    expected = sum(plain(shifted(images, *shift)) for shift in SHIFTS) / 3
    assert torch.allclose(views(images), expected, rtol=0, atol=1e-13)


def test_training_sees_no_views():
    plain, views = networks("frontier", "frontier_views")
    images = digits(2)
    assert torch.equal(plain.train()(images), views.train()(images))


@pytest.mark.parametrize("replica", range(3))
def test_views_of_a_replica_are_its_own(replica):
    # other replicas' images change nothing, to the last bit
    (net,), images = networks("frontier_views", replicas=3), digits(3)
    other = images + torch.eye(3, dtype=torch.float64)[(replica + 1) % 3].view(3, 1, 1)
    assert torch.equal(net(images)[:, replica], net(other)[:, replica])


def test_views_add_no_parameters_and_no_state():
    plain, views = networks("frontier", "frontier_views")
    shapes = [[tuple(value.shape) for value in net.state_dict().values()] for net in (plain, views)]
    assert shapes[0] == shapes[1]


def test_the_mean_leaves_other_axes_alone():
    maps = torch.arange(24.0).view(6, 4, 1, 1)
    assert torch.equal(nn.Sequential(MeanOfViews(3)).eval()(maps), (maps[:2] + maps[2:4] + maps[4:]) / 3)
