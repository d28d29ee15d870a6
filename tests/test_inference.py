"""Models made ready for videos give the masks of the models they come from."""

import pytest
import torch
from torch import Tensor, nn

from helpers import along, boxes, noise, small_rvos
from vos_lightning.errors import InputError
from vos_lightning.layers.inference import for_inference
from vos_lightning.layers.norms import batch_norms
from vos_lightning.models.rvos.network import RVOS

SIZE = (70, 102)  # no multiple of 4


def trained(**fields) -> RVOS:
    """A network in eval mode with running statistics that differ from channel to channel."""
    torch.manual_seed(0)
    model = small_rvos(**fields).eval()
    for norm in batch_norms(model):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.1)
        nn.init.normal_(norm.running_mean, std=0.1)
        nn.init.uniform_(norm.running_var, 0.5, 1.5)
    return model


def video(model: RVOS) -> Tensor:
    """Soft masks (T, O, H, W) of six frames of noise, two objects given."""
    first = boxes((1, 10, 10, 30, 30), (2, 30, 50, 30, 40), size=SIZE)
    return torch.stack(list(along(model, SIZE).probabilities(noise(6, SIZE), {0: first})))


@pytest.mark.parametrize("bn", ["clip", "frame", "frozen"])
@pytest.mark.parametrize("backbone", ["resnet18", "resnet50", "vgg16", "shufflenet_v2_x0_5"])
def test_folding_changes_rounding_alone(backbone: str, bn: str) -> None:
    model = trained(backbone=backbone, bn=bn, nonlocal_position="res4")
    ready = for_inference(model)
    assert not batch_norms(ready)
    torch.testing.assert_close(video(ready), video(model), rtol=0, atol=1e-5)


def test_the_model_can_be_trained_on() -> None:
    model = trained()
    before = {name: value.clone() for name, value in model.train().state_dict().items()}
    for_inference(model)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_bf16_is_close() -> None:
    model = trained()
    difference = (video(for_inference(model, "bf16")) - video(model)).abs()
    assert 0 < difference.max() < 0.05


def test_an_unknown_precision_is_named() -> None:
    with pytest.raises(InputError, match=r"predict.precision=fp8.*fp32 or bf16"):
        for_inference(trained(), "fp8")
