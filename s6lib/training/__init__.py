"""Training: optimiser and penalties, the epoch loop, its checkpoints, and `find_or_train`, which notebooks call."""

from s6lib.training.finished import find_or_train as find_or_train
from s6lib.training.finished import find_or_train_together as find_or_train_together
from s6lib.training.finished import load as load
from s6lib.training.train import train as train
from s6lib.training.train import train_together as train_together
