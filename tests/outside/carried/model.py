"""A model outside the package: it carries the first mask through a learned 1x1 convolution.

Shapes: B batch, T frames, O object slots, H W pixels of the network's input.
"""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vos_lightning.data.clips import Clip
from vos_lightning.evaluation.corrected import evaluation_along
from vos_lightning.evaluation.propagation import Propagation
from vos_lightning.fields import TRUTH
from vos_lightning.models.interface import Evaluation, Experiment, Model, NetworkFields
from vos_lightning.models.training import Optimisation, Training, TrainingModule


@dataclass(frozen=True, kw_only=True)
class CarriedFields(NetworkFields):
    """colours: whether the convolution reads the frame's colours too."""

    colours: Annotated[bool, TRUTH] = True


class Carried(nn.Module):
    """The mask of a pixel from that of the frame before, and its colours."""

    def __init__(self, fields: CarriedFields) -> None:
        super().__init__()
        self.colours = fields.colours
        self.convolution = nn.Conv2d(4 if fields.colours else 1, 1, 1)
        nn.init.zeros_(self.convolution.weight[:, 1:])
        nn.init.constant_(self.convolution.weight[:, :1], 2.0)
        nn.init.constant_(self.convolution.bias, -1.0)

    def encode(self, frames: Tensor) -> tuple[Tensor, ...]:
        """Frames (B, T, 3, H, W) as what `step` reads of each."""
        return frames.unbind(1)

    def step(self, frame: Tensor, masks: Tensor) -> Tensor:
        """Logits (B, O, H, W) of a frame (B, 3, H, W) after masks (B, O, H, W) in 0..1."""
        planes = masks.unsqueeze(2)
        if self.colours:
            planes = torch.cat([planes, frame.unsqueeze(1).expand(-1, masks.shape[1], -1, -1, -1)], 2)
        return self.convolution(planes.flatten(0, 1)).view_as(masks)


class CarriedTraining(TrainingModule):
    """Binary cross-entropy over a clip."""

    def clip_loss(self, clip: Clip) -> Tensor:
        """Of the frames after the first, each from the masks before it."""
        truth = clip.masks(clip.slots_in_use())
        masks, loss = truth[:, 0], torch.zeros((), device=truth.device)
        for frame, true in zip(self.model.encode(clip.frames[:, 1:]), truth[:, 1:].unbind(1), strict=True):
            logits = self.model.step(frame, masks)
            loss, masks = loss + F.binary_cross_entropy_with_logits(logits, true), torch.sigmoid(logits)
        return loss / (truth.shape[1] - 1)

    def training_step(self, clip: Clip, _: int) -> Tensor:
        """One step."""
        loss = self.clip_loss(clip)
        self.log_loss(loss)
        return loss

    def validation_step(self, clip: Clip, _: int) -> None:
        """The loss."""
        self.log_mean("val/loss", self.clip_loss(clip), len(clip.labels))


class CarriedAlong(Propagation):
    """See `Propagation`."""

    def soft_masks(
        self, frames: Iterator[np.ndarray], labels: Mapping[int, np.ndarray], slots: int
    ) -> Iterator[Tensor]:
        """See `Propagation.soft_masks`."""
        masks = torch.zeros(1, slots, *self.size, device=self.device)
        for t, (_, frame) in enumerate(self.encoded(frames)):
            masks = torch.sigmoid(self.network.step(frame, masks))
            if t in labels:
                given, starts = self.slot_masks(labels[t], slots)
                masks = torch.where(starts, given, masks)
            yield masks[0]


class CarriedModel(Model):
    """See `Model`."""

    fields = CarriedFields

    def network(self, fields: CarriedFields) -> Carried:
        """See `Model.network`."""
        return Carried(fields)

    def module(self, network: Carried, training: Training, optimisation: Optimisation) -> CarriedTraining:
        """See `Model.module`."""
        return CarriedTraining(network, training, optimisation)

    def evaluation(self, network: Carried, experiment: Experiment, device: torch.device | str) -> Evaluation:
        """See `Model.evaluation`."""
        ready = copy.deepcopy(network).eval().to(device)
        return evaluation_along(CarriedAlong(ready, experiment.prediction, experiment.examples.size, device))


MODEL = CarriedModel()
