"""STESA-GRU (Valderrama and Rueda) is RVOS (Ventura et al. 2019) with other parts; one network is both.

Shapes: B batch, T frames, O object slots, C channels, H W pixels of the network's input, h w feature cells.
Levels run from coarse to fine: res5 at 1/32, res4, res3, res2 at 1/4 of the input.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from vos_lightning.layers.attention import NonLocalBlock
from vos_lightning.layers.backbones import LEVELS, Backbone
from vos_lightning.layers.norms import replace_batch_norms
from vos_lightning.layers.pyramid import Features, PyramidDecoder, Skip, State, batch_first
from vos_lightning.models.rvos.fields import RVOSFields

COARSE_TO_FINE = LEVELS[::-1]


class Step(NamedTuple):
    """One frame gives logits (B, O, H, W), the next state, and auxiliary logits (B, O, h, w) or None."""

    logits: Tensor
    state: State | None
    auxiliary: Tensor | None


class Encoder(nn.Module):
    """Backbone, non-local block and skip convolutions turn frames into a feature pyramid."""

    def __init__(
        self,
        backbone: Backbone,
        widths: dict[str, int],
        nonlocal_position: str,
        affinity: str,
        feeds_next_stage: bool,
        bn: str,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.skips = nn.ModuleDict({n: Skip(backbone.channels[n], widths[n]) for n in COARSE_TO_FINE})
        self.position, self.feeds_next_stage = nonlocal_position, feeds_next_stage
        if nonlocal_position != "none":
            self.nonlocal_block = NonLocalBlock(backbone.channels[nonlocal_position], affinity)
        replace_batch_norms(self, bn)

    def forward(self, images: Tensor, frames: int) -> Features:
        """Encodes images (T * B, 3, H, W), frame-major, where T is `frames`."""
        x, pyramid = images, []
        for level, name in enumerate(LEVELS):
            x = self.backbone.stage(level, x, frames)
            skipped = self.nonlocal_block(x, frames) if name == self.position else x
            if self.feeds_next_stage:
                x = skipped
            pyramid.append(self.skips[name](skipped, frames))
        return tuple(pyramid[::-1])


class RVOS(nn.Module):
    """RVOS encodes frames as feature pyramids; its decoder recurs over objects and over frames.

    Args:
        fields: see `RVOSFields`.

    Raises:
        InputError: an unknown backbone, or weights that cannot be had.
    """

    def __init__(self, fields: RVOSFields) -> None:
        super().__init__()
        hidden, position = fields.hidden, fields.nonlocal_position
        widths = dict(zip(COARSE_TO_FINE, (hidden, hidden, hidden // 2, hidden // 4), strict=True))
        states = (hidden, hidden // 2, hidden // 4, hidden // 8)
        self.recurrence, self.mask_input = fields.recurrence, fields.mask_input
        self.feeds_unstarted, self.auxiliary = fields.feeds_unstarted, fields.auxiliary
        self.encoder = Encoder(
            Backbone(fields.backbone, fields.weights),
            widths,
            position,
            fields.affinity,
            fields.feeds_next_stage,
            fields.bn,
        )
        gru = {"reset_gates": fields.reset_gates, "form": fields.gru_form} if fields.cell == "gru" else {}
        self.decoder = PyramidDecoder(
            fields.cell, tuple(widths.values()), states, int(fields.mask_input), **gru
        )
        if self.auxiliary:
            self.auxiliary_level = COARSE_TO_FINE.index(position)
            self.auxiliary_head = nn.Conv2d(states[self.auxiliary_level], 1, 1)

    def encode(self, frames: Tensor) -> list[Features]:
        """Encodes a whole clip at once: normalised frames (B, T, 3, H, W) give T pyramids.

        An encoder of another data type than the frames' gives features of theirs.
        """
        length, dtype = frames.shape[1], next(self.encoder.parameters()).dtype
        pyramid = self.encoder(frames.transpose(0, 1).flatten(0, 1).to(dtype), length)
        if dtype != frames.dtype:
            pyramid = tuple(level.to(frames.dtype) for level in pyramid)
        return list(zip(*(level.chunk(length) for level in pyramid), strict=True))

    def step(
        self,
        features: Features,
        slots: int,
        size: Sequence[int],
        previous: Tensor | None,
        state: State | None,
    ) -> Step:
        """Segments one frame: gives the masks of `slots` objects from its features and what came before.

        Args:
            features: They are one element of what `encode` gives.
            slots: There are O.
            size: The masks are (H, W).
            previous: Previous masks (B, O, H, W) lie in 0..1; without `mask_input` they are None.
            state: It is that of the frame before; the first frame has None.
        """
        masks = _mask_pyramid(previous.transpose(0, 1)) if previous is not None else None
        spatial = self.recurrence != "none" and (self.recurrence != "temporal" or state is None)
        hidden = self.decoder(slots, features, masks, state, spatial)
        auxiliary = None
        if self.auxiliary:
            chosen = hidden[self.auxiliary_level]
            auxiliary = batch_first(self.auxiliary_head(chosen.flatten(0, 1)), slots)
        return Step(
            self.decoder.head(hidden[-1], size),
            hidden if "temporal" in self.recurrence else None,
            auxiliary,
        )


def _mask_pyramid(masks: Tensor) -> Features:
    """Shrinks previous masks (O, B, H, W) in 0..1 to 1/32, 1/16, 1/8 and 1/4 of their size.

    A cell is the maximum of 4x4 pixels and, at each coarser level, of 2x2 cells.
    """
    height, width = masks.shape[2:]
    padded = F.pad(masks, (0, -width % 4, 0, -height % 4))
    pyramid = [padded.unflatten(2, (-1, 4)).amax(3).unflatten(3, (-1, 4)).amax(4)]
    for _ in LEVELS[1:]:
        pyramid.append(F.max_pool2d(pyramid[-1], 2, ceil_mode=True))
    return tuple(pyramid[::-1])
