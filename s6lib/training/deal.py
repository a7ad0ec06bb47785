"""Which seeds train together, and in how many processes side by side: from seeds, cores, memory and the work there is.

Nothing here looks at the clock or at memory in use, so the same request on the same machine is dealt alike.
"""

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from s6lib.models.norms import NORMALISERS
from s6lib.processes import cores, memory
from s6lib.studies import NETWORKS
from s6lib.training.checkpoint import begun
from s6lib.training.trainer import EVALUATION_BATCH, Trainer
from s6lib.trial import Trial, TrialError

MOST = 16  # replicas in a part on a CPU: more are not faster per replica, and their maps leave the cache
SMALL = 1e12  # floating-point operations, some 20 s of one core: less is not worth starting processes
BASE = 500 << 20  # bytes of a process before its first replica: Python, torch, the images


@dataclass(frozen=True)
class Deal:
    """Groups of seeds, a part each, and the threads of each; `workers` processes train them side by side (1: this)."""

    groups: list[list[int]]
    threads: list[int]
    workers: int


def make_deal(probe: Trainer, missing: list[int], workers: int | None) -> Deal:
    """Deals the seeds `missing` of the training of which `probe` is one seed: evenly over the workers, in their order,
    into as many parts as memory and `MOST` ask for. Groups that had begun earlier go on as they are, in as many threads
    as they had: their number changes the last bits of a history."""
    asked = how_many(probe, len(missing), workers)
    earlier = disjoint(begun(probe.identity(), probe.trial.study, probe.trial.name, asked), missing)
    taken = {seed for seeds, _ in earlier for seed in seeds}
    new = split([seed for seed in missing if seed not in taken], asked, fused_at_most(probe, asked))
    workers = min(asked, len(earlier) + len(new))
    threads = max(1, threads_here() // workers) if workers > 1 else torch.get_num_threads()
    groups = [*earlier, *((seeds, threads) for seeds in new)]
    return Deal([seeds for seeds, _ in groups], [number for _, number in groups], workers)


def how_many(probe: Trainer, seeds: int, workers: int | None) -> int:
    """The processes asked for; by default one per core, fewer where memory is short, and this one alone for a GPU, for
    little work, and for what only this process knows. Raises TrialError."""
    if workers is not None and (type(workers) is not int or workers < 1):
        raise TrialError(f"workers={workers!r} is out of range; valid: 1 or more")
    if probe.device.type == "cuda" or not known_elsewhere(probe.trial):
        return 1
    if workers is None and work(probe, seeds) < SMALL:
        return 1
    return workers or max(1, min(available(), room() // (BASE + bytes_per_seed(probe))))


def available() -> int:
    """Workers by default: `S6_WORKERS`, else one per core, fewer where OMP_NUM_THREADS grants fewer threads."""
    text = os.environ.get("S6_WORKERS") or str(threads_here())
    if not text.isdecimal() or int(text) < 1:
        raise TrialError(f"S6_WORKERS={text!r} is out of range; valid: 1 or more")
    return int(text)


def threads_here() -> int:
    """Threads that this process and its workers may keep busy together."""
    text = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # "4,2": of nested regions, too
    return max(1, int(text)) if text.isdecimal() else cores()


def split(seeds: list[int], workers: int, most: int) -> list[list[int]]:
    """`seeds` in order, in groups whose sizes differ by one at most: as few rounds of `workers` as `most` allows."""
    rounds = -(-len(seeds) // (workers * most))
    count = min(len(seeds), workers * rounds)
    ends = [len(seeds) * i // count for i in range(count + 1)] if count else []
    return [seeds[a:b] for a, b in itertools.pairwise(ends)]


def disjoint(groups: list[tuple[list[int], int]], missing: Sequence[int]) -> list[tuple[list[int], int]]:
    """The groups all of whose seeds are missing, without those that overlap an earlier one."""
    chosen, left = [], set(missing)
    for seeds, threads in groups:
        if set(seeds) <= left:
            chosen.append((seeds, threads))
            left -= set(seeds)
    return chosen


def fused_at_most(probe: Trainer, workers: int) -> int:
    """Seeds that fit into one part of each worker; on a CPU `MOST` replicas at most."""
    if probe.device.type == "cuda":
        whole = torch.cuda.get_device_properties(probe.device).total_memory
        return max(1, whole * 3 // 4 // bytes_per_seed(probe))
    fit = (room() // workers - BASE) // bytes_per_seed(probe)
    return max(1, min(fit, MOST // len(probe.trials)))


def room() -> int:
    """Bytes to train in: three quarters of the memory, or of this process's share where others run side by side."""
    return memory() * 3 // 4 * min(available(), cores()) // cores()


def bytes_per_seed(probe: Trainer) -> int:
    """Memory of one more seed: three values per output of every layer and image of a batch, or what evaluation holds.

    Measured with benchmarks/workers.py: 1.5 to 2.8 values while training.
    """
    outputs, _ = one_image(probe)
    return 4 * outputs * max(3 * probe.trial.batch_size, 3 * EVALUATION_BATCH // 5)


def work(probe: Trainer, seeds: int) -> float:
    """Floating-point operations of the whole training: the backward pass costs two forward passes."""
    _, operations = one_image(probe)
    return 3.0 * operations * seeds * len(probe.dataset.train_images) * probe.trial.epochs


@torch.no_grad()
def one_image(probe: Trainer) -> tuple[int, int]:
    """Of one image in all replicas of `probe`: values that its layers put out, and operations of a forward pass."""
    outputs: list[int] = []
    layers = [module for module in probe.net.modules() if not list(module.children())]
    hooks = [layer.register_forward_hook(lambda _, __, out: outputs.append(out.numel())) for layer in layers]
    image = torch.zeros(1, probe.replicas, 28, 28, dtype=probe.dtype, device=probe.device)
    training = probe.net.training
    with FlopCounterMode(display=False) as counter:
        probe.net.eval()(image)
    probe.net.train(training)
    for hook in hooks:
        hook.remove()
    return sum(outputs), counter.get_total_flops()


def known_elsewhere(trial: Trial) -> bool:
    """Whether a new process finds the trial's normaliser and network; what a notebook has defined, it does not."""
    makers = NORMALISERS[trial.normaliser], NETWORKS[trial.network]
    return all(maker is None or maker.__module__.startswith("s6lib.") for maker in makers)
