"""Is a fast precision as accurate as float32? Trains both on MNIST and tests their equivalence.

    python benchmarks/equivalence.py --precision bfloat16 --seeds 24 --epochs 4

Batch norm in the `regularisers` network under a one-cycle schedule, so that a short budget ends with small learning
rates, where seeds differ least. Two one-sided tests (Welch) on last-epoch test accuracy, margin 0.05 points.
Writes results/bench/equivalence_<precision>.json; every finished chunk of seeds is kept there, and not repeated.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from s6lib import data, training
from s6lib.evidence import statistics
from s6lib.provenance import provenance
from s6lib.trial import make_trial

MARGIN = 0.05  # percentage points
TOGETHER = 8  # seeds per fused network
OUT = Path(__file__).parent.parent / "results" / "bench"


def accuracies(precision: str, epochs: int, seeds: list[int]) -> list[float]:
    trial = make_trial("regularisers", "bn", schedule="one_cycle", epochs=epochs)
    record = training.train(trial, data.load("mnist"), seeds, precision=precision)
    return record.last().test_accuracy.tolist()


def verdict(found: dict[str, list[float]], precision: str) -> dict:
    a, b = (np.array(found[name]) for name in ("float32", precision))
    if min(len(a), len(b)) < 2:
        return {}
    return {
        "float32": {"mean": a.mean(), "sd": a.std(ddof=1), "seeds": len(a)},
        precision: {"mean": b.mean(), "sd": b.std(ddof=1), "seeds": len(b)},
        "difference": b.mean() - a.mean(),
        "margin": MARGIN,
        "p_equivalence": float(statistics.equivalence(b, a, MARGIN)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument("--seeds", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=4)
    options = parser.parse_args()
    path = OUT / f"equivalence_{options.precision}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    state = json.loads(path.read_text()) if path.exists() else {"epochs": options.epochs, "accuracies": {}}
    found = state["accuracies"]
    for start in range(0, options.seeds, TOGETHER):
        for precision in ("float32", options.precision):
            values = found.setdefault(precision, [])
            if len(values) > start:
                continue
            values += accuracies(precision, options.epochs, list(range(start, start + TOGETHER)))
            state["verdict"] = verdict(found, options.precision) if len(found) == 2 else {}
            state["provenance"] = {**provenance("batch", "regularisers"), "threads": torch.get_num_threads()}
            state["finished"] = time.strftime("%Y-%m-%d")
            path.write_text(json.dumps(state, indent=1) + "\n")
            print(precision, "seeds so far", len(values), state["verdict"], flush=True)


if __name__ == "__main__":
    main()
