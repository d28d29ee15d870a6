"""Online learning of S2S: the network is tuned to a video's first frame before it segments the rest.

From the first frame and its masks, possible later frames are made by moving the objects and the background on
their own (Xu et al. 2018, section 4.2); initialiser, encoder and decoder learn the pairs, the ConvLSTM stays.

Shapes: O objects, H W pixels of the network's input.
"""

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Adam

from vos_lightning.data.clips import Augmentation, to_network
from vos_lightning.data.images import resize_labels
from vos_lightning.devices import upload
from vos_lightning.models.s2s.fields import OnlineFields
from vos_lightning.models.s2s.module import unroll
from vos_lightning.models.s2s.network import S2S

OBJECT = Augmentation(flip=0, rotation=15, translation=0.1, shear=5, zoom=(0.85, 1.2))
BACKGROUND = Augmentation(flip=0, rotation=5, translation=0.05, shear=2, zoom=(1.0, 1.1))


def tune(
    model: S2S,
    frame: np.ndarray,
    mask: np.ndarray,
    size: tuple[int, int],
    learning: OnlineFields,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> S2S:
    """A copy of the network tuned to a frame; `model` itself stays as it is.

    Args:
        model: as `for_inference` gives it, so that no batch statistics move.
        frame: (h, w, 3) uint8 RGB.
        mask: ids (h, w) uint8 of the objects there.
        size: (H, W).
        learning: see `OnlineFields`.
        seed: decides the pairs.
        device: where the model is.

    Returns:
        The copy; `model` itself where the mask has no object.
    """
    labels = torch.from_numpy(np.array(resize_labels(mask, size)))
    objects = torch.stack([labels == i for i in labels.unique() if i]) if labels.any() else labels[:0]
    if not len(objects):
        return model
    tuned = copy.deepcopy(model)
    parts = [part for part in (tuned.initializer, tuned.encoder, tuned.decoder) if part is not None]
    learnt = [p for part in parts for p in part.parameters() if p.requires_grad]  # no frozen DeepLab
    parameters = list(dict.fromkeys(learnt))  # a merged encoder is the initialiser too
    tuned.requires_grad_(False)
    for parameter in parameters:
        parameter.requires_grad_()
    optimizer = Adam(parameters, lr=learning.lr)
    first, rng = to_network([frame], size)[0], np.random.default_rng(seed)
    scene = fill(first, objects.any(0))
    given = objects.float().expand(learning.pairs, -1, -1, -1).to(device)
    with torch.inference_mode(False), torch.enable_grad():
        for _ in range(learning.steps):
            made = [possible_frame(first, objects, scene, rng) for _ in range(learning.pairs)]
            clips = torch.stack([torch.stack([first, later]) for later, _ in made])
            truth = torch.stack([masks for _, masks in made]).float()
            clips, truth = upload(clips, device), upload(truth, device)
            loss = F.binary_cross_entropy_with_logits(unroll(tuned, clips, given)[0], truth)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return tuned


def possible_frame(
    frame: Tensor, objects: Tensor, scene: Tensor, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """A frame (3, H, W) as it might go on, and its masks (O, H, W) bool.

    Each object of `objects` (O, H, W) bool moves on its own, in a random order of depth, over the moved
    `scene` (3, H, W), the frame without objects.
    """
    blank = torch.zeros(1, *frame.shape[1:], dtype=torch.uint8)
    later = BACKGROUND(scene[None], blank, rng)[0][0]
    masks = torch.zeros_like(objects)
    for i in rng.permutation(len(objects)):
        colours, alpha = OBJECT(frame[None], objects[i, None].byte(), rng)
        moved = alpha[0] > 0
        later = torch.where(moved, colours[0], later)
        masks = masks & ~moved
        masks[i] = moved
    return later, masks


def fill(frame: Tensor, hole: Tensor) -> Tensor:
    """A frame (3, H, W) whose `hole` (H, W) bool takes smooth colours from around it.

    Colours are averaged over ever larger blocks of known pixels; a pixel takes those of the smallest block
    that knows any.
    """
    known = (~hole).float()[None, None]
    weighted, filled, missing = frame[None] * known, frame[None] * known, hole
    for scale in range(1, int(max(hole.shape)).bit_length() + 1):
        block = 2**scale
        share = F.avg_pool2d(known, block, ceil_mode=True, count_include_pad=False)
        mean = F.avg_pool2d(weighted, block, ceil_mode=True, count_include_pad=False) / share.clamp(min=1e-6)
        mean, share = (F.interpolate(x, size=hole.shape, mode="nearest") for x in (mean, share))
        now = missing & (share[0, 0] > 0)
        filled, missing = torch.where(now, mean, filled), missing & ~now
    smooth = F.avg_pool2d(filled, 5, stride=1, padding=2, count_include_pad=False)
    return torch.where(hole, smooth, frame[None])[0]
