"""Measurements inside trained networks, for the figures that are one trial's own."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from s6lib.data import Dataset
from s6lib.models.builder import Net
from s6lib.models.replicas import fuse_replicas
from s6lib.records import NO_WEIGHTS, Record, RecordError
from s6lib.training.finished import NotAtHand


def network(record: Record, replica: int = 0) -> Net:
    """The trained network of one replica that kept its weights, in evaluation mode; else RecordError."""
    if not record.weights:
        raise RecordError(f"{record.name}: {NO_WEIGHTS}")
    net = record.trial.build()
    stacked = {name: torch.tensor(value[replica : replica + 1]) for name, value in record.weights.items()}
    net.load_state_dict(fuse_replicas(stacked))
    return net.eval()


@torch.no_grad()
def batch_noise(record: Record, dataset: Dataset, sizes: Sequence[int] = (8, 16, 32, 64, 128, 256)) -> pd.DataFrame:
    """How far a batch's channel means stray from the whole set's, by batch size.

    For the maps that the first normaliser sees, over (n, h, w) of disjoint batches of 4,096 training images drawn at
    random: the standard deviation of batch means, in units of the channel's own, one row per size and channel.
    Ghost norm with S splits normalises with batch size / S images. No rows where the images are not at hand.
    """
    if not record.weights or isinstance(dataset, NotAtHand):
        return pd.DataFrame(columns=["images", "channel", "noise"])
    chosen = torch.randperm(len(dataset.train_images), generator=torch.Generator().manual_seed(0))[:4096]
    images = dataset.train_images.cpu()[chosen]
    layers = network(record).layers
    first = next(k for k, layer in enumerate(layers) if isinstance(layer, torch.nn.Conv2d))
    maps = layers[first : first + 2](dataset.normalise(images)[:, None])  # convolution, ReLU
    image_means, spread = maps.mean((2, 3)), maps.std((0, 2, 3))
    rows = []
    for size in (size for size in sizes if 2 * size <= len(images)):
        means = image_means[: len(images) // size * size].unflatten(0, (-1, size)).mean(1)  # [batches, C]
        noise = (means.std(0) / spread).numpy()
        rows += [{"images": size, "channel": c, "noise": value} for c, value in enumerate(noise) if np.isfinite(value)]
    return pd.DataFrame(rows)
