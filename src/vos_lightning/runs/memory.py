"""The memory of a batch, the peak of the process, and an allocator that does not give pages back between two
tensors."""

import ctypes
import gc
import os
import resource
import sys
from contextlib import suppress
from pathlib import Path

import torch

from vos_lightning.data.examples import Examples
from vos_lightning.errors import InputError

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
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)  # gives back what `keep_freed_memory` has kept of an earlier run
    if device.type == "cuda":
        torch.cuda.init()  # which else happens at the first tensor, and the next line fails before it
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


def check_memory(examples: Examples) -> None:
    """Raises InputError if a batch cannot fit into this machine's memory.

    Counted are its frames and the lightest backbone's first maps, 24 channels at half the size, in float32.
    """
    (height, width), frames, batch = examples.size, examples.frames, examples.batch_size
    needed = 4 * (3 + 24 // 4) * height * width * frames * batch
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory:
        raise InputError(
            f"data.size={list(examples.size)}, data.batch_size={batch}: a batch's frames "
            f"({frames} an example) and first maps take {needed >> 30} GiB and this machine has "
            f"{memory >> 30}; lower one."
        )
