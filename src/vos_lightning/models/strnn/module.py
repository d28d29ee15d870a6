"""Training of the features: those of one object come close in all frames, and away from all others.

Shapes: B batch, T frames of a clip, C channels, h w cells of the features, A anchors, P and N pixels of the
pools.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from vos_lightning.data.clips import Clip
from vos_lightning.models.strnn.fields import MetricTraining
from vos_lightning.models.strnn.network import STRNN
from vos_lightning.models.training import TrainingModule


def pull_and_push(anchors: Tensor, positive: Tensor, negative: Tensor, alpha: float) -> Tensor:
    """Equation 4, with the mean over anchors in place of the sum, which depends on an object's size.

    Args:
        anchors: (A, C) features of an object in the anchor frames.
        positive, negative: (P, C) and (N, C) features of the object and of all else in the pool frames, of
            which none is empty.
        alpha: keeps the divisor from 0. It must be far below the squared distances, since a larger one lets
            the loss fall to 0 as all features shrink to a point.
    """
    # Differences of large numbers: in float32, and about a common middle, which changes no distance.
    with torch.autocast(anchors.device.type, enabled=False):
        middle = positive.float().mean(0)
        anchors, positive, negative = (x.float() - middle for x in (anchors, positive, negative))
        near = _distances(anchors, positive).amin(1)
        far = _distances(anchors, negative).amin(1)
        return (near / (far + alpha)).mean()


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared Euclidean distances (A, P) of (A, C) and (P, C)."""
    products = a @ b.mT
    return ((a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * products).clamp_min(0)


class FeatureTraining(TrainingModule):
    """Trains the network's members side by side, each by its own loss; `training` is a `MetricTraining`."""

    model: STRNN
    training_fields: MetricTraining

    def clip_loss(self, clip: Clip, draw: int) -> Tensor:
        """The sum over the members of their mean loss over the objects of a batch of clips.

        draw: decides which frames and pixels are drawn.
        """
        stage = self.training_fields.stages[self.stage_at(self.current_epoch)]
        fixed = stage.part == "spatio_temporal"
        if self.training:
            self.model.encoder.train(not fixed)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not fixed):
            maps = self.model.encode(clip.frames)
        losses = [
            self._mean_loss(found, clip, torch.Generator().manual_seed(draw))
            for found in self.model(maps, fixed)
        ]
        return torch.stack(losses).sum()

    def _mean_loss(self, found: Tensor, clip: Clip, rng: torch.Generator) -> Tensor:
        """Of features (B, T, C, h, w) of clips; 0 where no object can be compared."""
        fields, losses = self.training_fields, []
        small = F.interpolate(clip.labels.float(), size=found.shape[-2:], mode="nearest-exact").long()
        counts = F.pad(clip.weights.amax(1) > 0, (1, 0))  # by id; those that a data set does not list do not
        for maps, ids, counted in zip(found, small, counts, strict=True):
            order = torch.randperm(len(maps), generator=rng).to(maps.device)
            split = min(fields.anchor_frames, len(maps) - 1)
            frames, pixels = maps.movedim(1, -1)[order], ids[order]
            for anchors, positive, negative in _objects(frames, pixels, split, counted):
                picked = (
                    _drawn(anchors, fields.anchors, rng),
                    _drawn(positive, fields.pool, rng),
                    _drawn(negative, fields.pool, rng),
                )
                losses.append(pull_and_push(*picked, fields.alpha))
        return torch.stack(losses).mean() if losses else found.sum() * 0

    def training_step(self, clip: Clip, _: int) -> Tensor:
        """One step; logs train/loss."""
        loss = self.clip_loss(clip, self.step_seed)
        self.log_loss(loss)
        return loss

    def validation_step(self, clip: Clip, index: int) -> None:
        """Logs val/loss."""
        self.log_mean("val/loss", self.clip_loss(clip, index), len(clip.labels))


def _objects(
    frames: Tensor, ids: Tensor, split: int, counted: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Of each object: its anchors in the first frames, and the pools in the others.

    frames (T, h, w, C), ids (T, h, w), counted by id (1 + O,). Objects that are not in both, or fill the pool
    frames, are left out.
    """
    before, after = ids[:split], ids[split:]
    for i in torch.unique(before).tolist():
        inside = after == i
        if counted[i] and inside.any() and not inside.all():
            yield frames[:split][before == i], frames[split:][inside], frames[split:][~inside]


def _drawn(pixels: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """At most so many rows, at random."""
    if len(pixels) <= count:
        return pixels
    return pixels[torch.randperm(len(pixels), generator=rng)[:count].to(pixels.device)]
