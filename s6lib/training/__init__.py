"""Training: optimiser and penalties, the epoch loop, its checkpoints, and `train`, which notebooks call."""

from s6lib.training.train import train as train
from s6lib.training.train import train_together as train_together
