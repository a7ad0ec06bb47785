"""How fast is training, and against what? `make bench` runs it; `--tiny` only shows that it works.

(a) the way the published studies train: a torchvision DataLoader with per-image PIL transforms, a progress bar and
    `.item()` in every step, one plain network of torch's own layers, with 0 and 2 workers;
(b) this library: R replicas fused, data in memory, at each R and precision, in one process with all cores as threads;
(c) the same in one process per core with one thread each, the way `make run-all` runs trials on a small machine.

Every figure has processes of its own, so that memory is its own, and all figures are taken in turn, several rounds,
medians reported: machines drift, and neighbours come and go. Writes results/bench/<device>.json: a list of rows with
network, mode, device, replicas, replica_images_per_second and ratio_to_dataloader_loop, and the machine's limits.
"""

import argparse
import contextlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

OUT = Path(__file__).parent.parent / "results" / "bench"
NETWORKS = ("regularisers", "gap", "normalisers")
REPLICAS = (1, 2, 4, 8, 16, 32)
FEW = (1, 4, 8, 32)  # with a process per core
EACH = "process per core"
BATCH = 128


# --- one figure, in a process of its own -----------------------------------------------------------


def measure(job: dict) -> dict:
    """Replica-images per second of one job, its peak memory in MB, and its seconds by part of the step."""
    import torch

    if job.get("threads"):
        torch.set_num_threads(job["threads"])
    found = {"dataloader": dataloader_loop, "fused": fused_loop}[job["loop"]](job)
    if torch.cuda.is_available():
        found["gpu_memory_mb"] = torch.cuda.max_memory_allocated() / 2**20
    return {**found, "memory_mb": peak_memory()}


def peak_memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def make_trial(job: dict):
    from s6lib import trial

    study = {"gap": "progression"}.get(job["network"], job["network"])
    alike = {"l1": 0.0, "rotate_after_normalise": False, "epochs": 1}
    return trial.make_trial(study, "bench", like="", batch_size=job["batch"], **alike)


def dataloader_loop(job: dict) -> dict:
    """Images per second of one network behind a DataLoader."""
    import torch
    import torch.nn.functional as F
    from torchvision import datasets, transforms
    from tqdm import tqdm

    from s6lib import data, paths
    from s6lib.models import builder
    from s6lib.training import optim, precision

    turn = transforms.RandomRotation((-7.0, 7.0), fill=(0,))
    steps = [turn, transforms.ToTensor(), transforms.Normalize((data.MNIST_MEAN,), (data.MNIST_STD,))]
    if job["dataset"] == "mnist":
        images = datasets.MNIST(paths.data_dir(), train=True, transform=transforms.Compose(steps))
    else:
        images = PilDigits(transforms.Compose(steps))
    device, trial = precision.default_device(), make_trial(job)
    net = plain(builder.initialise(trial.build(), [0])).to(device).train()
    optimiser = optim.make_optimiser(trial, net)[1]
    loader = torch.utils.data.DataLoader(images, job["batch"], shuffle=True, num_workers=job["workers"])
    batches, bar = endless(loader), tqdm(total=job["steps"], file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    for step in range(job["warm_up"] + job["steps"]):
        if step == job["warm_up"]:
            wait_for_the_others()
            start = time.perf_counter()
        x, y = next(batches)
        optimiser.zero_grad()
        logits = net(x.to(device)).flatten(1)
        loss = F.cross_entropy(logits, y.to(device))
        loss.backward()
        optimiser.step()
        right = (logits.argmax(1) == y.to(device)).sum().item()
        bar.set_description(f"loss={loss.item():.4f} right={right}")
        bar.update()
    return {"replica_images_per_second": job["steps"] * job["batch"] / (time.perf_counter() - start)}


def plain(net):
    """One replica's network as the studies wrote it: torch's own layers and memory layout."""
    from torch import nn

    from s6lib.models import layers

    def convolution(layer: layers.Conv2d) -> nn.Conv2d:
        shape = (layer.in_channels, layer.out_channels, layer.kernel_size)
        own = nn.Conv2d(*shape, padding=layer.padding, bias=layer.bias is not None)
        own.load_state_dict(layer.state_dict())
        return own

    own = {
        layers.Conv2d: convolution,
        layers.Dropout: lambda layer: nn.Dropout(layer.p),
        layers.Dropout2d: lambda layer: nn.Dropout2d(layer.p),
        nn.ReLU: lambda _: nn.ReLU(),
    }
    return nn.Sequential(*[own.get(type(layer), lambda layer: layer)(layer) for layer in net.layers])


class PilDigits:
    """The bundled digits as PIL images, for a DataLoader where there is no MNIST."""

    def __init__(self, transform):
        from PIL import Image

        from s6lib import data

        digits = data.load("digits")
        self.images = [Image.fromarray(image.numpy()) for image in digits.train_images]
        self.labels, self.transform = digits.train_labels.tolist(), transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int):
        return self.transform(self.images[i]), self.labels[i]


def endless(loader):
    while True:
        yield from loader


def fused_loop(job: dict) -> dict:
    """Replica-images per second of R fused replicas, then the same steps once more with their parts timed."""
    from s6lib import data
    from s6lib.training import precision
    from s6lib.training.trainer import Trainer

    precision.keep_freed_memory()
    trial, device = make_trial(job), precision.default_device()
    dataset = data.load(job["dataset"]).to(device)
    resolved = precision.resolve_precision(job["precision"], device)
    trainer = Trainer([trial], dataset, list(range(job["replicas"])), resolved)
    trainer.net.train()
    order, angles = trainer._draw_epoch()
    size, count = job["batch"], job["warm_up"] + job["steps"]
    parts = [slice(k * size, (k + 1) * size) for k in range(len(order) // size)]
    parts = (parts * (count // len(parts) + 1))[:count]

    def run(chosen: list[slice], clock: "Clock") -> float:
        start = time.perf_counter()
        for part in chosen:
            with clock("data"):
                x = trainer.augment(order[part], angles[part], trainer.dtype)
                y = dataset.train_labels[order[part]]
            with clock("forward"):
                _, losses = trainer.forward(x, y)
            with clock("backward"):
                trainer.optimiser.zero_grad(set_to_none=True)
                losses.sum().backward()
            with clock("optimiser"):
                trainer.update()
        Clock.wait()
        return time.perf_counter() - start

    run(parts[: job["warm_up"]], Clock(False))
    wait_for_the_others()
    seconds = run(parts[job["warm_up"] :], Clock(False))
    clock = Clock(True)
    run(parts[job["warm_up"] :][: len(parts) // 4 + 1], clock)
    images = job["steps"] * size * job["replicas"]
    share = {name: value / sum(clock.seconds.values()) for name, value in clock.seconds.items()}
    return {"replica_images_per_second": images / seconds, "share": share}


def wait_for_the_others() -> None:
    """Says that this process is warm and waits until all of its figure are."""
    print("warm", flush=True)
    sys.stdin.readline()


class Clock:
    """Seconds by part of the step; on a GPU it waits at every boundary, so it is used in a pass of its own."""

    def __init__(self, on: bool):
        self.on, self.seconds = on, {}

    @contextlib.contextmanager
    def __call__(self, name: str):
        if not self.on:
            yield
            return
        self.wait()
        start = time.perf_counter()
        yield
        self.wait()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    @staticmethod
    def wait() -> None:
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()


# --- the machine, and the costs around training ----------------------------------------------------


def machine_limits() -> dict:
    """Measured rate of matrix products (GFLOP/s) and of copies (GB/s, read and written)."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    found, size = {}, 8192 if device == "cuda" else 2048
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        a = torch.randn(size, size, device=device, dtype=dtype)
        found[f"gflops_{name}"] = 2 * size**3 / best(lambda a=a: a @ a) / 1e9
    x = torch.empty(2**28, dtype=torch.uint8, device=device)
    y = torch.empty_like(x)
    found["copy_gb_per_second"] = 2 * x.numel() / best(lambda: y.copy_(x)) / 1e9
    return found


def add_limits(found: list[dict], limits: dict, per_image: dict) -> None:
    """How near each fused row is to the machine: shares of its measured rates of products and of copies.

    A training step takes three times the forward's multiply-adds (two operations each), and at the least writes and
    reads every layer's output and its gradient once.
    """
    for row in found:
        if not limits or not row["mode"].startswith("fused"):
            continue
        precision = "bfloat16" if "bfloat16" in row["mode"] else "float32"
        count, speed = per_image[row["network"]], row["replica_images_per_second"]
        bytes_moved = 4 * count["activation_bytes"] / (2 if precision == "bfloat16" else 1)
        row["share_of_product_rate"] = speed * 6 * count["multiply_adds"] / 1e9 / limits[f"gflops_{precision}"]
        row["share_of_copy_rate"] = speed * bytes_moved / 1e9 / limits["copy_gb_per_second"]


def best(work, times: int = 5) -> float:
    seconds = []
    for _ in range(times):
        Clock.wait()
        start = time.perf_counter()
        work()
        Clock.wait()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def work_per_image(network: str) -> dict:
    """Multiply-adds of one forward pass, and bytes of all layers' float32 outputs."""
    import torch

    from s6lib.models import build
    from s6lib.studies import NETWORKS

    net, counts = build(NETWORKS[network]), {"multiply_adds": 0, "activation_bytes": 0}

    def count(layer, _, y):
        counts["activation_bytes"] += 4 * y.numel()
        if isinstance(layer, torch.nn.Conv2d):
            counts["multiply_adds"] += y.numel() * layer.weight[0].numel()

    for layer in net.layers:
        layer.register_forward_hook(count)
    net.eval()(torch.zeros(1, 1, 28, 28))
    return counts


def costs_around(tiny: bool) -> dict:
    """Seconds to start, to evaluate 10,000 images for 8 replicas, and to save their record."""
    import torch

    from s6lib import data, records
    from s6lib.training import precision
    from s6lib.training.trainer import Trainer

    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import s6lib.training"], check=True)
    found = {"start_up_seconds": time.perf_counter() - start}
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import s6lib"], check=True)
    found["import_s6lib_seconds"] = time.perf_counter() - start
    precision.keep_freed_memory()
    digits, repeats, sizes = data.load("digits"), 1 if tiny else 34, (128,) if tiny else (375, 750, 1500)
    images = digits.test_images.repeat(repeats, 1, 1)[:10_000]
    dataset = data.Dataset(
        "bench",
        digits.train_images,
        digits.train_labels,
        images,
        digits.test_labels.repeat(repeats)[:10_000],
        digits.mean,
        digits.std,
    )
    trial = make_trial({"network": "regularisers", "batch": BATCH})
    trainer = Trainer([trial], dataset.to(precision.default_device()), list(range(8)), "float32")
    trainer.run()
    found["evaluation_seconds"], found["evaluated_images"] = best(trainer.evaluate, 3), len(images)
    found["epoch_seconds_by_images"] = {count: epoch_seconds(trainer, count) for count in sizes}
    with tempfile.TemporaryDirectory() as folder:
        record = trainer.records()[0]
        found["save_seconds"] = best(lambda: shutil.rmtree(records.add(record, folder)), 3)
    found["threads"] = torch.get_num_threads()
    return found


def epoch_seconds(trainer, images: int) -> float:
    """Seconds of one epoch, orders and angles drawn, over the first `images` training images; no evaluation."""
    from s6lib import data
    from s6lib.training.trainer import Trainer

    part = data.limit(trainer.dataset, images, 1)
    fresh = Trainer(trainer.trials, part, trainer.seeds, "float32")
    return best(fresh._train_epoch, 2)


# --- the whole benchmark ---------------------------------------------------------------------------


def default_dataset() -> str:
    from s6lib import paths

    return "mnist" if (paths.data_dir() / "MNIST" / "raw" / "train-images-idx3-ubyte").exists() else "digits"


def jobs(options: argparse.Namespace) -> list[dict]:
    """What to measure, each for a few seconds."""
    base = {"dataset": options.dataset, "batch": BATCH}
    if options.tiny:
        base |= {"network": "regularisers", "steps": 2, "warm_up": 1, "batch": 32}
        loop = {**base, "loop": "dataloader", "mode": "dataloader, 0 workers", "workers": 0, "replicas": 1}
        fused = {**base, "loop": "fused", "precision": "float32", "replicas": 2}
        return [loop, {**fused, "mode": "fused float32"}, {**fused, "mode": f"fused float32, {EACH}", **per_core()}]
    found = []
    for network in options.networks:
        for workers in (0, 2):
            mode = f"dataloader, {workers} workers"
            found.append({**base, "loop": "dataloader", "network": network, "mode": mode, "workers": workers})
            found[-1] |= {"replicas": 1, "steps": 100, "warm_up": 10}
        for precision in ("float32", "bfloat16"):
            all_or_few = FEW if network == "normalisers" else REPLICAS
            found += [fused_job(base, network, precision, replicas) for replicas in all_or_few]
            found += [fused_job(base, network, precision, replicas, per_core()) for replicas in FEW]
        found += [fused_job({**base, "batch": n}, network, "bfloat16", 8, per_core()) for n in (32, 64, 256, 512)]
    return found


def per_core() -> dict:
    """A process per core, up to four, with the threads that are left for each: what `make run-all` does."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    processes = min(cores, 4)
    return {"processes": processes, "threads": cores // processes}


def fused_job(base: dict, network: str, precision: str, replicas: int, processes: dict | None = None) -> dict:
    steps = max(4, 12_000 // (replicas * base["batch"]))
    job = {**base, "loop": "fused", "network": network, "precision": precision, "replicas": replicas}
    mode = f"fused {precision}, {EACH}" if processes else f"fused {precision}"
    return {**job, **(processes or {}), "mode": mode, "steps": steps, "warm_up": max(2, steps // 5)}


def run_job(job: dict, script: str = __file__) -> dict:
    """One figure: `processes` copies of the job that start together once all are warm; the slowest sets the speed."""
    command, pipe = [sys.executable, script, "--one", json.dumps(job)], subprocess.PIPE
    count = job.get("processes", 1)
    copies = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(count)]
    for copy in copies:
        copy.stdout.readline()
    for copy in copies:
        with contextlib.suppress(BrokenPipeError):  # it failed; its own words follow
            copy.stdin.write("go\n")
            copy.stdin.flush()
    outputs = [copy.communicate() for copy in copies]
    for copy, (_, errors) in zip(copies, outputs, strict=True):
        if copy.returncode:
            raise SystemExit(f"{job['mode']}, {job['network']}, R = {job['replicas']} failed:\n{errors[-2000:]}")
    found = [json.loads(output.splitlines()[-1]) for output, _ in outputs]
    return {
        "replica_images_per_second": count * min(one["replica_images_per_second"] for one in found),
        "memory_mb": sum(one["memory_mb"] for one in found),
        "share": found[0].get("share"),
    }


def rows(chosen: list[dict], rounds: list[list[dict]], device: str) -> list[dict]:
    """A row per job: medians over rounds, spread, and the ratio to the better DataLoader loop of its network."""
    found = []
    for i, job in enumerate(chosen):
        speeds = [results[i]["replica_images_per_second"] for results in rounds]
        found.append(
            {
                "network": job["network"],
                "mode": job["mode"],
                "device": device,
                "replicas": job["replicas"],
                "batch_size": job["batch"],
                "replica_images_per_second": statistics.median(speeds),
                "lowest": min(speeds),
                "highest": max(speeds),
                "memory_mb": max(results[i]["memory_mb"] for results in rounds),
                "share_of_step": rounds[-1][i].get("share"),
            }
        )
    for network in {row["network"] for row in found}:
        same = [row for row in found if row["network"] == network]
        base = max(row["replica_images_per_second"] for row in same if row["mode"].startswith("dataloader"))
        for row in same:
            row["ratio_to_dataloader_loop"] = row["replica_images_per_second"] / base
    return found


def table(found: list[dict]) -> str:
    import pandas as pd

    names = {
        "network": "network",
        "mode": "mode",
        "batch_size": "batch",
        "replicas": "R",
        "replica_images_per_second": "replica-images/s",
        "ratio_to_dataloader_loop": "ratio",
        "memory_mb": "MB",
        "share_of_product_rate": "of products",
        "share_of_copy_rate": "of copies",
        "share_of_step": "share of a step",
    }
    frame = pd.DataFrame(found).reindex(columns=list(names)).rename(columns=names)
    whole = ["replica-images/s", "MB"]
    frame[whole] = frame[whole].round().astype(int)
    parts = frame["share of a step"].map(lambda share: share if isinstance(share, dict) else {})
    frame["share of a step"] = [", ".join(f"{name} {value:.0%}" for name, value in part.items()) for part in parts]
    return frame.to_string(index=False, float_format="{:.2f}".format, na_rep="")


def figure(found: list[dict], path: Path) -> None:
    """Throughput against R, one panel per network, the DataLoader loop as a line."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from s6lib import plots

    plots.style()
    networks = list(dict.fromkeys(row["network"] for row in found))
    panels, axes = plt.subplots(1, len(networks), figsize=(3.6 * len(networks), 3.4), sharey=True, squeeze=False)
    looks = {
        f"fused bfloat16, {EACH}": ("#0072B2", "o-"),
        f"fused float32, {EACH}": ("#E69F00", "s-"),
        "fused bfloat16": ("#0072B2", "o:"),
        "fused float32": ("#E69F00", "s:"),
    }
    for ax, network in zip(axes[0], networks, strict=True):
        same = [row for row in found if row["network"] == network and row["batch_size"] == BATCH]
        base = max(row["replica_images_per_second"] for row in same if row["mode"].startswith("dataloader"))
        ax.axhline(base, color="black", ls="--", label="DataLoader loop, one network")
        for mode, (colour, marks) in looks.items():
            line = [(row["replicas"], row["replica_images_per_second"]) for row in same if row["mode"] == mode]
            if line:
                ax.plot(*zip(*line, strict=True), marks, color=colour, label=mode)
        ax.set_xscale("log", base=2)
        ax.set_xticks(REPLICAS, REPLICAS)
        ax.set(xlabel="replicas trained together (count)", ylim=(0, None))
        ax.set_title(network, loc="left")
    axes[0, 0].set_ylabel("training speed (replica-images/s)")
    panels.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    panels.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="two short jobs, to see that it works")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--dataset", default=None, help="mnist where its files are, else digits")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(json.loads(options.one))))
        return
    import torch

    from s6lib.provenance import provenance

    options.dataset = options.dataset or default_dataset()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    chosen = jobs(options)
    print(f"{len(chosen)} figures on {device}, data set {options.dataset}", flush=True)
    rounds = []
    for k in range(1 if options.tiny else options.rounds):
        rounds.append([run_job(job) for job in chosen])
        print(f"round {k + 1} done", flush=True)
    found = rows(chosen, rounds, device)
    limits = {} if options.tiny else machine_limits()
    per_image = {network: work_per_image(network) for network in NETWORKS}
    add_limits(found, limits, per_image)
    print(table(found))
    result = {
        "rows": found,
        "limits": limits,
        "per_image": per_image,
        "around": costs_around(options.tiny),
        "dataset": options.dataset,
        "date": time.strftime("%Y-%m-%d"),
        "provenance": {**provenance("batch", "regularisers"), "threads": torch.get_num_threads()},
    }
    options.out.mkdir(parents=True, exist_ok=True)
    name = ("tiny-" if options.tiny else "") + device.replace(" ", "-").lower()
    (options.out / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({key: result[key] for key in ("limits", "around")}, indent=1))
    if not options.tiny:
        figure(found, options.out / f"{name}.png")
    print(f"written: {options.out / name}.json")


if __name__ == "__main__":
    main()
