"""This network is RIS (Romera-Paredes and Torr 2016): it finds the objects of an image one after the other.

An FCN makes features of the image. At each step the ConvLSTM reads the same features, and a head turns its
last hidden state into one object's mask and the confidence that there is such an object.

Shapes: B batch, S steps, C hidden channels, H W pixels of the network's input, h w cells of the features.
"""

from collections.abc import Iterator
from itertools import islice, repeat
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vos_lightning.errors import InputError
from vos_lightning.layers.backbones import LEVELS, Backbone
from vos_lightning.layers.norms import replace_batch_norms
from vos_lightning.layers.recurrence import SequenceConvLSTM
from vos_lightning.models.ris.fields import RISFields

State = list[tuple[Tensor, Tensor]]  # cell and hidden state of each layer, (B, C, h, w) each
INITIAL = 0.08  # weights of the recurrence and the head start uniform within +- this (released code)


class SmallFCN(nn.Sequential):
    """Four 3x3 convolutions with ReLU keep the size: (B, 3, H, W) to (B, C, H, W) (section 4.1, plants)."""

    stride = 1

    def __init__(self, hidden: int) -> None:
        parts: list[nn.Module] = []
        for inputs in (3, hidden, hidden, hidden):
            parts += [nn.Conv2d(inputs, hidden, 3, padding=1), nn.ReLU(inplace=True)]
        super().__init__(*parts)


class FCN8s(nn.Module):
    """1x1 scores of a backbone's stages, fused from the coarsest to the finest (Long et al. 2015).

    It maps (B, 3, H, W) to (B, C, h, w), where h and w are those of the stage `finest`.
    """

    def __init__(self, fields: RISFields) -> None:
        super().__init__()
        self.backbone = Backbone(fields.backbone, fields.weights, fc6=fields.fc6)
        self.levels = LEVELS[LEVELS.index(fields.finest) :]
        self.stride = 4 * 2 ** LEVELS.index(fields.finest)
        channels = self.backbone.channels | {"res5": self.backbone.out_channels}
        self.scores = nn.ModuleDict(
            {name: nn.Conv2d(channels[name], fields.hidden, 1) for name in self.levels}
        )
        self.dropout = nn.Dropout()
        replace_batch_norms(self, fields.bn)

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        features, x = {}, images
        for index, level in enumerate(LEVELS):
            features[level] = x = self.backbone.stage(index, x)
        if self.backbone.fc6 is not None:
            features["res5"] = self.dropout(F.relu(self.backbone.fc6(x)))
        fused = self.scores["res5"](features["res5"])
        for level in reversed(self.levels[:-1]):
            score = self.scores[level](features[level])
            fused = score + _resized(fused, score.shape[-2:])
        return fused


class Head(nn.Module):
    """Attention by spatial inhibition, and the confidence (section 3.2).

    Args:
        hidden: So many channels the hidden state has.
        cells: The confidence reads so many cells of it; 4 stand for its maxima over 2x2 parts.
        threshold: It starts here.
    """

    def __init__(self, hidden: int, cells: int, threshold: float) -> None:
        super().__init__()
        self.mask = nn.Conv2d(hidden, 1, 1)
        self.threshold = nn.Parameter(torch.tensor(threshold))
        self.confidence = nn.Linear(hidden * cells, 1)
        for weight in (self.mask.weight, self.confidence.weight):
            nn.init.uniform_(weight, -INITIAL, INITIAL)
        nn.init.constant_(self.confidence.bias, 10.0)

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Gives the masks (B, h, w) in 0..1 and the confidences' logits (B,) of states (B, C, h, w)."""
        places = F.log_softmax(self.mask(hidden).float().flatten(1), 1)
        masks = torch.sigmoid(places + self.threshold).view(len(hidden), *hidden.shape[2:])
        if self.confidence.in_features == 4 * hidden.shape[1]:
            hidden = F.adaptive_max_pool2d(hidden, 2)
        return masks, self.confidence(hidden.flatten(1)).squeeze(1)


class RIS(nn.Module):
    """See the module.

    Args:
        fields: `RISFields` explains them.

    Raises:
        InputError: `Backbone` refuses its fields.
    """

    def __init__(self, fields: RISFields) -> None:
        super().__init__()
        self.slots, self.recurrence = fields.slots, fields.recurrence
        self.encoder = SmallFCN(fields.hidden) if fields.fcn == "small" else FCN8s(fields)
        self.layers: Any = nn.ModuleList(_layer(fields.hidden) for _ in range(fields.layers))
        self.feedback = _feedback(fields.hidden) if fields.feeds_mask else None
        self.size = fields.size if fields.confidence == "cells" else None
        cells = 4
        if self.size is not None:
            height, width = (-(-n // self.encoder.stride) for n in self.size)
            cells = height * width
        self.head = Head(fields.hidden, cells, fields.first_threshold)

    def forward(self, images: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """Takes some steps on images (B, 3, H, W).

        Returns:
            The masks (B, S, H, W) float32 in 0..1, and the logits (B, S) float32 of the confidences.
        """
        masks, logits = zip(*islice(self.objects(images), steps), strict=True)
        return torch.stack(masks, 1), torch.stack(logits, 1)

    def objects(self, images: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields, without end, each step's masks (B, H, W) and logits (B,) of images (B, 3, H, W).

        Raises:
            InputError: The images have another size than a network with `model.confidence=cells` takes.
        """
        size = images.shape[-2:]
        if self.size is not None and tuple(size) != self.size:
            raise InputError(
                f"model.confidence=cells: the network takes input of {self.size[0]}x{self.size[1]} and met "
                f"{size[0]}x{size[1]}; leave data.size as in its training, or train with "
                "model.confidence=pooled."
            )
        dtype = next(self.encoder.parameters()).dtype
        features = self.encoder(images.to(dtype)).to(images.dtype)
        shared = read = self.layers[0].read(features)
        zeros = features.new_zeros(len(features), self.layers[0].hidden, *features.shape[2:])
        state: State = [(zeros, zeros)] * len(self.layers)
        while True:
            state = self.advance(read, state)
            masks, logits = self.head(state[-1][1])
            found = _resized(masks[:, None], size)[:, 0].float(), logits.float()
            if not self.recurrence:
                yield from repeat(found)
            yield found
            if self.feedback is not None:
                read = shared + self.feedback(masks[:, None].detach().to(shared.dtype))

    def advance(self, read: Tensor, state: State) -> State:
        """The next state of all layers, from what the first one reads of the features and from the state."""
        new: State = []
        for layer, (cell, hidden) in zip(self.layers, state, strict=True):
            read = layer.read(new[-1][1]) if new else read
            new.append(layer(read, cell, hidden))
        return new


def _resized(x: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


def _layer(hidden: int) -> SequenceConvLSTM:
    """A ConvLSTM whose first weights are drawn as in the released code: all gates begin open."""
    layer = SequenceConvLSTM(hidden, hidden, activation="tanh")
    nn.init.uniform_(layer.gates.weight, -INITIAL, INITIAL)
    assert layer.gates.bias is not None
    nn.init.uniform_(layer.gates.bias, -INITIAL, INITIAL)
    with torch.no_grad():
        layer.gates.bias[: 3 * hidden] += 1
    return layer


def _feedback(hidden: int) -> nn.Conv2d:
    """The weights of the first layer's gates for a further input channel, drawn as the others."""
    layer = nn.Conv2d(1, 4 * hidden, 3, padding=1, bias=False)
    nn.init.uniform_(layer.weight, -INITIAL, INITIAL)
    return layer
