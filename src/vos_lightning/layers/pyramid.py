"""The parts of a network that decodes a feature pyramid once for each object, level by level.

Shapes: B batch, T frames, O object slots, C channels, H W pixels of the network's input, h w feature cells.
Levels run from coarse to fine.
"""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from vos_lightning.layers.norms import run_frames
from vos_lightning.layers.recurrence import CELLS

Features = tuple[Tensor, ...]  # one (B, C, h, w) a level, coarse to fine
State = tuple[Tensor, ...]  # one (O, B, C, h, w) a level: hidden states of one frame


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resizes maps bilinearly with corners aligned, as every up-sampling of the official code does."""
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=True)


class Skip(nn.Module):
    """A 3x3 convolution and a BatchNorm lie between a stage of the backbone and the decoder."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor, frames: int = 1) -> Tensor:
        """Maps x (T * B, C_in, h, w) to (T * B, C_out, h, w), where T is `frames`."""
        return run_frames(self.norm, self.conv(x), frames)


class PyramidDecoder(nn.Module):
    """Recurrent levels, each of which reads a skip and the level below, and the mask head.

    Four levels make RVOS's decoder (Ventura et al. 2019, section 3.2), five that of RSIS (Salvador et al.
    2017).

    Args:
        cell: The name of a cell in CELLS.
        skips, hidden: So many channels the skips and the hidden states have, from coarse to fine.
        mask: So many channels the previous masks have: 1, or 0 where none are read.
        options: Further arguments of the cell.
    """

    def __init__(
        self, cell: str, skips: Sequence[int], hidden: Sequence[int], mask: int, **options: Any
    ) -> None:
        super().__init__()
        below = (0, *hidden[:-1])
        self.cells = nn.ModuleList(
            CELLS[cell](below=b, skip=s, mask=mask, hidden=h, **options)
            for b, s, h in zip(below, skips, hidden, strict=True)
        )
        self.conv_out = nn.Conv2d(hidden[-1], 1, 3, padding=1)

    def forward(
        self, slots: int, skips: Features, masks: Features | None, state: State | None, spatial: bool
    ) -> State:
        """Gives the hidden states (O, B, C, h, w) of every level for one frame.

        Args:
            slots: There are O.
            skips: The skips of the frame.
            masks: Previous masks as a pyramid (O, B, h, w), or None.
            state: The hidden states of the frame before, or None.
            spatial: If true, a slot reads the state of the slot before.
        """
        hidden: list[Tensor] = []
        for level, cell in enumerate(self.cells):
            skip = skips[level]
            below = None
            if hidden:
                below = resize(hidden[-1].flatten(0, 1), skip.shape[2:]).unflatten(0, (slots, -1))
            mask = None if masks is None else masks[level].unsqueeze(2)
            temporal = None if state is None else state[level]
            hidden.append(cell(slots, skip, below, mask, temporal, spatial))
        return tuple(hidden)

    def head(self, hidden: Tensor, size: Sequence[int]) -> Tensor:
        """Gives the logits (B, O, H, W) of the finest level's hidden states (O, B, C, h, w)."""
        x = hidden.flatten(0, 1)
        x = self.conv_out(resize(x, [2 * n for n in x.shape[2:]]))
        return batch_first(resize(x, size), len(hidden))


def batch_first(maps: Tensor, slots: int) -> Tensor:
    """Brings maps (O * B, 1, H, W) into the form (B, O, H, W)."""
    return maps.unflatten(0, (slots, -1)).squeeze(2).transpose(0, 1)
