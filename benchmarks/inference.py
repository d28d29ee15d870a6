"""Times the masks of a video from the first one: ours against the released code's way, at equal weights."""

from collections.abc import Iterable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import plain_rvos
from benchmarks.floor import floor
from benchmarks.measure import Row, Setup, Work, alternate
from vos_lightning.data.clips import to_network
from vos_lightning.devices import choose_arithmetic
from vos_lightning.evaluation.propagation import ENCODED_TOGETHER
from vos_lightning.layers.inference import PRECISIONS, for_inference
from vos_lightning.layers.norms import batch_norms
from vos_lightning.models.rvos.fields import MaskPrediction, RVOSFields
from vos_lightning.models.rvos.network import RVOS
from vos_lightning.models.rvos.propagate import MaskPropagation
from vos_lightning.runs.memory import keep_freed_memory

Size = tuple[int, int]
AGREE = {"fp32": 1e-4, "bf16": 0.2}  # masks, 0..1, with those of the baseline, which is in fp32
AGAINST = {"fp32": "", "bf16": " against fp32"}


def network(backbone: str, size: Size) -> RVOS:
    """One-shot RVOS in eval mode with random weights whose masks are neither empty nor flat."""
    torch.manual_seed(0)
    model = RVOS(RVOSFields(backbone=backbone, weights="none"))
    for norm in batch_norms(model):
        norm.momentum = 1.0
    with torch.no_grad():
        model.train().encode(torch.randn(1, 2, 3, *size))  # leaves its statistics behind
    for name, parameter in model.decoder.named_parameters():
        if name.endswith("weight"):
            nn.init.normal_(parameter, std=2 / parameter[0].numel() ** 0.5)
    return model.eval()


def video(frames: int, size: Size, objects: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Frames (H, W, 3) of noise, and ids (H, W) with a rectangle for each object."""
    noise = np.random.default_rng(0).integers(0, 256, (frames, *size, 3), dtype=np.uint8)
    first, width = np.zeros(size, np.uint8), size[1] // objects
    for i in range(objects):
        first[size[0] // 4 : size[0] // 2, i * width : i * width + width // 2] = i + 1
    return list(noise), first


def ready(backbone: str, size: Size, precision: str = "fp32", device: str = "cpu") -> MaskPropagation:
    """The network as `vos-predict` makes it ready to go along videos."""
    model = for_inference(network(backbone, size), precision).to(device)
    return MaskPropagation(model, MaskPrediction(), size, plain_rvos.SLOTS, device)


def ours(backbone: str, size: Size, frames: int, objects: int, precision: str, device: str) -> Work:
    """Work that segments as `vos-predict` does, but without files."""
    choose_arithmetic(tf32=False)
    along = ready(backbone, size, precision, device)
    images, first = video(frames, size, objects)
    keep_freed_memory()
    return lambda: _numpy(along.probabilities(images, {0: first}))


def plain(backbone: str, size: Size, frames: int, objects: int, device: str) -> Work:
    """Work that segments as the released code does, in fp32."""
    choose_arithmetic(tf32=False)
    model = network(backbone, size).to(device)
    images, first = video(frames, size, objects)
    ids = torch.arange(1, plain_rvos.SLOTS + 1)
    masks = (torch.from_numpy(first) == ids.view(-1, 1, 1)).float().to(device)
    return lambda: _numpy(plain_rvos.video(model, to_network(images, size).to(device), masks))


def _numpy(masks: Iterable[Tensor]) -> np.ndarray:
    return torch.stack(list(masks)).cpu().numpy()


def least_time(backbone: str, size: Size, objects: int, precision: str, device: str) -> float:
    """The floor of one frame, seconds; weights are read once for the frames that are encoded together."""
    model = ready(backbone, size, precision, device).network
    frames = torch.randn(1, ENCODED_TOGETHER, 3, *size, device=device)
    masks = torch.rand(1, objects, *size, device=device)
    with torch.no_grad():
        features = model.encode(frames)
        state = model.step(features[0], objects, size, masks, None).state
        encoder = floor(lambda: model.encode(frames), device, PRECISIONS[precision])
        decoder = floor(lambda: model.step(features[1], objects, size, masks, state), device)
    return encoder / ENCODED_TOGETHER + decoder


def rows(
    backbone: str = "resnet101",
    size: Size = (256, 448),
    frames: int = 20,
    objects: tuple[int, ...] = (1, 3, 5),
    device: str = "cpu",
    repeats: int = 5,
    processes: bool = True,
) -> list[Row]:
    """One row for each precision and number of objects, against fp32 without TF32.

    Raises AssertionError if masks are off by more than AGREE.
    """
    found = []
    for count in objects:
        sides: dict[str, Setup] = {
            precision: partial(ours, backbone, size, frames, count, precision, device)
            for precision in PRECISIONS
        }
        sides["plain"] = partial(plain, backbone, size, frames, count, device)
        times = alternate(sides, repeats, processes=processes)
        expected = times["plain"].result[:, :count]
        for precision, targets in (("fp32", {3: "1.8"}), ("bf16", {3: "4"})):
            off = float(np.abs(times[precision].result - expected).max())
            assert off < AGREE[precision], f"masks differ by {off}"
            found.append(
                Row(
                    f"inference, {device} {precision}{AGAINST[precision]}, {frames} frames, "
                    f"{count} object{'s'[: count > 1]}",
                    times[precision],
                    times["plain"],
                    "10" if device == "cuda" else targets.get(count, ""),
                    f"masks within {off:.1g}",
                    frames * least_time(backbone, size, count, precision, device),
                )
            )
    return found
