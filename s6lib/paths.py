"""Where things are: data sets, what notebooks opened by hand leave, the committed run. The same from any folder."""

import os
from pathlib import Path

# Data sets by name, and the folder of torchvision's that holds their files; the bundled digits need none.
DATASETS: dict[str, str | None] = {
    "digits": None,
    "mnist": "MNIST",
    "fashion_mnist": "FashionMNIST",
    "kmnist": "KMNIST",
    "qmnist": "QMNIST",
}

DRIVE = Path("/content/drive/MyDrive")


def home() -> Path:
    """The repository that this package lies in; the working directory where it is installed without one (Colab)."""
    repository = Path(__file__).resolve().parents[1]
    return repository if (repository / "notebooks").is_dir() else Path.cwd()


def data_dir() -> Path:
    """The folder that holds the data sets: `S6_DATA_DIR`, or data/ of `home`."""
    return _folder("S6_DATA_DIR", home() / "data")


def raw_folder(dataset: str, root: str | None = None) -> Path | None:
    """The folder that holds a data set's files, below `root` or `data_dir`; None for the bundled digits and for unknown
    names."""
    return Path(root or data_dir(), name, "raw") if (name := DATASETS.get(dataset)) else None


def interactive_results() -> Path:
    """Where notebooks opened by hand leave their records: `S6_LAB`; s6lib in Google Drive where a Colab notebook has
    mounted it, so that they outlive the runtime; or results/lab of `home`."""
    usual = DRIVE / "s6lib" if DRIVE.is_dir() else home() / "results" / "lab"
    return _folder("S6_LAB", usual)


def _folder(variable: str, usual: Path) -> Path:
    """The folder that an environment variable names, seen from `home`, or the usual one. Raises OSError."""
    try:
        return home() / Path(os.environ.get(variable) or usual).expanduser()
    except RuntimeError:
        raise OSError(f"{variable}={os.environ[variable]}: no such user's home; give the folder's full path") from None


def reference() -> Path:
    """The committed run at the published budget, which the summary reads when it is opened by hand."""
    return home() / "results" / "reference"


def relative_to_home(path: Path) -> Path:
    """`path` as seen from `home` where it lies below, so that what is shown is the same on every machine."""
    return path.relative_to(home()) if path.is_relative_to(home()) else path
