"""How fast is training, and against what? `make bench` runs it; `--small` is the same, tiny.

Contestants, each in processes of its own, all in turn, several rounds, medians: this library with R = 1, 4, 8 and 32
seeds fused, in one process with all cores as threads and in a process per core with one thread each (R seeds in every
process); the DataLoader loop of the published studies; plain PyTorch on tensors in memory, as a good user writes it, in
the same two forms and with the same memory settings; torch.func over 8 seeds; and, on one network, JAX over 8 seeds
where `pip install -e .[peers]` put it. On an idle machine of two cores all of it takes about 40 minutes.

Every contestant also trains briefly on the same images: where its loss does not fall or its accuracy stays below ours,
its rows are void, and say why. Writes results/bench/<device>.json.
"""

import argparse
import importlib.util
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import machine
import measure
import output
import recipe

from s6lib.processes import cores

PRECISIONS = ("float32", "bfloat16")
REPLICAS = (1, 4, 8, 32)  # in one process
SEEDS = 8  # of the peers that train several
SLOW = ("DataLoader loop", "torch.func", "JAX")  # with R = 32 they get a round fewer: their starts take long
# A short training: its steps at batch 128, seeds where a contestant trains several, and by how many percentage points
# its test accuracy may stay below ours: two seeds after so few steps differ by about as much.
STEPS, FEW_SEEDS, TOLERANCE = 400, 2, 2.0


def contestants(network: str, options: argparse.Namespace) -> list[dict]:
    """Every contestant of one network as a job for `measure.run`."""
    base = {"network": network, "dataset": options.dataset, "batch": options.batch, "warm_up": options.warm_up}
    base |= {"seconds": options.seconds, "workers": 0, "replicas": 1}
    count, found = cores(), []
    whole = {"processes": 1, "threads": count}
    forms = [whole] if options.gpu or count == 1 else [whole, {"processes": count, "threads": 1}]
    for precision in PRECISIONS:
        same = base | {"precision": precision}
        for form in forms:
            found += [{**same, **form, "who": "s6lib", "replicas": replicas} for replicas in options.replicas]
            found.append({**same, **form, "who": "plain PyTorch"})
        found.append({**same, **whole, "who": "torch.func", "replicas": options.seeds})
        if importlib.util.find_spec("jax") and not options.gpu and network == options.networks[0]:
            found.append({**same, **whole, "who": "JAX", "replicas": options.seeds})
    loop = {**base, **whole, "who": "DataLoader loop", "precision": "float32"}
    return found + [{**loop, "workers": workers} for workers in (0, 2)]


def slow(job: dict) -> bool:
    return job["who"] in SLOW or job["replicas"] == max(REPLICAS)


# --- does it learn? --------------------------------------------------------------------------------


def learned(jobs: list[dict], steps: int) -> dict[tuple, dict]:
    """A short training for each contestant and precision of a network, whatever its form; one core each."""
    chosen: dict[tuple, dict] = {}
    for job in jobs:
        few = FEW_SEEDS if job["who"] == "s6lib" else min(job["replicas"], FEW_SEEDS)
        form = {"processes": 1, "threads": 1, "workers": 0, "replicas": few, "steps": steps}
        chosen.setdefault(key(job), {**job, **form})
    with ThreadPoolExecutor(cores()) as pool:
        return dict(zip(chosen, pool.map(attempt, chosen.values()), strict=True))


def attempt(job: dict) -> dict:
    """What the job found; a peer that fails is void and does not end the benchmark."""
    try:
        return measure.run(job)
    except RuntimeError as error:
        if job["who"] == "s6lib":
            raise
        return {"error": str(error).strip().splitlines()[-1]}


def key(row: dict) -> tuple:
    return row["network"], row["who"], row["precision"]


def why_void(found: dict, ours: dict) -> str | None:
    """Why a contestant's speed does not count; None when it does."""
    if "error" in found:
        return f"it failed: {found['error']}"
    first, last = found["first_loss"], found["last_loss"]
    if not last < 0.7 * first:  # a loss that is no number is void as well
        return f"its loss did not fall: {first:.3f} to {last:.3f}"
    if not found["accuracy"] >= ours["accuracy"] - TOLERANCE:
        return f"its accuracy, {found['accuracy']:.2f} %, stays below ours, {ours['accuracy']:.2f} %"
    return None


# --- rows ------------------------------------------------------------------------------------------


def row(job: dict, rounds: list[dict]) -> dict:
    """Who, what, and the median, spread and peak memory over rounds."""
    named = ("who", "network", "precision", "processes", "threads", "replicas", "batch", "workers")
    speeds = [found["images_per_second"] for found in rounds]
    numbers = {"images_per_second": statistics.median(speeds), "lowest": min(speeds), "highest": max(speeds)}
    memory = {k: max(one[k] for one in rounds) for k in ("memory_mb", "gpu_memory_mb") if k in rounds[0]}
    return {name: job[name] for name in named} | numbers | {"rounds": len(rounds)} | memory


def add_ratios(rows: list[dict]) -> None:
    """Ratios to the best plain peer of the same precision and to the better DataLoader loop, of those not void."""
    for one in rows:
        peers = [other for other in rows if other["network"] == one["network"] and not other["void"]]
        plain = [o for o in peers if (o["who"], o["precision"]) == ("plain PyTorch", one["precision"])]
        loops = [o for o in peers if o["who"] == "DataLoader loop"]
        for name, base in (("ratio_to_plain", plain), ("ratio_to_dataloader", loops)):
            best = max((o["images_per_second"] for o in base), default=None)
            one[name] = None if best is None or one["void"] else one["images_per_second"] / best


def timed(jobs: list[dict], options: argparse.Namespace) -> tuple[list[list[dict]], dict]:
    """What every job found, a list over rounds, and the machine's rates: all are measured once in every round."""
    found: list[list[dict]] = [[] for _ in jobs]
    limits = []
    for k in range(options.rounds):
        limits.append(machine.limits(options.small))
        for job, results in zip(jobs, found, strict=True):
            if k == 0 or k < options.rounds - slow(job):
                results.append(attempt(job))
        print(f"round {k + 1} done", flush=True)
    return found, machine.highest(limits)


def judged(job: dict, rounds: list[dict], checks: dict[tuple, dict]) -> dict | None:
    """The row of a job, void where it failed or did not learn; None where it never ran."""
    failed = next((one for one in rounds if "error" in one), checks[key(job)])
    void = why_void(failed, checks[job["network"], "s6lib", job["precision"]])
    if good := [one for one in rounds if "error" not in one]:
        return row(job, good) | {"void": void}
    print(f"left out: {measure.name_of(job)}: {void}", flush=True)
    return None


def measured(options: argparse.Namespace) -> dict:
    """The whole benchmark."""
    jobs = [job for network in options.networks for job in contestants(network, options)]
    print(f"{len(jobs)} contestants, {options.rounds} rounds, on {options.device}, {options.dataset}", flush=True)
    checks = learned(jobs, options.steps)
    print("every contestant trained briefly", flush=True)
    found, limits = timed(jobs, options)
    rows = [one for job, rounds in zip(jobs, found, strict=True) if (one := judged(job, rounds, checks))]
    work = {network: machine.work_per_image(network) for network in options.networks}
    for one in rows:
        one |= machine.shares(one, limits, work[one["network"]])
    add_ratios(rows)
    named = [dict(zip(("network", "who", "precision"), names, strict=True)) | one for names, one in checks.items()]
    return {"rows": rows, "checks": named, "limits": limits, "per_image": work}


def table(rows: list[dict]) -> str:
    import pandas as pd

    names = "network who precision processes threads replicas images_per_second lowest highest ratio_to_plain"
    names += " ratio_to_dataloader memory_mb share_of_product_rate void"
    frame = pd.DataFrame(rows).reindex(columns=names.split())
    whole = ["images_per_second", "lowest", "highest", "memory_mb"]
    frame[whole] = frame[whole].round().astype(int)
    return frame.to_string(index=False, float_format="{:.2f}".format, na_rep="")


def settings(words: list[str] | None = None) -> argparse.Namespace:
    """The command line, and what follows from it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="all of it at tiny size, to see that it works")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.5, help="of every contestant in every round")
    parser.add_argument("--networks", nargs="*", default=list(recipe.NETWORKS), choices=recipe.NETWORKS)
    parser.add_argument("--dataset", default=recipe.default_dataset(), help="mnist where its files are, else digits")
    parser.add_argument("--out", type=Path, default=recipe.OUT)
    options = parser.parse_args(words)
    import torch

    options.gpu = torch.cuda.is_available()
    options.device = torch.cuda.get_device_name() if options.gpu else "cpu"
    options.batch, options.warm_up, options.steps = recipe.BATCH, 3, STEPS
    options.replicas, options.seeds = ((1, 8, 64, 512) if options.gpu else REPLICAS), SEEDS
    if options.small:
        tiny = {
            "rounds": 1,
            "seconds": 0.1,
            "steps": 60,
            "networks": ["regularisers"],
            "dataset": "digits",
            "batch": 64,
        }
        vars(options).update(tiny, replicas=(2,), seeds=2, warm_up=1)
    return options


def main() -> None:
    options = settings()
    from s6lib.provenance import provenance

    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    made_by = provenance("batch", "regularisers")  # now: the working tree may change while it runs
    result = measured(options)
    print(table(result["rows"]))
    about = {"dataset": options.dataset, "date": time.strftime("%Y-%m-%d"), "rounds": options.rounds}
    about |= {"seconds": options.seconds, "steps_of_checks": options.steps, "tolerance": TOLERANCE}
    about |= {"cores": cores(), "device": options.device, "load_before": load}
    result |= about | {"provenance": made_by}
    print(f"written: {output.write(options, options.device.replace(' ', '-').lower(), result)}")


if __name__ == "__main__":
    main()
