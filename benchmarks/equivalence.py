"""Is a fast precision as accurate as float32? Trains both on MNIST and tests their equivalence.

    python benchmarks/equivalence.py --precision bfloat16 --seeds 24 --epochs 4
    python benchmarks/equivalence.py --arm gbn --seeds 24                            ghost norm
    python benchmarks/equivalence.py --study normalisers --arm gn_l1 --set learning_rate=0.1     SGD with L1, faster
    python benchmarks/equivalence.py --small                                         tiny, on the digits

An arm of a study under a one-cycle schedule, so that a short budget ends with small learning rates, where seeds differ
least. Two one-sided tests (Welch) on last-epoch test accuracy, margin 0.05 points, once all seeds are there; the first
call fixes their number. Writes results/bench/equivalence_<precision>.json for batch norm in `regularisers`, and a file
with the arm in its name for any other; every finished chunk of seeds is kept there, and not repeated.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import output
import torch

from s6lib import data, training
from s6lib.evidence import statistics
from s6lib.provenance import provenance
from s6lib.trial import Trial, make_trial

MARGIN = 0.05  # percentage points
TOGETHER = 8  # seeds per fused network
OUT = Path(__file__).parent.parent / "results" / "bench"


def accuracies(trial: Trial, options: argparse.Namespace, precision: str, seeds: list[int]) -> list[float]:
    record = training.train(trial, data.load(options.dataset), seeds, precision=precision, save=not options.small)
    return record.last().test_accuracy.tolist()


def verdict(found: dict[str, list[float]], precision: str, seeds: int) -> dict:
    a, b = (np.array(found.get(name, [])) for name in ("float32", precision))
    if min(len(a), len(b)) < seeds:
        return {}
    return {
        "float32": {"mean": a.mean(), "sd": a.std(ddof=1), "seeds": len(a)},
        precision: {"mean": b.mean(), "sd": b.std(ddof=1), "seeds": len(b)},
        "difference": b.mean() - a.mean(),
        "margin": MARGIN,
        "p_equivalence": float(statistics.equivalence(b, a, MARGIN)),
    }


def name_of(options: argparse.Namespace) -> str:
    first = (options.study, options.arm) == ("regularisers", "bn")
    arm = "" if first else f"{options.study}_{options.arm}_"
    return f"equivalence_{arm}{options.precision}"


def kept(path: Path, about: dict) -> dict:
    """What is in the file of an earlier call. Raises SystemExit where that trained something else."""
    state = json.loads(path.read_text()) if path.exists() else about | {"accuracies": {}}
    state.setdefault("dataset", "mnist")  # which older files do not say
    other = [f"{name} {state.get(name)!r}, not {value!r}" for name, value in about.items() if state.get(name) != value]
    if other:
        raise SystemExit(f"{path}: was begun with {'; '.join(other)}: give the same again, or another --out")
    return state


def setting(words: str) -> tuple[str, object]:
    """`name=value` as a setting of the trial; the value as in JSON."""
    name, _, value = words.partition("=")
    return name, json.loads(value)


def settings() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--study", default="regularisers")
    parser.add_argument("--arm", default="bn")
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument("--seeds", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--set", type=setting, action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--small", action="store_true", help="all of it at tiny size, to see that it works")
    options = parser.parse_args()
    if options.small:
        options.seeds, options.epochs, options.dataset = 2, 1, "digits"
    return options


def main() -> None:
    options = settings()
    changed = dict(options.set)
    trial = make_trial(options.study, options.arm, schedule="one_cycle", epochs=options.epochs, **changed)
    about = {"study": trial.study, "arm": trial.name, "settings": changed}
    about |= {"epochs": trial.epochs, "seeds": options.seeds, "dataset": options.dataset}
    state = kept(output.place(options, name_of(options)), about)
    found = state["accuracies"]
    for start in range(0, options.seeds, TOGETHER):
        chunk = list(range(start, min(start + TOGETHER, options.seeds)))
        for precision in ("float32", options.precision):
            values = found.setdefault(precision, [])
            if len(values) > start:
                continue
            values += accuracies(trial, options, precision, chunk)
            state["verdict"] = verdict(found, options.precision, options.seeds)
            state["provenance"] = {**provenance(trial.normaliser, trial.network), "threads": torch.get_num_threads()}
            state["finished"] = time.strftime("%Y-%m-%d")
            output.write(options, name_of(options), state)
            print(precision, "seeds so far", len(values), state["verdict"], flush=True)


if __name__ == "__main__":
    main()
