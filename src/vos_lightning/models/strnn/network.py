"""Features for scribbles: a segmentation network without its last layer, and a spatio-temporal RNN on it.

Lin et al. 2019, sections 2.1 and 2.2.

Shapes: B batch, T frames, C channels, H W pixels of the network's input, h w cells of the features.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vos_lightning.layers.backbones import Backbone, DeepLab
from vos_lightning.layers.dag_rnn import SpatioTemporalRNN
from vos_lightning.layers.norms import replace_batch_norms
from vos_lightning.models.strnn.fields import STRNNFields

States = Sequence[Tensor | None]  # of each member, that of the frame before


def features(name: str, weights: str, level: str, bn: str) -> Backbone | DeepLab:
    """The network whose features are used.

    Args:
        name: deeplabv3_resnet50, deeplabv3_resnet101 or deeplabv3_mobilenet_v3_large, of which `DeepLab`
            explains the weights and whose features are those of its last layer; or a name of `Backbone`.
        weights: `coco` for a DeepLab, `imagenet` for a backbone, a file, or `none`.
        level: the stage of a backbone that gives the features.
        bn: see `replace_batch_norms`.

    Raises InputError for a name that is unknown, or weights that cannot be had.
    """
    made: Backbone | DeepLab
    if name.startswith("deeplab"):
        made = DeepLab(name, weights, "model.backbone", head=True, frozen=False)
    else:
        made = Backbone(name, weights, level)
    replace_batch_norms(made, bn)
    return made


class STRNN(nn.Module):
    """One network, or two whose scores are averaged; they share nothing.

    Args:
        fields: see `STRNNFields`.

    Raises:
        InputError: as `features`.
    """

    def __init__(self, fields: STRNNFields) -> None:
        super().__init__()
        chosen = [(fields.backbone, fields.weights)]
        if fields.ensemble:
            chosen.append((fields.second, fields.second_weights))
        self.encoder = nn.ModuleList(features(*pair, fields.level, fields.bn) for pair in chosen)
        self.context = nn.ModuleList(_context(part.out_channels, fields) for part in self.encoder)
        self.temporal = fields.recurrence == "spatio_temporal"

    def encode(self, frames: Tensor) -> list[Tensor]:
        """The features that each member reads a clip by: frames (B, T, 3, H, W) give (B, T, C, h, w) each."""
        images, dtype = frames.flatten(0, 1), next(self.encoder.parameters()).dtype
        maps = [part(images.to(dtype)).to(frames.dtype) for part in self.encoder]
        return [m.view(*frames.shape[:2], *m.shape[1:]) for m in maps]

    def step(self, maps: Sequence[Tensor], states: States | None = None) -> tuple[list[Tensor], States]:
        """One frame: each member's features (B, C, h, w) with their context, (B, channels, h, w).

        Args:
            maps: one frame of what `encode` gives.
            states: those of the frame before; None for the first frame.
        """
        states = states or [None] * len(maps)
        found, after = [], []
        for layer, x, state in zip(self.context, maps, states, strict=True):
            if isinstance(layer, SpatioTemporalRNN):
                x, state = layer(x, state)
                after.append(state if self.temporal else None)
            else:
                x = layer(x)
                after.append(None)
            found.append(x)
        return found, after

    def forward(self, maps: Sequence[Tensor], temporal: bool) -> list[Tensor]:
        """Clips: what `encode` gives, (B, T, C, h, w) each, with context: (B, T, channels, h, w) each.

        temporal: whether the state passes between frames, if there is one at all.
        """
        length = maps[0].shape[1]
        if not (temporal and self.temporal):
            found, _ = self.step([m.flatten(0, 1) for m in maps])
            return [x.unflatten(0, (-1, length)) for x in found]
        states: States | None = None
        frames = []
        for t in range(length):
            found, states = self.step([m[:, t] for m in maps], states)
            frames.append(found)
        return [torch.stack(x, 1) for x in zip(*frames, strict=True)]


def _context(channels: Any, fields: STRNNFields) -> nn.Module:
    if fields.recurrence == "none":
        return nn.Conv2d(channels, fields.channels, 1)
    return SpatioTemporalRNN(
        channels,
        fields.hidden,
        fields.channels,
        fields.recurrence == "spatio_temporal",
        fields.predecessors,
        fields.activation,
    )
