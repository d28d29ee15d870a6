"""RSIS finds the objects of an image one after the other (Salvador et al. 2017).

Shapes: B batch, O steps, K categories, C channels, H W pixels of the network's input, h w feature cells.
Levels run from coarse to fine: res5 at 1/32, res4, res3, res2, res1 at 1/2 of the input.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from vos_lightning.layers.backbones import LEVELS, Backbone
from vos_lightning.layers.pyramid import Features, PyramidDecoder, Skip
from vos_lightning.models.rsis.fields import RSISFields

COARSE_TO_FINE = (*LEVELS[::-1], "res1")


class Found(NamedTuple):
    """What the steps give for an image, before sigmoids and softmax.

    masks: (B, O, H, W). classes: (B, O, 1 + K), of which 0 is no category. stops: (B, O), high where there
    is an object. boxes: (B, O, 4), see `data.instances`; None without a box head.
    """

    masks: Tensor
    classes: Tensor
    stops: Tensor
    boxes: Tensor | None


class SkipEncoder(nn.Module):
    """The backbone's five stages and a skip convolution behind each."""

    def __init__(self, backbone: Backbone, widths: dict[str, int]) -> None:
        super().__init__()
        self.backbone = backbone
        self.skips = nn.ModuleDict({n: Skip(backbone.channels[n], widths[n]) for n in COARSE_TO_FINE})

    def forward(self, images: Tensor) -> Features:
        """Encodes images (B, 3, H, W)."""
        maps = [*self.backbone.first_stage(images)]
        for level in range(1, len(LEVELS)):
            maps.append(self.backbone.stage(level, maps[-1]))
        return tuple(self.skips[name](x) for name, x in zip(COARSE_TO_FINE, maps[::-1], strict=True))


class RSIS(nn.Module):
    """Five ConvLSTM levels recur over objects; heads read the finest one, or the maxima of all.

    Args:
        fields: see `RSISFields`.

    Raises:
        InputError: an unknown backbone, or weights that cannot be had.
    """

    def __init__(self, fields: RSISFields) -> None:
        super().__init__()
        self.steps, self.recurrence, self.classes = fields.steps, fields.recurrence, fields.classes
        states = [fields.hidden // 2**level for level in range(len(COARSE_TO_FINE))]
        widths = [fields.hidden, *states[:-1]]
        named = dict(zip(COARSE_TO_FINE, widths, strict=True))
        self.encoder = SkipEncoder(Backbone(fields.backbone, fields.weights), named)
        self.decoder = PyramidDecoder("lstm", widths, states, mask=0, temporal=False)
        self.class_head = nn.Linear(sum(states), 1 + fields.classes)
        self.stop_head = nn.Linear(sum(states), 1)
        self.box_head = nn.Linear(sum(states), 4) if fields.box_head else None

    def forward(self, images: Tensor, steps: int) -> Found:
        """Takes so many steps on normalised images (B, 3, H, W)."""
        dtype = next(self.encoder.parameters()).dtype
        skips = tuple(level.to(images.dtype) for level in self.encoder(images.to(dtype)))
        taken = steps if self.recurrence else 1  # which all others would repeat
        hidden = self.decoder(taken, skips, None, None, True)
        pooled = torch.cat([level.amax((3, 4)) for level in hidden], 2).transpose(0, 1)
        masks = self.decoder.head(hidden[-1], images.shape[2:]).repeat_interleave(steps // taken, 1)
        pooled = pooled.repeat_interleave(steps // taken, 1)
        return Found(
            masks,
            self.class_head(pooled),
            self.stop_head(pooled).squeeze(2),
            None if self.box_head is None else self.box_head(pooled),
        )
