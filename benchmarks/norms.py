"""What does a normaliser cost? Every one in the same network, all in one interleaved run; and how near a large network
comes to the machine's rate of matrix products.

    python benchmarks/norms.py              writes results/bench/norms.json; `make docs` writes its table
    python benchmarks/norms.py --small      the same, tiny

Networks are `normalisers`, and the 258,602-parameter one that has no normaliser; one process with one thread, R = 8
(the large network: 1), in the precision that is the default on this machine.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import machine
import measure
import output
import recipe

# The settings of arms in the studies, two groups or ghost batches each.
NORMS = {
    "batch norm": {},
    "no normaliser": {"normaliser": "none"},
    "ghost norm": {"normaliser": "ghost", "ghost_splits": 2},
    "layer norm": {"normaliser": "layer"},
    "group norm": {"normaliser": "group", "groups": 2},
    "instance norm": {"normaliser": "instance"},
    "RMS norm": {"normaliser": "rms"},
    "filter response norm": {"normaliser": "filter_response"},
    "batch renormalisation": {"normaliser": "batch_renorm"},
    "group norm, weight standardisation": {"normaliser": "group_ws", "groups": 2},
}


def times(jobs: dict[str, dict], rounds: int) -> dict[str, float]:
    """Seconds per image and replica of every job, medians of interleaved rounds."""
    found = [{name: 1 / measure.run(job)["images_per_second"] for name, job in jobs.items()} for _ in range(rounds)]
    return {name: statistics.median(one[name] for one in found) for name in jobs}


def skeleton(job: dict, rounds: int, small: bool) -> dict:
    """The large network's speed as a share of the rate of matrix products that one thread reaches in between."""
    job = job | {"network": "skeleton", "replicas": 1, "settings": NORMS["no normaliser"]}
    found = [(measure.run(job)["images_per_second"], machine.limits(small, threads=1)) for _ in range(rounds)]
    speed = statistics.median(one for one, _ in found)
    limits = machine.highest([one for _, one in found])
    work = machine.work_per_image("skeleton")
    row = {"images_per_second": speed, "precision": job["precision"]}
    return row | machine.shares(row, limits, work)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="all of it at tiny size, to see that it works")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=recipe.OUT)
    options = parser.parse_args()
    from s6lib.provenance import provenance
    from s6lib.training.precision import default_device, resolve_precision

    job = {"who": "s6lib", "network": "normalisers", "replicas": 8, "processes": 1, "threads": 1}
    job |= {"precision": resolve_precision("auto", default_device())}
    job |= {"batch": recipe.BATCH, "dataset": recipe.default_dataset(), "seconds": 3.0, "warm_up": 2}
    if options.small:
        options.rounds = 1
        job |= {"replicas": 2, "batch": 32, "dataset": "digits", "seconds": 0.1}
    seconds = times({name: job | {"settings": settings} for name, settings in NORMS.items()}, options.rounds)
    result = {
        "norms": {name: value / seconds["batch norm"] for name, value in seconds.items()},
        "skeleton": skeleton(job, options.rounds, options.small),
        "job": job,
        "date": time.strftime("%Y-%m-%d"),
        "provenance": provenance("batch", "normalisers"),
    }
    output.write(options, "norms", result)
    print(json.dumps({key: result[key] for key in ("norms", "skeleton")}, indent=1))


if __name__ == "__main__":
    main()
