"""The process's memory: its peak, and an allocator that does not give pages back between two tensors."""

import ctypes
import gc
import resource
import sys
from contextlib import suppress
from pathlib import Path

import torch

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's mallopt


def peak_memory(device: torch.device) -> int:
    """The highest memory use since `restart_peak_memory`, bytes: allocations on CUDA, else the process's
    resident set."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def restart_peak_memory(device: torch.device) -> None:
    """Lets the peak start again from what is held now, so that it is not that of an earlier run.

    Off Linux, and where the system forbids it, the resident set's peak stays that of the process.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def keep_freed_memory() -> None:
    """Makes glibc keep the memory that tensors free; other C libraries stay as they are.

    Left alone, it returns every large block to the system and the next tensor of that size faults all its
    pages in again, which on a virtual machine takes longer than the convolution that fills it.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)
