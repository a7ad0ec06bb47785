"""The lambda sweep as one fused training against the same trainings one after the other: wall time, side by side.

    python benchmarks/fused_sweep.py --seeds 1 --rounds 3
    python benchmarks/fused_sweep.py --small                  one epoch, one round

Batch norm of study `normalisers` at lambda 0, 1e-5, 1e-4 and 1e-3, on the bundled digits. Prints the median ratio of
separate to fused; a test checks that both give the same numbers.
"""

import argparse
import statistics
import time

from s6lib import data, training
from s6lib.trial import make_trial

LAMBDAS = (0.0, 1e-5, 1e-4, 1e-3)


def seconds(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="all of it at tiny size, to see that it works")
    options = parser.parse_args()
    if options.small:
        options.seeds, options.epochs, options.rounds = 1, 1, 1
    digits = data.limit(data.load("digits"), 256, 64) if options.small else data.load("digits")
    trials = [make_trial("normalisers", f"lambda_{value:g}", epochs=options.epochs, l1=value) for value in LAMBDAS]
    training.train(trials[0], digits, 1, save=False)  # warm up
    ratios = []
    for _ in range(options.rounds):
        fused = seconds(lambda: training.train_together(trials, digits, options.seeds, save=False))
        separate = seconds(lambda: [training.train(trial, digits, options.seeds, save=False) for trial in trials])
        ratios.append(separate / fused)
        print(f"fused {fused:.1f} s, one after the other {separate:.1f} s, ratio {ratios[-1]:.2f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.2f} with {options.seeds} seeds per lambda")


if __name__ == "__main__":
    main()
