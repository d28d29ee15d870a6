"""Training steps, videos and restarts on a CUDA device against a CPU, with TF32 off; skipped without one.

Sums of some hundred thousand products in another order differ by about 1e-5 of their size; ten times that is
allowed of losses and masks, a hundred times of gradients and of weights after some steps of Adam.
"""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from helpers import NETWORKS, along, boxes, noise, noise_clip, task
from vos_lightning.configuration import compose_train
from vos_lightning.data.clips import Clip
from vos_lightning.devices import choose_arithmetic
from vos_lightning.layers.inference import for_inference
from vos_lightning.layers.norms import batch_norms
from vos_lightning.layers.weights import read_model_weights
from vos_lightning.models.rvos.network import RVOS
from vos_lightning.models.s2s.network import S2S
from vos_lightning.models.training import TrainingModule
from vos_lightning.runs.train import train

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

SIZE = (64, 96)
GIVEN = boxes((1, 0, 0, 20, 40), (2, 30, 50, 30, 46), size=SIZE)


@pytest.fixture(autouse=True)
def exact():
    choose_arithmetic(tf32=False)


def built(name: str) -> RVOS | S2S:
    torch.manual_seed(0)
    return NETWORKS[name]("shufflenet_v2_x0_5").to(memory_format=torch.channels_last)


def step(model: RVOS | S2S, device: str) -> tuple[Tensor, Tensor]:
    """The loss of two clips of three frames and the gradients of all parameters, in main memory."""
    model = copy.deepcopy(model).to(device).train()
    clip = Clip(*(x.to(device) for x in noise_clip(GIVEN, 3)))
    if isinstance(model, S2S):
        clip = clip._replace(labels=(clip.labels == 1).to(torch.uint8))
    loss = task(model).clip_loss(clip, *(["inferred"] if isinstance(model, RVOS) else []))[0]
    loss.backward()
    gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return loss.detach().cpu(), torch.cat(gradients).cpu()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_is_that_of_a_cpu(name: str) -> None:
    model = built(name)
    (loss, gradient), (expected, gradient_there) = step(model, "cuda"), step(model, "cpu")
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=0)
    assert (gradient - gradient_there).norm() < 1e-3 * gradient_there.norm()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_video_is_that_of_a_cpu(name: str) -> None:
    model = built(name).eval()
    for norm in batch_norms(model):
        norm.running_var.fill_(0.1)  # keeps features from vanishing
    frames = noise(6, SIZE)
    masks = [
        torch.stack([m.cpu() for m in along(ready, SIZE, device=device).probabilities(frames, {0: GIVEN})])
        for device in ("cuda", "cpu")
        for ready in [for_inference(model).to(device)]
    ]
    torch.testing.assert_close(*masks, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["rvos", "stesa_gru", "s2s"])
def test_a_restart_ends_where_an_uninterrupted_run_does(name: str, tmp_path: Path) -> None:
    cfg = [f"model={name}", "scale=embedded", "model.hidden=16", "data.size=[64,96]", "data.batch_size=2"]
    cfg += [f"data.cache={tmp_path}", f"run.frame_cache={tmp_path}/frames", "run.accelerator=cuda"]
    cfg += ["train.stages=[{epochs: 3}]", "data.val_clips=2"]
    if name == "s2s":
        cfg += ["data=synthetic_youtube", "data.samples=4"]
    else:
        cfg += [f"data.spec.{key}" for key in ("train=4", "val=2", "test=2", "frames=10")]
    whole, broken = (compose_train([*cfg, f"run.dir={tmp_path}/{run}"]) for run in ("whole", "broken"))
    train(whole)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(RuntimeError, match="interrupted"):
        patch.setattr(TrainingModule, "on_train_epoch_start", interrupt_at_epoch_1)
        train(broken)
    assert train(broken)["device"] == torch.cuda.get_device_name()
    there, here = (read_model_weights(tmp_path / run / "last.ckpt") for run in ("whole", "broken"))
    for key, weight in there.items():
        torch.testing.assert_close(here[key], weight, rtol=1e-3, atol=1e-3)


def interrupt_at_epoch_1(task: TrainingModule) -> None:
    if task.current_epoch == 1:
        raise RuntimeError("interrupted")
