"""The process's memory: its peak, and an allocator that does not give pages back between two tensors."""

import ctypes
import resource
import sys

import torch

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's mallopt


def peak_memory(device: torch.device) -> int:
    """The highest memory use so far, bytes: allocations on CUDA, else the process's resident set."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def keep_freed_memory() -> None:
    """Makes glibc keep the memory that tensors free; other C libraries stay as they are.

    Left alone, it returns every large block to the system and the next tensor of that size faults all its
    pages in again, which on a virtual machine takes longer than the convolution that fills it.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)
