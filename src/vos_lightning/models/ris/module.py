"""Training of RIS on images (Romera-Paredes and Torr 2016, sections 3.3 and 4).

Shapes: B batch, S steps, O objects an image may hold, H W pixels of the network's input.
"""

from typing import Any

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from vos_lightning.data.instances import InstanceBatch
from vos_lightning.layers.losses import pairwise_soft_iou_cost
from vos_lightning.models.ris.fields import InstanceTraining
from vos_lightning.models.ris.network import RIS
from vos_lightning.models.training import Optimisation, TrainingModule


class MatchedTraining(TrainingModule):
    """Trains RIS by its matching loss, over sequences that get longer as its curriculum says.

    Args:
        network: what is trained.
        training: see `InstanceTraining`.
        optimisation: see `Optimisation`.

    Attributes:
        longest: how many steps training takes at most on an image.
    """

    model: RIS
    training_fields: InstanceTraining

    def __init__(self, network: RIS, training: InstanceTraining, optimisation: Optimisation) -> None:
        super().__init__(network, training, optimisation)
        self.whole = network.slots + training.extra_steps
        self.longest = min(training.curriculum.start or self.whole, self.whole)

    def losses_of(self, batch: InstanceBatch, longest: int) -> tuple[Tensor, Tensor]:
        """Each image's loss (B,), and how many steps (B,) it is a sum over, at most `longest`."""
        fields = self.training_fields
        steps = (batch.weights.sum(1).long() + fields.extra_steps).clamp(max=longest)
        masks, logits = self.model(batch.frames, max(1, int(steps.max())))
        truth = batch.masks.to(masks.dtype)
        loss = matching_loss(masks, logits, truth, batch.weights, steps, fields.confidence_weight)
        return loss, steps

    def training_step(self, batch: InstanceBatch, _: int) -> Tensor:
        """One step; logs train/loss, the mean loss of a step on an image."""
        losses, steps = self.losses_of(batch, self.longest)
        self.log_loss((losses / steps.clamp(min=1)).mean())
        return losses.mean()

    def validation_step(self, batch: InstanceBatch, _: int) -> None:
        """Logs val/loss, the mean loss of a step on an image, over whole sequences."""
        losses, steps = self.losses_of(batch, self.whole)
        self.log_mean("val/loss", (losses / steps.clamp(min=1)).mean(), len(losses))

    def on_train_epoch_end(self) -> None:
        """Lets sequences grow where the loss is stable; a stage's patience then counts anew."""
        super().on_train_epoch_end()
        curriculum = self.training_fields.curriculum
        if self.longest < self.whole and self.is_stable(curriculum.patience):
            self.longest = min(self.longest + curriculum.growth, self.whole)
            self.losses = []

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps how long sequences are too."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["longest"] = self.longest

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes up how long sequences were too."""
        super().on_load_checkpoint(checkpoint)
        self.longest = checkpoint["longest"]


def matching_loss(
    masks: Tensor, logits: Tensor, truth: Tensor, weights: Tensor, steps: Tensor, confidence_weight: float
) -> Tensor:
    """Eq. 5: -(soft IoU of the best match) + lambda * (cross-entropy of the confidences with [t <= n]).

    Of an image of n objects the first min(n, steps) masks are matched, as in the released code. The soft IoU
    is <p, y> / (|p| + |y| - <p, y>), whose last sign the paper prints as a plus.

    Args:
        masks: Probabilities (B, S, H, W) in 0..1.
        logits: Those of the confidences (B, S).
        truth: True masks (B, O, H, W), 0 or 1.
        weights: 1 for an object of the image, else 0, (B, O).
        steps: How many steps of each image count, (B,) of at most S.
        confidence_weight: Lambda.

    Returns:
        The losses of the images, (B,).
    """
    ious = 1 - pairwise_soft_iou_cost(masks, truth)
    step = torch.arange(masks.shape[1], device=masks.device)
    there = (step < weights.sum(1, keepdim=True)).to(logits.dtype)
    entropies = F.binary_cross_entropy_with_logits(logits, there, reduction="none")
    confidence = (entropies * (step < steps[:, None])).sum(1)
    return confidence_weight * confidence - (ious * best_match(ious, weights, steps)).sum((1, 2))


@torch.no_grad()
def best_match(ious: Tensor, weights: Tensor, steps: Tensor) -> Tensor:
    """The delta of eq. 5 by the Hungarian method: 1 where a step is matched to an object, else 0.

    Args:
        ious: Of each step with each object, (B, S, O).
        weights: See `matching_loss`.
        steps: See `matching_loss`.

    Returns:
        A tensor of the shape and type of `ious`.
    """
    match, known = torch.zeros_like(ious, device="cpu"), ious.nan_to_num(0).cpu()
    for image, values, there, count in zip(match, known, weights.cpu(), steps.tolist(), strict=True):
        objects = there.nonzero().flatten()
        rows, columns = linear_sum_assignment(values[:count][: len(objects), objects], maximize=True)
        image[torch.from_numpy(rows), objects[columns]] = 1
    return match.to(ious.device)
