"""What several files of tests share: masks, frames and videos made here, and small networks."""

import itertools
import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from vos_lightning.data.clips import Clip
from vos_lightning.data.images import write_mask
from vos_lightning.data.videos import Video, video_of
from vos_lightning.layers.recurrence import SequenceConvLSTM
from vos_lightning.models.rvos.fields import ClipTraining, MaskPrediction, MaskStage, RVOSFields
from vos_lightning.models.rvos.module import MaskTraining
from vos_lightning.models.rvos.network import RVOS
from vos_lightning.models.rvos.propagate import MaskPropagation
from vos_lightning.models.s2s.fields import ObjectPrediction, ObjectStage, ObjectTraining, S2SFields
from vos_lightning.models.s2s.module import StateTraining, unroll
from vos_lightning.models.s2s.network import S2S
from vos_lightning.models.s2s.propagate import StatePropagation
from vos_lightning.models.training import Optimisation

# --- masks, frames, videos -------------------------------------------------------------------------------


def boxes(*objects: tuple[int, int, int, int, int], size: tuple[int, int]) -> np.ndarray:
    """A mask (H, W) uint8 that holds, for each (id, y, x, height, width), that box."""
    mask = np.zeros(size, np.uint8)
    for i, y, x, height, width in objects:
        mask[y : y + height, x : x + width] = i
    return mask


def columns(*ids: int, size: tuple[int, int]) -> np.ndarray:
    """A mask (H, W) uint8 whose columns hold the ids in turn."""
    return np.resize(np.array(ids, np.uint8), size)


def noise(frames: int, size: tuple[int, int]) -> list[np.ndarray]:
    """Frames (H, W, 3) uint8, the same at each call."""
    return list(np.random.default_rng(0).integers(0, 256, (frames, *size, 3), dtype=np.uint8))


def written(folder: Path, frames: list[np.ndarray], masks: dict[int, np.ndarray]) -> Video:
    """The video of these frames and masks, its files in a new folder of its name."""
    folder.mkdir()
    paths = tuple(folder / f"{t:05d}.png" for t in range(len(frames)))
    for path, frame in zip(paths, frames, strict=True):
        Image.fromarray(frame).save(path)
    for t, mask in masks.items():
        write_mask(folder / f"mask{t}.png", mask)
    found = tuple(folder / f"mask{t}.png" if t in masks else None for t in range(len(frames)))
    return video_of(folder.name, paths, found)


SCENE = (48, 64)


def scene(t: int) -> np.ndarray:
    """Two objects, of which the first grows up to frame 2 and the second comes in frame 1."""
    return boxes((1, 4, 4 + 3 * t, 16 + 4 * min(t, 2), 20), (2, 28, 40 - t, 14, 18 * (t > 0)), size=SCENE)


def moving(folder: Path, annotated: tuple[int, ...] = (0, 1, 2, 3), frames: int = 4) -> Video:
    """A video of that scene, each id in a colour of its own with some noise."""
    colours = np.array([[40, 60, 40], [200, 60, 40], [40, 60, 200]])
    rng = np.random.default_rng(0)
    pictures = [
        (colours[scene(t)] + rng.integers(-9, 10, (*SCENE, 3))).astype(np.uint8) for t in range(frames)
    ]
    return written(folder, pictures, {t: scene(t) for t in annotated})


# --- a small network of each kind, and what trains it ----------------------------------------------------


SMALL: dict[str, Any] = {"backbone": "shufflenet_v2_x0_5", "weights": "none", "hidden": 16}


def small_rvos(backbone: str = "shufflenet_v2_x0_5", **fields: Any) -> RVOS:
    """A small network of random weights."""
    return RVOS(RVOSFields(**(SMALL | {"backbone": backbone} | fields)))


def tiny_s2s(backbone: str, **fields: Any) -> S2S:
    """The same of S2S."""
    return S2S(S2SFields(backbone=backbone, weights="none", fc6=False, hidden=16, **fields))


NETWORKS: dict[str, Callable[[str], RVOS | S2S]] = {  # by the backbone's name
    "rvos": small_rvos,
    "rvos_zero_shot": lambda b: small_rvos(b, mask_input=False),
    "stesa_gru": lambda b: small_rvos(b, cell="gru", nonlocal_position="res4", auxiliary=True),
    "s2s": tiny_s2s,
    "s2s-previous_mask": lambda b: tiny_s2s(b, encoder="previous_mask"),
    "s2s_video": lambda b: tiny_s2s(b, video="clip", mask_entry="unit"),
}


@overload
def task(model: RVOS, *stages: MaskStage, **training: Any) -> MaskTraining: ...


@overload
def task(model: S2S) -> StateTraining: ...


def task(model: RVOS | S2S, *stages: MaskStage, **training: Any) -> MaskTraining | StateTraining:
    """What trains a network, in one stage of one epoch if no others are given."""
    if isinstance(model, S2S):
        return StateTraining(model, ObjectTraining(stages=(ObjectStage(epochs=1),)), Optimisation())
    fields = ClipTraining(stages=stages or (MaskStage(epochs=1),), **training)
    return MaskTraining(model, fields, Optimisation())


def along(
    model: RVOS | S2S, size: tuple[int, int], slots: int = 10, device: str = "cpu", **prediction: Any
) -> MaskPropagation | StatePropagation:
    """A network that is ready to go along videos at a size (H, W), with fields of its prediction."""
    if isinstance(model, S2S):
        return StatePropagation(model, ObjectPrediction(**prediction), size, device=device)
    return MaskPropagation(model, MaskPrediction(**prediction), size, slots, device)


def noise_clip(mask: np.ndarray, frames: int) -> Clip:
    """Two clips of noise, with the objects 1 and 2 where the mask (H, W) says in every frame."""
    labels = torch.from_numpy(mask).expand(2, frames, *mask.shape).contiguous()
    weights = torch.zeros(2, frames, 5)
    weights[..., :2] = 1
    generator = torch.Generator().manual_seed(1)
    return Clip(torch.randn(2, frames, 3, *mask.shape, generator=generator), labels, weights)


# --- weights that a name decides ---------------------------------------------------------------------------


def official_tensor(key: str, shape: tuple[int, ...]) -> Tensor:
    """A tensor of an official state dict that its name decides, as tests/fixtures were made with."""
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    if key.endswith("num_batches_tracked"):
        return torch.tensor(0)
    if key.endswith("running_var"):
        return torch.from_numpy((1 + 0.2 * rng.random(shape)).astype(np.float32))
    x = rng.standard_normal(shape)
    if key.endswith("running_mean"):
        x = 0.1 * x
    elif len(shape) >= 2:
        x = (4 if "Gates" in key or "conv_out" in key else 1) * x / math.sqrt(math.prod(shape[1:]))
    else:
        x = 1 + 0.1 * x if key.endswith("weight") else 0.1 * x
    return torch.from_numpy(x.astype(np.float32))


# --- S2S -------------------------------------------------------------------------------------------------

S2S_SIZE = (32, 64)
SMALL_S2S: dict[str, Any] = {
    "backbone": "shufflenet_v2_x0_5",
    "weights": "none",
    "level": "res3",
    "fc6": False,
    "hidden": 32,
    "deeplab_network": "deeplabv3_mobilenet_v3_large",
    "deeplab_weights": "none",
    "size": list(S2S_SIZE),
}


def small_s2s(seed: int = 0, **fields) -> S2S:
    """A small network whose peepholes, if any, are open."""
    torch.manual_seed(seed)
    model = S2S(S2SFields(**(SMALL_S2S | fields)))
    for part in model.modules():
        if isinstance(part, SequenceConvLSTM) and part.peepholes is not None:
            nn.init.normal_(part.peepholes)
    return model


def s2s_clip(seed: int = 0, frames: int = 4, objects: int = 2) -> tuple[Tensor, Tensor]:
    """Noise (2, T, 3, H, W) and a rectangle for each object of its first frame, (2, O, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    masks = torch.zeros(2, objects, *S2S_SIZE)
    for b, o in itertools.product(range(2), range(objects)):
        masks[b, o, 4 + 3 * b : 24, 20 * o : 16 + 20 * o] = 1
    return torch.randn(2, frames, 3, *S2S_SIZE, generator=generator), masks


def ready_s2s(seed: int = 0, **fields) -> S2S:
    """The same in eval mode, drawn so that every input shows in the masks, with statistics of noise."""
    model = small_s2s(seed, **fields).train()
    for name, part in model.named_modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d) and "backbone" not in name:
            nn.init.kaiming_normal_(part.weight)
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 1.0
    with torch.no_grad():
        unroll(model, *s2s_clip(99))
    return model.eval()


def s2s_box(left: int, number: int = 1) -> np.ndarray:
    """A mask (H, W) uint8 at the small network's size of an object with this number."""
    return boxes((number, 6, left, 20, 16), size=S2S_SIZE)


def name_of(fields: dict[str, Any]) -> str:
    """The name of a test that is run with these fields of a network."""
    return "-".join(f"{key}={value}" for key, value in fields.items()) or "base"
