"""One contestant in processes of its own: started together, warmed up, and only then timed.

A contestant is an object with `step()`, one update of all its replicas that returns their losses, and `accuracy()`,
their mean test accuracy in percent.
"""

import contextlib
import importlib
import json
import os
import resource
import subprocess
import sys
import time

# who -> module and class. A module is imported only in the process that runs its contestant.
CONTESTANTS = {
    "s6lib": "ours.Fused",
    "DataLoader loop": "peers.DataLoaderLoop",
    "plain PyTorch": "peers.Plain",
    "torch.func": "peers.Vmap",
    "JAX": "peers_jax.Vmap",
}
FIRST, LAST = 5, 20  # losses averaged at the start and at the end of a short training


def run(job: dict, script: str = __file__) -> dict:
    """Runs `processes` copies of a job that start together once all are warm; what they found, added up."""
    command, pipe = [sys.executable, script, json.dumps(job)], subprocess.PIPE
    environment = os.environ | {"OMP_NUM_THREADS": str(job["threads"])}
    copies = [
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment)
        for _ in range(job["processes"])
    ]
    for copy in copies:
        copy.stdout.readline()  # it is warm, or it failed
    for copy in copies:
        with contextlib.suppress(BrokenPipeError):
            copy.stdin.write("go\n")
            copy.stdin.flush()
    outputs = [copy.communicate() for copy in copies]
    for copy, (_, errors) in zip(copies, outputs, strict=True):
        if copy.returncode:
            raise RuntimeError(f"{name_of(job)} failed:\n{errors[-2000:]}")
    found = [json.loads(output.splitlines()[-1]) for output, _ in outputs]
    added = ("images_per_second", "memory_mb", "gpu_memory_mb")
    return found[0] | {key: sum(one[key] for one in found) for key in added if key in found[0]}


def name_of(job: dict) -> str:
    size = f"{job['processes']} x {job['threads']} threads, R = {job['replicas']}"
    return f"{job['who']}, {job['network']}, {job['precision']}, {size}"


# --- in the contestant's own process ---------------------------------------------------------------


def measure(job: dict) -> dict:
    """The job's speed, or with `steps` how it learns in so many; and its peak memory."""
    contestant = start(job)
    found = learn(contestant, job["steps"]) if job.get("steps") else speed(contestant, job)
    return found | memory()


def start(job: dict):
    if job["who"] != "JAX":
        import torch

        torch.set_num_threads(job["threads"])
        torch.manual_seed(0)
    module, kind = CONTESTANTS[job["who"]].split(".")
    return getattr(importlib.import_module(module), kind)(job)


def speed(contestant, job: dict) -> dict:
    """Replica-images per second over `seconds` of steps, after `warm_up` steps and a wait for the other processes."""
    for _ in range(job["warm_up"]):
        contestant.step()
    wait_for_device()
    say_warm()
    begun, steps, elapsed = time.perf_counter(), 0, 0.0
    while elapsed < job["seconds"]:
        contestant.step()
        wait_for_device()
        steps, elapsed = steps + 1, time.perf_counter() - begun
    return {"images_per_second": steps * job["batch"] * job["replicas"] / elapsed, "steps": steps}


def learn(contestant, steps: int) -> dict:
    """Mean loss over replicas at the start and the end of a short training, and the test accuracy it reaches."""
    say_warm()
    losses = [float(contestant.step().mean()) for _ in range(steps)]
    first, last = losses[:FIRST], losses[-LAST:]
    means = {"first_loss": sum(first) / len(first), "last_loss": sum(last) / len(last)}
    return means | {"accuracy": float(contestant.accuracy())}


def say_warm() -> None:
    """Says that this process is warm and waits until all copies are."""
    print("warm", flush=True)
    sys.stdin.readline()


def wait_for_device() -> None:
    if (torch := sys.modules.get("torch")) and torch.cuda.is_available():
        torch.cuda.synchronize()


def memory() -> dict:
    """Peak memory in MB: of this process, without a DataLoader's workers, and of the GPU."""
    found = {"memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    if (torch := sys.modules.get("torch")) and torch.cuda.is_available():
        found["gpu_memory_mb"] = torch.cuda.max_memory_allocated() / 2**20
    return found


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
