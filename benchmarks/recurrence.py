"""Times the spatio-temporal RNN: by anti-diagonals against a loop over cells, directions batched."""

from functools import partial

import torch
from torch import Tensor

from benchmarks.measure import Row, Setup, Work, alternate
from vos_lightning.layers.dag_rnn import DIRECTIONS, SpatioTemporalRNN
from vos_lightning.runs.memory import keep_freed_memory

CHANNELS = 64


class ByCell(SpatioTemporalRNN):
    """The layer as equation 1 reads: cell by cell, a matrix product for its input and each predecessor."""

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See `SpatioTemporalRNN.forward`, for the first frame."""
        height, width = x.shape[2:]
        enter = self.enter.weight.unflatten(0, (DIRECTIONS, -1)).mT
        bias = self.enter.bias.view(DIRECTIONS, 1, -1)
        leave = self.leave.weight.unflatten(1, (DIRECTIONS, -1)).permute(1, 2, 0)
        turned = torch.stack([x, x.flip(3), x.flip(2), x.flip(2, 3)])
        cells = [line.unbind(3) for line in turned.unbind(3)]
        h: list[list[Tensor]] = [[] for _ in cells]
        y: list[list[Tensor]] = [[] for _ in cells]
        for i in range(height):
            for j in range(width):
                a = cells[i][j] @ enter + bias
                for y0, x0 in ((i - 1, j), (i, j - 1), (i - 1, j - 1)):
                    if y0 >= 0 and x0 >= 0:
                        a = a + h[y0][x0] @ self.space
                h[i].append(torch.tanh(a))
                y[i].append(h[i][j] @ leave)
        maps = torch.stack([torch.stack(line, 3) for line in y], 3)
        found = maps[0] + maps[1].flip(3) + maps[2].flip(2) + maps[3].flip(2, 3)
        return found + self.leave.bias.view(-1, 1, 1), found


def sweep(layer: type[SpatioTemporalRNN], hidden: int, size: tuple[int, int], learns: bool) -> Work:
    """Work that runs a layer on one map in one thread; it returns y, or with `learns` a gradient."""
    torch.set_num_threads(1)
    if layer is SpatioTemporalRNN:
        keep_freed_memory()
    torch.manual_seed(0)
    made = layer(CHANNELS, hidden, CHANNELS).requires_grad_(learns)
    x = torch.randn(1, CHANNELS, *size)

    def work() -> Tensor:
        with torch.inference_mode(not learns):
            y = made(x)[0]
        return torch.autograd.grad(y.square().sum(), next(iter(made.parameters())))[0] if learns else y

    return work


def rows(
    hiddens: tuple[int, ...] = (64, 256),
    size: tuple[int, int] = (32, 56),
    repeats: int = 7,
    processes: bool = True,
) -> list[Row]:
    """Two rows for each hidden size. Raises AssertionError if results differ."""
    found = []
    for hidden in hiddens:
        for learns in (False, True):
            sides: dict[str, Setup] = {
                name: partial(sweep, layer, hidden, size, learns)
                for name, layer in (("ours", SpatioTemporalRNN), ("plain", ByCell))
            }
            times = alternate(sides, repeats, warmups=2, processes=processes)
            ours, plain = times["ours"], times["plain"]
            torch.testing.assert_close(ours.result, plain.result, atol=1e-4, rtol=1e-4)
            how = "forward and backward" if learns else "forward"
            case = f"spatio-temporal RNN, {size[0]}x{size[1]}, hidden {hidden}, one thread, {how}"
            found.append(Row(case, ours, plain, "50" if hidden == 64 else "", "equal within 1e-4"))
    return found
