"""Training of RVOS and STESA-GRU, one-shot and zero-shot.

Shapes: B batch, T frames of a clip, O object slots, H W pixels of the network's input.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vos_lightning.data.clips import Clip
from vos_lightning.errors import InputError
from vos_lightning.evaluation.merging import Merger
from vos_lightning.layers.losses import soft_iou_cost, weighted_mean
from vos_lightning.layers.matching import match_slots
from vos_lightning.models.rvos.network import RVOS
from vos_lightning.models.training import ClipTask, Optimisation, Stage
from vos_lightning.scoring.measures import boundary_f, jaccard


@dataclass(frozen=True)
class MaskStage(Stage):
    """previous_mask: `ground_truth`, the true mask of the frame before, or `inferred`, the network's own,
    soft and detached."""

    previous_mask: str = "inferred"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.previous_mask not in ("ground_truth", "inferred"):
            raise InputError(
                f"train.stages: previous_mask={self.previous_mask}: choose ground_truth or inferred."
            )


class Segmentation(ClipTask):
    """Trains a model over clips; one optimiser step per clip batch, costs summed over the clip's frames.

    Args:
        model: one-shot or zero-shot.
        optimisation, stages: see `ClipTask`.
        auxiliary_weight: of the auxiliary cost (STESA-GRU, eq. 10), if the model has the head.
        unroll: frames through which gradients flow; 0 is the whole clip.
        match_valid_only: of `match_slots`, for zero-shot models.
        compile: compiles the encoder with torch.compile.

    Raises:
        InputError: a stage of a zero-shot model that keeps the epoch of a figure it does not have.
    """

    model: RVOS
    stages: Sequence[MaskStage]

    def __init__(
        self,
        model: RVOS,
        optimisation: Optimisation,
        stages: Sequence[MaskStage],
        auxiliary_weight: float = 1.0,
        unroll: int = 0,
        match_valid_only: bool = False,
        compile: bool = False,
    ) -> None:
        super().__init__(model, optimisation, stages)
        if not model.mask_input and any(stage.keep == "val_JF" for stage in stages):
            raise InputError(
                "train.stages: keep=val_JF: a zero-shot model has no validation J&F; choose val_loss or last."
            )
        self.auxiliary_weight, self.unroll, self.match_valid_only = auxiliary_weight, unroll, match_valid_only
        if compile:
            model.encoder.compile()

    def clip_loss(self, clip: Clip, previous_mask: str) -> tuple[Tensor, Tensor]:
        """Unrolls the model over a batch of clips.

        Returns:
            The loss, and the masks (B, T, O, H, W) in 0..1 of the slots in use (one-shot) or of all.
        """
        one_shot = self.model.mask_input
        slots = clip.slots_in_use() if one_shot else clip.weights.shape[-1]
        truth, weights = clip.masks(slots), clip.weights[..., :slots]
        size = clip.labels.shape[-2:]
        previous, state, loss, outputs = truth[:, 0], None, torch.zeros((), device=truth.device), []
        for t, features in enumerate(self.model.encode(clip.frames)):
            if state is not None and self.unroll and t % self.unroll == 0:
                state = tuple(h.detach() for h in state)
            step = self.model.step(features, slots, size, previous if one_shot else None, state)
            state, masks = step.state, torch.sigmoid(step.logits.float())
            if t == 0 and not one_shot:
                order = match_slots(masks, truth[:, 0], weights.amax(1), self.match_valid_only)
                truth, weights = _reorder(truth, order), _reorder(weights, order)
            loss = loss + weighted_mean(soft_iou_cost(masks, truth[:, t]), weights[:, t])
            if step.auxiliary is not None:
                loss = loss + self.auxiliary_weight * _auxiliary_cost(
                    step.auxiliary, truth[:, t], weights[:, t]
                )
            previous = truth[:, t] if previous_mask == "ground_truth" else masks.detach()
            if not self.model.feeds_unstarted:
                previous = previous * truth[:, : t + 1].amax((1, 3, 4))[..., None, None]
            outputs.append(masks)
        return loss, torch.stack(outputs, 1)

    def training_step(self, clip: Clip, _: int) -> Tensor:
        """One step; logs train/loss, the mean cost of a frame."""
        stage = self.stages[self.stage_at(self.current_epoch)]
        loss, _masks = self.clip_loss(clip, stage.previous_mask)
        self.log_loss(loss / clip.labels.shape[1])
        return loss

    def validation_step(self, clip: Clip, _: int) -> None:
        """Logs val/loss, and for one-shot models val/J, val/F and val/JF of the frames after the first.

        Previous masks are those of the stage, as in training (released code).
        """
        stage = self.stages[self.stage_at(self.current_epoch)]
        loss, masks = self.clip_loss(clip, stage.previous_mask)
        batch, length = clip.labels.shape[:2]
        self.log_mean("val/loss", loss / length, batch)
        if not self.model.mask_input:
            return
        size, pairs = (clip.labels.shape[-2], clip.labels.shape[-1]), []
        for soft, truth in zip(masks, clip.labels.cpu().numpy(), strict=True):
            merger = Merger("painter")
            merger.start(soft[0], truth[0])
            for true, predicted in zip(truth[1:], merger(soft[1:], size), strict=True):
                pairs += [(true == i, predicted == i) for i in merger.slots]
        if pairs:
            j, f = (sum(measure(*p) for p in pairs) / len(pairs) for measure in (jaccard, boundary_f))
            for name, value in (("J", j), ("F", f), ("JF", (j + f) / 2)):
                self.log_mean(f"val/{name}", value, len(pairs))


def _auxiliary_cost(logits: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    """Soft IoU of the auxiliary masks (B, O, h, w) against the truth (B, O, H, W) at that size."""
    small = torch.nn.functional.interpolate(truth, size=logits.shape[-2:], mode="nearest")
    return weighted_mean(soft_iou_cost(torch.sigmoid(logits.float()), small), weights)


def _reorder(x: Tensor, order: Tensor) -> Tensor:
    """Takes (B, T, O, ...) in the slot order (B, O)."""
    return torch.stack([clip[:, o] for clip, o in zip(x, order, strict=True)])
