"""RVOS as its released code runs it (Ventura et al. 2019): the baseline of inference and training.

Frame by frame; every frame decodes ten slots, object after object and level after level; a gate is one
convolution on the whole concatenation; memory is laid out NCHW. It reads the parameters of an `RVOS` with
LSTM cells, so both sides have the same weights.

Shapes: B batch, T frames, O object slots, H W pixels of the network's input.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vos_lightning.data.clips import Clip
from vos_lightning.layers.losses import soft_iou_cost, weighted_mean
from vos_lightning.layers.pyramid import Features
from vos_lightning.models.rvos.network import RVOS

SLOTS = 10

Hidden = list[tuple[Tensor, Tensor]]  # hidden and cell state of each level


def _resize(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=True)


def _cell(
    conv: Any, inputs: list[Tensor], spatial: tuple[Tensor, Tensor] | None, temporal: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Updates the ConvLSTM of one object at one level; a state that is missing is zeros."""
    batch, _, height, width = inputs[0].shape
    zeros = inputs[0].new_zeros(batch, conv.out_channels // 4, height, width)
    hidden, cell = spatial or (zeros, zeros)
    stacked = torch.cat([*inputs, hidden, zeros if temporal is None else temporal], 1)
    i, f, o, g = conv(stacked).chunk(4, 1)
    cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(cell), cell


def _object(
    model: RVOS, features: Features, mask: Tensor, spatial: Hidden | None, temporal: Hidden | None
) -> tuple[Tensor, Hidden]:
    """Logits (B, H, W) of one object in one frame, from its previous mask (B, 1, H, W)."""
    masks = [F.max_pool2d(mask, 2, ceil_mode=True)]
    for _ in features:
        masks.append(F.max_pool2d(masks[-1], 2, ceil_mode=True))
    states: Hidden = []
    for level, (skip, cell) in enumerate(zip(features, model.decoder.cells, strict=True)):
        inputs = [skip, masks[-1 - level]]
        if states:
            inputs.insert(0, _resize(states[-1][0], skip.shape[2:]))
        before = None if temporal is None else temporal[level][0]
        states.append(_cell(cell.gates, inputs, None if spatial is None else spatial[level], before))
    finest = states[-1][0]
    logits = model.decoder.conv_out(_resize(finest, [2 * n for n in finest.shape[2:]]))
    return _resize(logits, mask.shape[2:])[:, 0], states


def frame(
    model: RVOS, image: Tensor, previous: Tensor, temporal: list[Hidden] | None
) -> tuple[Tensor, list[Hidden]]:
    """Logits (B, O, H, W) of a frame and the slots' states from image (B, 3, H, W), masks (B, O, H, W)."""
    features = model.encoder(image, 1)
    logits, states, spatial = [], [], None
    for slot in range(SLOTS):
        before = None if temporal is None else temporal[slot]
        mask, spatial = _object(model, features, previous[:, slot : slot + 1], spatial, before)
        logits.append(mask)
        states.append(spatial)
    return torch.stack(logits, 1), states


@torch.inference_mode()
def video(model: RVOS, frames: Tensor, first: Tensor) -> Tensor:
    """Probabilities (T, O, H, W) of a video (T, 3, H, W) given its first masks (O, H, W) of ten slots."""
    previous, states, outputs = first[None], None, []
    for t, image in enumerate(frames):
        if t < 2:
            previous = first[None]
        logits, states = frame(model, image[None], previous, states)
        previous = torch.sigmoid(logits)
        outputs.append(previous[0])
    return torch.stack(outputs)


def clip_loss(model: RVOS, clip: Clip, previous_mask: str = "inferred") -> Tensor:
    """The loss of a training step on a batch of clips, which `MaskTraining.clip_loss` gives too."""
    truth, states = clip.masks(SLOTS), None
    previous, loss = truth[:, 0], torch.zeros(())
    for t in range(truth.shape[1]):
        logits, states = frame(model, clip.frames[:, t], previous, states)
        masks = torch.sigmoid(logits)
        loss = loss + weighted_mean(soft_iou_cost(masks, truth[:, t]), clip.weights[:, t])
        previous = truth[:, t] if previous_mask == "ground_truth" else masks.detach()
    return loss
