"""What the machine can do: rates of matrix products and of copies, and how much of both a network needs per image."""

import json
import subprocess
import sys
import time

import recipe

from s6lib.processes import cores

SIZE = {"cpu": 2048, "cuda": 8192}


def limits(small: bool, threads: int | None = None) -> dict:
    """Measured rates, in a process of its own: of matrix products (GFLOP/s) and of copies (GB/s, read and written), by
    all cores or by fewer `threads`."""
    command = [sys.executable, __file__, "small" if small else "whole", str(threads or cores())]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def rates(small: bool, threads: int) -> dict:
    import torch

    torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    size, found = 256 if small else SIZE[device], {}
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.randn(size, size, device=device, dtype=dtype)
        found[f"gflops_{str(dtype).removeprefix('torch.')}"] = 2 * size**3 / _best(lambda a=a: a @ a) / 1e9
    x = torch.empty(2 ** (20 if small else 28), dtype=torch.uint8, device=device)
    y = torch.empty_like(x)
    found["copy_gb_per_second"] = 2 * x.numel() / _best(lambda: y.copy_(x)) / 1e9
    return found


def _best(work, times: int = 5) -> float:
    from measure import wait_for_device

    seconds = []
    for _ in range(times):
        wait_for_device()
        start = time.perf_counter()
        work()
        wait_for_device()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def highest(found: list[dict]) -> dict:
    """The best rates of several measurements: a limit is what the machine reaches when nobody disturbs it."""
    return {key: max(one[key] for one in found) for key in found[0]}


def work_per_image(network: str) -> dict:
    """Multiply-adds of one forward pass, and bytes of all layers' float32 outputs."""
    size, channels, multiply_adds, outputs = 28, 1, 0, 0
    for one in recipe.layers(network):
        if one.kind == "conv":
            size, channels = size + 2 * one.padding - one.kernel + 1, one.outputs
            multiply_adds += size**2 * channels * one.kernel**2 * one.inputs
        elif one.kind.endswith("pool"):
            size //= one.kernel
        outputs += size**2 * channels
    return {"multiply_adds": multiply_adds, "activation_bytes": 4 * outputs}


def shares(row: dict, limits: dict, work: dict) -> dict:
    """How near a row comes to the machine's rates of products and of copies.

    A step takes three times the forward's multiply-adds, two operations each, and at the least writes and reads every
    layer's output and its gradient once.
    """
    speed, wide = row["images_per_second"], row["precision"] == "float32"
    operations, moved = 6 * work["multiply_adds"], (4 if wide else 2) * work["activation_bytes"]
    return {
        "share_of_product_rate": speed * operations / 1e9 / limits[f"gflops_{row['precision']}"],
        "share_of_copy_rate": speed * moved / 1e9 / limits["copy_gb_per_second"],
    }


if __name__ == "__main__":
    print(json.dumps(rates(sys.argv[1] == "small", int(sys.argv[2]))))
