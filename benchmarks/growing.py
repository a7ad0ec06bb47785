"""What growing costs: seeds in one process, trials in one folder, and what every command pays before it starts.

    python benchmarks/growing.py            writes results/bench/growing.json; `make figures` draws it
    python benchmarks/growing.py --small    the same, tiny

Seeds train fused in one process with one thread, network `regularisers`, in the precision that is the default on this
machine. Trials are trivial records of one seed each, laid as a run leaves them; `plan` and `status` are whole commands.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import measure
import output
import recipe

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "faults"))
SEEDS = (1, 2, 4, 8, 16, 32, 64)
TRIALS = (1, 10, 50, 200)
STARTS = {
    "import s6lib": ["-c", "import s6lib"],
    "import s6lib.training": ["-c", "import s6lib.training"],
    "python -m s6lib --help": ["-m", "s6lib", "--help"],
}


def seeds(counts: tuple, rounds: int, job: dict) -> list[dict]:
    """Seconds of an epoch and memory, per seed, against how many train together; medians of interleaved rounds."""
    images = len(recipe.load(job).train_images)
    found = [[measure.run({**job, "replicas": count}) for count in counts] for _ in range(rounds)]
    return [
        {
            "seeds": count,
            "seconds_per_epoch_and_seed": images / statistics.median(one["images_per_second"] for one in same),
            "memory_mb": max(one["memory_mb"] for one in same),
            "memory_mb_per_seed": max(one["memory_mb"] for one in same) / count,
        }
        for count, same in zip(counts, zip(*found, strict=True), strict=True)
    ]


def trials(counts: tuple) -> list[dict]:
    """Seconds of reading all records, of `status` and of `plan`, against the number of trials."""
    from scale import measure as times

    return [{"trials": count, **times(count, 1)} for count in counts]


def starts(rounds: int) -> dict[str, float]:
    """Seconds of importing and of asking for help, medians."""
    return {name: statistics.median(seconds(words) for _ in range(rounds)) for name, words in STARTS.items()}


def seconds(words: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="all of it at tiny size, to see that it works")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=recipe.OUT)
    options = parser.parse_args()
    from s6lib.provenance import provenance
    from s6lib.training.precision import default_device, resolve_precision

    job = {"who": "s6lib", "network": "regularisers", "precision": resolve_precision("auto", default_device())}
    job |= {"processes": 1, "threads": 1, "warm_up": 2}
    if options.small:
        job |= {"batch": 64, "dataset": "digits", "seconds": 0.1}
        result = {"seeds": seeds((1, 2), 1, job), "trials": trials((1, 3)), "starts": starts(1)}
    else:
        job |= {"batch": recipe.BATCH, "dataset": recipe.default_dataset(), "seconds": 3.0}
        result = {
            "seeds": seeds(SEEDS, options.rounds, job),
            "trials": trials(TRIALS),
            "starts": starts(options.rounds),
        }
    result |= {"job": job, "date": time.strftime("%Y-%m-%d"), "provenance": provenance("batch", "regularisers")}
    print(json.dumps({key: result[key] for key in ("seeds", "trials", "starts")}, indent=1))
    print(f"written: {output.write(options, 'growing', result)}")


if __name__ == "__main__":
    main()
