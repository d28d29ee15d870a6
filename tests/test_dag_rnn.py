"""The spatio-temporal RNN layer beside a loop over its cells that follows equations 1 and 2 word by word."""

import pytest
import torch
from torch import Tensor

from vos_lightning.layers.dag_rnn import SpatioTemporalRNN

# The way of each direction, down and to the right, and the name of its index.
WAYS = ((1, 1), (1, -1), (-1, 1), (-1, -1))


def by_cell(layer: SpatioTemporalRNN, x: Tensor, states: dict | None) -> tuple[Tensor, dict]:
    """y of one frame x (B, C, H, W) and h by direction and cell."""
    height, width = x.shape[2:]
    act = getattr(torch, layer.activation)
    weights, biases = layer.enter.weight.chunk(4), layer.enter.bias.chunk(4)
    leave = layer.leave.weight.chunk(4, 1)
    h: dict = {}
    y = torch.zeros(len(x), len(layer.leave.bias), height, width, dtype=x.dtype) + layer.leave.bias.view(
        1, -1, 1, 1
    )
    for d, (down, right) in enumerate(WAYS):
        for i in range(height)[::down]:
            for j in range(width)[::right]:
                a = x[:, :, i, j] @ weights[d].T + biases[d]
                before = [(i - down, j), (i, j - right), (i - down, j - right)][: layer.predecessors]
                for cell in before:
                    if (d, *cell) in h:
                        a = a + h[(d, *cell)] @ layer.space[d]
                if states is not None and layer.time is not None:
                    a = a + states[d, i, j] @ layer.time
                h[d, i, j] = act(a)
                place = torch.zeros(height, width, dtype=x.dtype)
                place[i, j] = 1
                y = y + (h[d, i, j] @ leave[d].T)[..., None, None] * place
    return y, h


def made(**options: object) -> SpatioTemporalRNN:
    torch.manual_seed(0)
    layer = SpatioTemporalRNN(3, 5, 4, **options)  # type: ignore[arg-type]
    if layer.time is not None:
        torch.nn.init.normal_(layer.time, std=0.3)
    torch.nn.init.normal_(layer.space, std=0.3)
    return layer


@pytest.mark.parametrize("size", [(1, 6), (6, 1), (3, 5), (5, 3), (4, 4)])
@pytest.mark.parametrize(
    "options",
    [{}, {"predecessors": 2}, {"temporal": False}, {"activation": "relu"}],
    ids=lambda options: " ".join(map(str, options.values())) or "default",
)
def test_it_equals_a_loop_over_cells_with_its_gradients(size: tuple[int, int], options: dict) -> None:
    layer = made(**options)
    frames = torch.randn(3, 2, 3, *size, requires_grad=True)
    weight = torch.randn(3, 2, 4, *size)
    found, state, states = [], None, None
    truth = []
    for x in frames:
        y, state = layer(x, state)
        found.append(y)
        y, states = by_cell(layer, x, states)
        truth.append(y)
    torch.testing.assert_close(torch.stack(found), torch.stack(truth), atol=1e-5, rtol=1e-5)
    wanted = [frames, *layer.parameters()]
    ours, theirs = (torch.autograd.grad((torch.stack(ys) * weight).sum(), wanted) for ys in (found, truth))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_one_pass_of_many_frames_equals_passes_of_one() -> None:
    layer, frames = made(), torch.randn(4, 3, 6, 7)
    together, _ = layer(frames)
    alone = torch.cat([layer(frame[None])[0] for frame in frames])
    torch.testing.assert_close(together, alone)


def test_the_state_does_not_grow_over_300_frames() -> None:
    torch.manual_seed(0)
    layer = SpatioTemporalRNN(3, 16, 4, activation="relu")  # which, unlike tanh, has no bound
    with torch.no_grad():
        assert layer.time is not None
        layer.time.copy_(0.3 * torch.linalg.qr(torch.randn(16, 16))[0])
        state, norms = None, []
        for _ in range(300):
            _, state = layer(torch.randn(1, 3, 12, 14), state)
            norms.append(float(state.norm()))
    assert max(norms[150:]) < 1.5 * max(norms[10:60])
