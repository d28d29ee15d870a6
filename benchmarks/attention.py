"""Times the non-local block forward and backward: ours against the full affinity matrix."""

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from benchmarks.floor import floor
from benchmarks.measure import Row, Setup, Work, alternate
from vos_lightning.layers.attention import NonLocalBlock


class PlainBlock(NonLocalBlock):
    """Wang et al. 2018 as published: softmax over the matrix of all pairs of positions."""

    def forward(self, x: Tensor, frames: int = 1) -> Tensor:
        """Maps x (N, C, h, w) to the same shape."""
        theta, phi, g = (conv(x).flatten(2) for conv in (self.theta, self.phi, self.g))
        pairs = torch.softmax(theta.mT @ phi, dim=2)
        attended = (pairs @ g.mT).mT.unflatten(2, x.shape[2:])
        return x + self.norm(self.out(attended.contiguous()))


class WithoutPairs(NonLocalBlock):
    """The block with a product in place of the attention, which shows what both sides hold beside it."""

    def forward(self, x: Tensor, frames: int = 1) -> Tensor:
        """Maps x (N, C, h, w) to the same shape."""
        theta, phi, g = self.theta(x), self.phi(x), self.g(x)
        return x + self.norm(self.out(theta * g + phi * g))


BLOCKS = {"ours": NonLocalBlock, "plain": PlainBlock, "without": WithoutPairs}


def side(kind: str, images: int, channels: int, height: int, width: int) -> Work:
    """Work that runs a block forward and backward and returns means of its output and gradient."""
    torch.manual_seed(0)
    block = BLOCKS[kind](channels).train()
    torch.nn.init.ones_(block.norm.weight)
    x = torch.randn(images, channels, height, width)
    if kind != "plain":
        block.to(memory_format=torch.channels_last)
        x = x.to(memory_format=torch.channels_last)
    x.requires_grad_()

    def work() -> tuple[float, float]:
        x.grad = None
        y = block(x)
        y.square().mean().backward()
        assert x.grad is not None
        return y.detach().abs().mean().item(), x.grad.abs().mean().item()

    return work


def rows(
    images: int = 20,
    channels: int = 512,
    height: int = 32,
    width: int = 56,
    repeats: int = 5,
    processes: bool = True,
) -> list[Row]:
    """One row; both sides use the C library's own allocator, and memory is that of the attention alone.

    Raises AssertionError if output or gradient are off by 1e-5.
    """
    sides: dict[str, Setup] = {k: partial(side, k, images, channels, height, width) for k in BLOCKS}
    times = alternate(sides, repeats, processes=processes)
    pairs = zip(times["ours"].result, times["plain"].result, strict=True)
    off = max(abs(a / b - 1) for a, b in pairs)
    assert off < 1e-5, f"block and gradient differ by {off}"
    common = times["without"].memory
    ours, plain = (replace(times[k], memory=max(0, times[k].memory - common)) for k in ("ours", "plain"))
    return [
        Row(
            f"non-local block, {images} maps of {channels}x{height}x{width}, forward and backward",
            ours,
            plain,
            "1; memory 10 %",
            f"output and gradient within {off:.1g}",
            floor(side("ours", images, channels, height, width)),
        )
    ]
