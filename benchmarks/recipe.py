"""What every contestant trains: a study's network as a list of layers, its optimiser, and the images."""

from pathlib import Path
from typing import NamedTuple

from s6lib import data, paths, trial
from s6lib.studies import NETWORKS as BUILDERS
from s6lib.studies import STUDIES

NETWORKS = ("regularisers", "normalisers", "gap")
BATCH = 128
ROTATION = 7.0  # degrees either way


class Layer(NamedTuple):
    """One layer: its kind, and what that kind needs."""

    kind: str  # conv, relu, norm, dropout, max_pool, avg_pool
    inputs: int = 0
    outputs: int = 0
    kernel: int = 0
    padding: int = 0
    bias: bool = False
    rate: float = 0.0
    whole_channels: bool = False


class Layers(list):
    """Collects the layers of a network as the studies define it; stands where the library has its own builder."""

    channels = 1

    def add(self, kind: str, *values, **named) -> "Layers":
        self.append(Layer(kind, *values, **named))
        return self

    def conv(self, channels: int, kernel: int = 3, padding: int = 0, bias: bool = False) -> "Layers":
        inputs, self.channels = self.channels, channels
        return self.add("conv", inputs, channels, kernel, padding, bias)

    def relu(self) -> "Layers":
        return self.add("relu")

    def norm(self) -> "Layers":
        return self.add("norm", outputs=self.channels)

    def dropout(self, rate: float, whole_channels: bool = False) -> "Layers":
        return self.add("dropout", rate=rate, whole_channels=whole_channels)

    def max_pool(self) -> "Layers":
        return self.add("max_pool", kernel=2)

    def avg_pool(self, kernel: int) -> "Layers":
        return self.add("avg_pool", kernel=kernel)


def layers(network: str) -> Layers:
    """The layers of a network, batch norm as its normaliser."""
    found = Layers()
    BUILDERS[network](found)
    return found


def make_trial(network: str, batch: int, **settings) -> trial.Trial:
    """Batch norm, unless `settings` say otherwise, under the protocol of the network's study, at its first learning
    rate, without penalties."""
    study = next(study.name for study in STUDIES.values() if network in study.networks)
    alike = {"l1": 0.0, "rotate_after_normalise": False, "epochs": 1, "schedule": "constant"}
    return trial.make_trial(
        study, "bench", like="", network=network, batch_size=batch, rotation=ROTATION, **alike | settings
    )


def default_dataset() -> str:
    """MNIST where its files are, else the bundled digits."""
    return "mnist" if (paths.data_dir() / "MNIST" / "raw" / "train-images-idx3-ubyte").exists() else "digits"


def load(job: dict) -> data.Dataset:
    return data.load(job["dataset"])


OUT = Path(__file__).parent.parent / "results" / "bench"
