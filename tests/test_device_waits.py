"""How often the host waits for a CUDA device, counted without one.

Fake tensors have a device and no values: an operation that needs a value on the host, or tensors of two
devices, fails. What copies between the devices is counted.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from helpers import NETWORKS, along, boxes, noise_clip, task
from vos_lightning.data.clips import Clip
from vos_lightning.evaluation import propagation
from vos_lightning.evaluation.propagation import ENCODED_TOGETHER
from vos_lightning.models.rvos.network import RVOS
from vos_lightning.models.s2s import propagate
from vos_lightning.models.s2s.network import S2S

SIZE = (64, 96)
GIVEN = boxes((1, 0, 0, 20, 96), (2, 30, 0, 10, 96), size=SIZE)
BACKBONE = "resnet18"  # few operations


class Waits(TorchDispatchMode):
    """Counts what makes the host wait if the tensors are on a device; here they are in main memory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.count = 0
        for name in ("cpu", "tolist"):
            monkeypatch.setattr(Tensor, name, self.counted(getattr(Tensor, name)))

    def counted(self, method):
        def call(*args):
            self.count += 1
            return method(*args)

        return call

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket in (torch.ops.aten.nonzero, torch.ops.aten._local_scalar_dense):
            self.count += 1
        if func.overloadpacket in (torch.ops.aten.index, torch.ops.aten.index_put_):
            self.count += any(i is not None and i.dtype == torch.bool for i in args[1])
        return func(*args, **(kwargs or {}))


class Copies(TorchDispatchMode):
    """Counts operations whose result lies on another device than an argument."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        given = {x.device.type for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor) and x.dim()}
        for x in tree_leaves(out):
            if isinstance(x, Tensor) and given - {x.device.type}:
                self.count[f"to {x.device.type}"] += 1
        return out


@contextmanager
def pretended_gpu(model: Callable[[], RVOS | S2S]) -> Iterator[tuple[RVOS | S2S, Copies]]:
    """A model on a device that is not there, and the copies that follow."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        with torch.device("cuda"):
            made = model()
        with Copies() as copies:
            yield made, copies


@pytest.mark.parametrize("name", ["stesa_gru", "s2s-previous_mask", "s2s_video"])
def test_a_video_waits_for_its_frames_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(propagation, "to_network", lambda frames, size: torch.zeros(len(frames), 3, *size))
    for module in (propagation, propagate):
        monkeypatch.setattr(module, "upload", lambda x, device: x.to(device))
    frames, counts = [np.zeros((*SIZE, 3), np.uint8)] * (2 * ENCODED_TOGETHER), []
    with pretended_gpu(lambda: NETWORKS[name](BACKBONE).eval()) as (model, copies):
        for masks in along(model, SIZE, slots=2, device="cuda").probabilities(frames, {0: GIVEN}):
            assert masks.device.type == "cuda" and not copies.count["to cpu"]
            counts.append(copies.count["to cuda"])
    if name == "s2s_video":  # reads the whole video before the first mask
        assert len(set(counts[1:])) == 1
    else:  # frames are encoded together
        assert len(set(counts[1:ENCODED_TOGETHER])) == 1
        assert counts[ENCODED_TOGETHER:] == [counts[1] + 1] * ENCODED_TOGETHER


@pytest.mark.parametrize("name", NETWORKS)
def test_a_clip_does_not_wait_for_its_frames(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []
    for frames in (2, 4):
        validated, batch = task(NETWORKS[name](BACKBONE)), noise_clip(GIVEN, frames)
        monkeypatch.setattr(validated, "log_mean", lambda *_: None)
        with monkeypatch.context() as patch, torch.no_grad(), Waits(patch) as waits:
            validated.validation_step(batch, 0)
        counts.append(waits.count)
    assert counts[0] == counts[1] < 9


@pytest.mark.parametrize("name", ["stesa_gru", "s2s-previous_mask"])
def test_a_steps_loss_is_found_on_the_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Clip, "slots_in_use", lambda _: 2)
    trained = task(NETWORKS[name](BACKBONE))  # whose metric cannot be made of fake tensors
    with pretended_gpu(lambda: NETWORKS[name](BACKBONE)) as (model, copies):
        batch = Clip(*(x.to("cuda") for x in noise_clip(GIVEN, 2)))
        before = copies.count.total()
        trained.model = model
        loss, masks = trained.clip_loss(batch, *(["inferred"] if isinstance(model, RVOS) else []))
    assert loss.device.type == masks.device.type == "cuda" and copies.count.total() == before == 3


@pytest.mark.parametrize("rule", ["painter", "argmax"])
def test_masks_leave_the_device_a_few_frames_at_once(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, counts = NETWORKS["rvos"](BACKBONE).eval(), []
    for chunks in (1, 3):
        frames = [np.zeros((*SIZE, 3), np.uint8)] * (chunks * ENCODED_TOGETHER)
        with monkeypatch.context() as patch, Waits(patch) as waits:
            assert len(list(along(model, SIZE, merge=rule).masks(frames, {0: GIVEN}))) == len(frames)
        counts.append(waits.count)
    assert counts[1] - counts[0] == 2
