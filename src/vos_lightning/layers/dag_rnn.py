"""The spatio-temporal RNN layer (Lin et al. 2019, section 2.2): a DAG-RNN with a state that lasts.

A map is swept in four directions: to the south-east, south-west, north-east and north-west. In each, a cell
waits for the neighbours that it is swept from, so that all cells of an anti-diagonal can be computed at once;
the four directions are computed in one batch.

Shapes: B batch, C channels, D hidden size, H W cells of a map, S = H + W - 1 anti-diagonals of n cells each.
"""

from functools import lru_cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

DIRECTIONS = 4
ACTIVATIONS: dict[str, Any] = {"tanh": torch.tanh, "relu": partial(torch.clamp_min, min=0)}


class Order(NamedTuple):
    """In which order the cells of maps of one size are swept.

    States are swept in a buffer of 4 x `rows` rows: for each direction the cells of one anti-diagonal after
    the other, in each from its top cell down, with a row of zeros before and behind each anti-diagonal.

    waves: (4 H W B,) int64, which of B H W 4 rows comes when: anti-diagonal by anti-diagonal, in each all
    directions, cells and maps. places: (B H W 4,) int64, where in the buffer each of them stands.
    lengths: n B of each anti-diagonal. splits: for the cells of anti-diagonals and for their neighbours to
    the west, the north and the north-west, how `torch.split` parts the rows of the buffer so that every
    second part, from the second on, belongs to one anti-diagonal.
    """

    rows: int
    waves: Tensor
    places: Tensor
    lengths: tuple[int, ...]
    splits: tuple[tuple[int, ...], ...]


@lru_cache(maxsize=32)
def sweep_order(height: int, width: int, batch: int, device: torch.device) -> Order:
    """The order for B maps of a size."""
    tops = [max(0, s - width + 1) for s in range(height + width - 1)]
    lengths = [min(height - 1, s) - top + 1 for s, top in enumerate(tops)]
    # Rows 0 to 3 are zeros around two anti-diagonals without cells, of which the first ones with cells hear;
    # row 4 is the one before the first anti-diagonal.
    starts = [5 + sum(lengths[:s]) + 2 * s for s in range(len(lengths))]
    rows = starts[-1] + lengths[-1] + 1

    def start_of(s: int, row: int) -> int:
        """Where row `row` of the map stands on anti-diagonal s, or would stand."""
        return starts[s] + row - tops[s] if s >= 0 else 5 + 2 * s + row

    splits = tuple(
        _split(rows, batch, [start_of(s - back, tops[s] - up) for s in range(len(lengths))], lengths)
        for back, up in ((0, 0), (1, 0), (1, 1), (2, 1))
    )
    grid = torch.arange(height * width).view(height, width)
    turned = torch.stack([grid, grid.flip(1), grid.flip(0), grid.flip(0, 1)])  # as if swept to the south-east
    maps, directions = torch.arange(batch), torch.arange(DIRECTIONS).view(-1, 1, 1)
    waves, places = [], torch.empty(batch, height * width, DIRECTIONS, dtype=torch.long)
    for s, (start, length, top) in enumerate(zip(starts, lengths, tops, strict=True)):
        i = torch.arange(top, top + length)
        cells = turned[:, i, s - i][:, :, None]  # (4, n, 1)
        waves.append(((maps * height * width + cells) * DIRECTIONS + directions).flatten())
        rows_there = (start + i - top)[:, None] * batch + maps
        places[maps, cells, directions] = directions * rows * batch + rows_there
    return Order(
        rows * batch,
        torch.cat(waves).to(device),
        places.flatten().to(device),
        tuple(length * batch for length in lengths),
        splits,
    )


def _split(rows: int, batch: int, starts: list[int], lengths: list[int]) -> tuple[int, ...]:
    """Sizes of parts of `rows`, each of B rows: what is before a stretch, a stretch, and so on."""
    sizes, end = [], 0
    for start, length in zip(starts, lengths, strict=True):
        sizes += [start - end, length]
        end = start + length
    return tuple(batch * size for size in (*sizes, rows - end))


class Sweep(torch.autograd.Function):
    """h = f(x + K_d (sum of h of the cell's predecessors)), cell by cell, where x is given (eqs. 1 and 2)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, kernel: Tensor, order: Order, predecessors: int, activation: str
    ) -> Tensor:
        """Sweeps x (B H W 4, D) with K_d (4, D, D), of which a row h gives h K_d; returns h (B H W 4, D)."""
        waves = _by_wave(x.index_select(0, order.waves), order)
        buffer = x.new_zeros(DIRECTIONS, order.rows, x.shape[1])
        own, *before = _stretches(buffer, order, predecessors)
        act, keeps, sums = ACTIVATIONS[activation], any(ctx.needs_input_grad), []
        for cells, a, (first, second, *third) in zip(own, waves, zip(*before, strict=True), strict=True):
            p = first + second
            for other in third:
                p.add_(other)
            act(a.baddbmm_(p, kernel), out=cells)
            if keeps:
                sums.append(p.flatten(0, 1))
        h = buffer.flatten(0, 1).index_select(0, order.places)
        ctx.save_for_backward(h, kernel, *sums)
        ctx.how = order, predecessors, activation
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Sweeps back."""
        h, kernel, *sums = ctx.saved_tensors
        order, predecessors, activation = ctx.how
        slopes = 1 - h * h if activation == "tanh" else (h > 0).to(h.dtype)
        slopes = _by_wave(slopes.index_select(0, order.waves), order)
        buffer = h.new_zeros(DIRECTIONS * order.rows, h.shape[1]).index_copy_(0, order.places, gradient)
        own, *before = _stretches(buffer.view(DIRECTIONS, order.rows, -1), order, predecessors)
        back, of_kernel = kernel.mT.contiguous(), torch.zeros_like(kernel)
        for s in reversed(range(len(own))):
            of_cells = own[s].mul_(slopes[s])
            of_kernel.baddbmm_(sums[s].view_as(of_cells).mT, of_cells)
            of_sum = of_cells @ back
            for stretches in before:
                stretches[s].add_(of_sum)
        return buffer.index_select(0, order.places), of_kernel, None, None, None


def _by_wave(rows: Tensor, order: Order) -> list[Tensor]:
    """Rows (4 H W B, D) in the order of waves as (4, n B, D) for each anti-diagonal."""
    parts = rows.split([DIRECTIONS * length for length in order.lengths])
    return [part.view(DIRECTIONS, -1, rows.shape[1]) for part in parts]


def _stretches(buffer: Tensor, order: Order, predecessors: int) -> list[tuple[Tensor, ...]]:
    """Views (4, n B, D) of the buffer for each anti-diagonal: its cells, then their predecessors."""
    return [buffer.split(sizes, 1)[1::2] for sizes in order.splits[: predecessors + 1]]


class SpatioTemporalRNN(nn.Module):
    """The layer of equations 1 (without a state) and 2, on maps of any size.

    Args:
        in_channels: of the input x.
        hidden: D.
        out_channels: of the output y.
        temporal: whether it has the temporal K, which is zero at first, so that a layer that was trained
            without goes on from what it knows.
        predecessors: 3, with the neighbour across the corner (DAG-RNN's 8-neighbourhood), or 2.
        activation: f, one of ACTIVATIONS.
    """

    def __init__(
        self,
        in_channels: int,
        hidden: int,
        out_channels: int,
        temporal: bool = True,
        predecessors: int = 3,
        activation: str = "tanh",
    ) -> None:
        super().__init__()
        self.hidden, self.predecessors, self.activation = hidden, predecessors, activation
        self.enter = nn.Linear(in_channels, DIRECTIONS * hidden)  # U_d and b_d
        self.space = nn.Parameter(torch.empty(DIRECTIONS, hidden, hidden))  # K_d, transposed
        self.time = nn.Parameter(torch.zeros(hidden, hidden)) if temporal else None  # K, transposed
        self.leave = nn.Linear(DIRECTIONS * hidden, out_channels)  # V_d and c
        # A cell has up to three predecessors, which together should not let the state grow.
        nn.init.normal_(self.space, std=1 / (predecessors * hidden**0.5))

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One frame, or many that do not know of each other.

        Args:
            x: (B, in_channels, H, W).
            state: that of the frame before, of the same size; None for the first frame, and for all frames
                where time does not count.

        Returns:
            y (B, out_channels, H, W), and the state h, (B, H W, 4, D). Both are float32.
        """
        with torch.autocast(x.device.type, enabled=False):  # since rounding would feed back on itself
            return self._swept(x.float(), state)

    def _swept(self, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        batch, _, height, width = x.shape
        rows = self.enter(x.flatten(2).mT).view(-1, self.hidden)
        if state is not None and self.time is not None:
            rows = torch.addmm(rows, state.reshape(-1, self.hidden), self.time)
        order = sweep_order(height, width, batch, x.device)
        h = Sweep.apply(rows, self.space, order, self.predecessors, self.activation)
        h = h.view(batch, height * width, DIRECTIONS, self.hidden)
        return self.leave(h.flatten(2)).mT.unflatten(2, (height, width)), h
