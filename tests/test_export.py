"""torch.export takes the networks as they segment videos, and what it gives computes the same."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from helpers import NETWORKS
from vos_lightning.layers.inference import for_inference
from vos_lightning.models.rvos.network import RVOS
from vos_lightning.models.s2s.network import S2S

SIZE, SLOTS = (64, 96), 2


class Call(nn.Module):
    """A network with one of its functions as forward."""

    def __init__(self, network: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.network, self.function = network, function

    def forward(self, *inputs: Any) -> Any:
        return self.function(self.network, *inputs)


def exported(network: nn.Module, function: Callable[..., Any], *inputs: Any) -> Any:
    """What a function of the network gives, after the exported one has given the same for the same inputs."""
    expected = function(network, *inputs)
    program = torch.export.export(Call(network, function), inputs)
    torch.testing.assert_close(program.module()(*inputs), expected)
    return expected


def ready(name: str) -> Any:
    torch.manual_seed(0)
    return for_inference(NETWORKS[name]("shufflenet_v2_x0_5").eval())


@pytest.mark.parametrize("name", ["rvos", "stesa_gru"])
@torch.no_grad()
def test_rvos(name: str) -> None:
    network = ready(name)
    previous = torch.rand(1, SLOTS, *SIZE)

    def step(network: RVOS, *inputs: Any) -> tuple:
        return tuple(network.step(inputs[0], SLOTS, SIZE, *inputs[1:]))

    features = exported(network, RVOS.encode, torch.randn(1, 2, 3, *SIZE))
    _, state, _ = exported(network, step, features[0], previous, None)
    exported(network, step, features[1], previous, state)


@pytest.mark.parametrize("name", ["s2s-previous_mask", "s2s_video"])
@torch.no_grad()
def test_s2s(name: str) -> None:
    network, masks = ready(name), torch.rand(1, SLOTS, *SIZE)
    frames = torch.randn(1, 2, 3, *SIZE)
    state = exported(network, S2S.start, frames[:, 0], masks)
    reads = exported(network, S2S.read, exported(network, S2S.encode, frames))
    _, hidden = exported(network, S2S.advance, reads[1], state, masks)
    exported(network, lambda network, hidden: network.decode(hidden, SIZE), hidden)
