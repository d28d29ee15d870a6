"""Times a training step: ours against the released code's way, at equal weights and batch statistics."""

from functools import partial
from itertools import product

import torch
from torch.optim import Adam

from benchmarks import plain_rvos
from benchmarks.floor import floor
from benchmarks.measure import Row, Setup, Work, alternate
from vos_lightning.data.clips import Clip
from vos_lightning.devices import choose_arithmetic
from vos_lightning.layers.inference import PRECISIONS
from vos_lightning.models.rvos.fields import ClipTraining, MaskStage, RVOSFields
from vos_lightning.models.rvos.module import MaskTraining
from vos_lightning.models.rvos.network import RVOS
from vos_lightning.models.training import Optimisation
from vos_lightning.runs.memory import keep_freed_memory

Size = tuple[int, int]
AGREE = {"fp32": 1e-5, "bf16": 1e-2}  # the first loss, relative to the baseline's


def clips(batch: int, length: int, size: Size) -> Clip:
    """Noise with 1, 2, 3, 1, ... rectangles, counted in ten slots."""
    labels = torch.zeros(batch, length, *size, dtype=torch.uint8)
    weights = torch.zeros(batch, length, plain_rvos.SLOTS)
    for b in range(batch):
        for i in range(b % 3 + 1):
            labels[b, :, size[0] // 4 : size[0] // 2, i * size[1] // 4 : (2 * i + 1) * size[1] // 8] = i + 1
            weights[b, :, i] = 1
    return Clip(torch.randn(batch, length, 3, *size), labels, weights)


def side(kind: str, backbone: str, size: Size, batch: int, bn: str, device: str, precision: str) -> Work:
    """Work that takes a step and returns its loss, as `ours` or `plain`; bf16 is mixed precision on both."""
    choose_arithmetic(tf32=False)
    torch.manual_seed(0)
    model = RVOS(RVOSFields(backbone=backbone, weights="none", bn=bn)).train()
    clip = clips(batch, 5, size)
    clip = Clip(*(x.to(device) for x in clip))
    if kind == "ours":
        keep_freed_memory()
        model = model.to(memory_format=torch.channels_last)
    stages = (MaskStage(epochs=1),)
    task = MaskTraining(model.to(device), ClipTraining(stages=stages), Optimisation())
    optimizer = task.optimizer() if kind == "ours" else Adam(model.parameters(), 1e-3, weight_decay=1e-6)

    def step() -> float:
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            loss = (
                task.clip_loss(clip, "inferred")[0] if kind == "ours" else plain_rvos.clip_loss(model, clip)
            )
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def rows(
    backbone: str = "resnet101",
    size: Size = (128, 224),
    batch: int = 4,
    device: str = "cpu",
    precisions: tuple[str, ...] = ("fp32",),
    repeats: int = 5,
    warmups: int = 3,
    processes: bool = True,
) -> list[Row]:
    """One row for each kind of batch statistics and precision, which both sides share.

    Both sides together fit into 8 GiB at the default size.

    Raises AssertionError if a first loss is off by more than AGREE.
    """
    found = []
    for bn, precision in product(("frame", "frozen"), precisions):
        sides: dict[str, Setup] = {
            kind: partial(side, kind, backbone, size, batch, bn, device, precision)
            for kind in ("ours", "plain")
        }
        times = alternate(sides, repeats, warmups, processes)
        off = abs(times["ours"].result / times["plain"].result - 1)
        assert off < AGREE[precision], f"losses differ by {off}"
        found.append(
            Row(
                f"training step, {device} {precision}, {size[0]}x{size[1]}, batch {batch}, bn {bn}",
                times["ours"],
                times["plain"],
                "5" if device == "cuda" else "1.8",
                f"loss within {off:.1g}",
                floor(sides["ours"](), device, PRECISIONS[precision]),
            )
        )
    return found
