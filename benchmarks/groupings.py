"""Does it matter which seeds train together? `python benchmarks/groupings.py` writes results/bench/groupings.json.

The same seeds alone, by eight and all together, on the bundled digits in float32: rounding parts the trainings after
some steps, and what is left must be equal in distribution. Paired by seed: the mean difference of last-epoch test
accuracy to training alone, with its 95 % interval; and Kolmogorov and Smirnov's test of one distribution.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import output
from scipy import stats as scipy_stats

from s6lib import data, training
from s6lib.evidence import statistics
from s6lib.provenance import provenance
from s6lib.trial import make_trial

OUT = Path(__file__).parent.parent / "results" / "bench"


def accuracies(seeds: int, together: int, epochs: int) -> np.ndarray:
    """Last-epoch test accuracy, percent, of seeds 0 to `seeds` - 1, trained `together` at a time in this process."""
    trial, images = make_trial("regularisers", "bn", epochs=epochs, batch_size=64), data.load("digits")
    parts = [list(range(k, min(k + together, seeds))) for k in range(0, seeds, together)]
    records = [training.train(trial, images, part, precision="float32", workers=1, save=False) for part in parts]
    return np.concatenate([record.last().test_accuracy for record in records])


def row(together: int, values: np.ndarray, alone: np.ndarray) -> dict:
    found = statistics.mean_interval(values - alone)
    return {
        "together": together,
        "mean": values.mean(),
        "sd": values.std(ddof=1),
        "same": int((values == alone).sum()),
        "difference": found.mean,
        "low": found.low,
        "high": found.high,
        "p_one_distribution": float(scipy_stats.ks_2samp(values, alone).pvalue),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--small", action="store_true", help="all of it at tiny size, to see that it works")
    options = parser.parse_args()
    if options.small:
        options.seeds, options.epochs = 2, 1
    sizes = dict.fromkeys((1, 8, options.seeds))
    found = {size: accuracies(options.seeds, size, options.epochs) for size in sizes}
    rows = [row(size, values, found[1]) for size, values in found.items()]
    about = {"seeds": options.seeds, "epochs": options.epochs, "finished": time.strftime("%Y-%m-%d")}
    output.write(options, "groupings", about | {"rows": rows, "provenance": provenance("batch", "regularisers")})
    print(*rows, sep="\n")


if __name__ == "__main__":
    main()
