"""Finds the least time that work can take, from its operations and bytes at this machine's peaks."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry


@dataclass(frozen=True)
class Peaks:
    """The most that the machine does in a second.

    operations: a multiplication and an addition count as two. bytes: read or written in main memory.
    """

    operations: float
    bytes: float


@cache
def peaks(device: str = "cpu", dtype: torch.dtype = torch.float32) -> Peaks:
    """Measures a large convolution and a large matrix product, of which the faster counts, and a copy."""
    maps = torch.randn(8, 256, 64, 64, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    kernel = torch.randn(256, 256, 3, 3, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    matrix = torch.randn(2048, 2048, device=device, dtype=dtype)
    convolution = 2 * 9 * 256 * maps.numel() / _best(lambda: F.conv2d(maps, kernel, padding=1), device)
    product = 2 * 2048**3 / _best(lambda: matrix @ matrix, device)
    source = torch.zeros(2**26, device=device)
    target = torch.zeros_like(source)
    return Peaks(max(convolution, product), 2 * 4 * 2**26 / _best(lambda: target.copy_(source), device))


def _best(work: Callable[[], Any], device: str, within: float = 3.0) -> float:
    """The least seconds that `work` took, called over and over for `within` seconds."""
    seconds: list[float] = []
    while sum(seconds) < within:
        started = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


class _Count(TorchDispatchMode):
    """Adds up the least time of every convolution, matrix product and attention."""

    def __init__(self, peak: Peaks) -> None:
        super().__init__()
        self.peak, self.seconds = peak, 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            operations = count(*args, **(kwargs or {}), out_val=out)
            tensors = [x for x in tree_leaves((args, kwargs, out)) if isinstance(x, Tensor)]
            moved = sum(x.numel() * x.element_size() for x in tensors)
            self.seconds += max(operations / self.peak.operations, moved / self.peak.bytes)
        return out


def floor(work: Callable[[], Any], device: str = "cpu", dtype: torch.dtype = torch.float32) -> float:
    """Seconds that the convolutions, products and attentions of `work` take at the machine's peaks."""
    return least_time(work, peaks(device, dtype))


def least_time(work: Callable[[], Any], peak: Peaks) -> float:
    """Seconds at `peak`: each operation lasts as long as its arithmetic or its bytes, whichever is longer.

    Convolutions, matrix products and attention count, all else is taken as free.
    """
    count = _Count(peak)
    with count:
        work()
    return count.seconds
