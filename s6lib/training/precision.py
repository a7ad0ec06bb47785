"""The device, the precision and the allocator that a training uses on this machine."""

import contextlib
import ctypes
import functools
from pathlib import Path

import torch

from s6lib.records import PRECISIONS
from s6lib.trial import TrialError


def keep_freed_memory() -> None:
    """Lets glibc keep freed blocks in the process: activations are freed and wanted again in every step, and giving
    them back to the kernel in between costs a fifth to a third of a step. Elsewhere than on glibc, nothing."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        for option, value in ((-4, 0), (-1, 2**31 - 1), (-2, 2**26)):  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
            libc.mallopt(option, value)


def default_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def resolve_precision(precision: str, device: torch.device) -> str:
    """The precision that "auto" stands for on `device`: the fastest that was shown to be as accurate as float32.

    That is bfloat16 on processors that multiply it (benchmarks/equivalence.py tests the accuracy, benchmarks/bench.py
    the speed), float32 on others and on GPUs, where neither has been measured. Raises TrialError.
    """
    if precision not in PRECISIONS:
        raise TrialError(f"precision={precision!r} is unknown; valid: {', '.join(PRECISIONS)}")
    if precision != "auto":
        return precision
    return "bfloat16" if device.type == "cpu" and multiplies_bfloat16() else "float32"


@functools.cache
def multiplies_bfloat16() -> bool:
    """Whether this processor has instructions for products of bfloat16; known on Linux only."""
    with contextlib.suppress(OSError):
        return "avx512_bf16" in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    return False
