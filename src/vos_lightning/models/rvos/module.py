"""Training of RVOS and STESA-GRU, one-shot and zero-shot.

Shapes: B batch, T frames of a clip, O object slots, H W pixels of the network's input.
"""

import torch
from torch import Tensor

from vos_lightning.data.clips import Clip
from vos_lightning.errors import InputError
from vos_lightning.evaluation.merging import Merger
from vos_lightning.layers.losses import soft_iou_cost, weighted_mean
from vos_lightning.layers.matching import match_slots
from vos_lightning.models.rvos.fields import ClipTraining
from vos_lightning.models.rvos.network import RVOS
from vos_lightning.models.training import Optimisation, TrainingModule
from vos_lightning.scoring.measures import boundary_f, jaccard


class MaskTraining(TrainingModule):
    """Trains a model over clips; one optimiser step per clip batch, costs summed over the clip's frames.

    Args:
        network: one-shot or zero-shot.
        training: see `ClipTraining`.
        optimisation: see `Optimisation`.

    Raises:
        InputError: a stage of a zero-shot network that keeps the epoch of a figure it does not have.
    """

    model: RVOS
    training_fields: ClipTraining

    def __init__(self, network: RVOS, training: ClipTraining, optimisation: Optimisation) -> None:
        super().__init__(network, training, optimisation)
        if not network.mask_input and any(stage.keep == "val_JF" for stage in training.stages):
            raise InputError(
                "train.stages: keep=val_JF: a zero-shot model has no validation J&F; choose val_loss or last."
            )
        if training.compile:
            network.encoder.compile()

    def clip_loss(self, clip: Clip, previous_mask: str) -> tuple[Tensor, Tensor]:
        """Unrolls the model over a batch of clips.

        Returns:
            The loss, and the masks (B, T, O, H, W) in 0..1 of the slots in use (one-shot) or of all.
        """
        one_shot, fields = self.model.mask_input, self.training_fields
        slots = clip.slots_in_use() if one_shot else clip.weights.shape[-1]
        truth, weights = clip.masks(slots), clip.weights[..., :slots]
        size = clip.labels.shape[-2:]
        previous, state, loss, outputs = truth[:, 0], None, torch.zeros((), device=truth.device), []
        for t, features in enumerate(self.model.encode(clip.frames)):
            if state is not None and fields.unroll and t % fields.unroll == 0:
                state = tuple(h.detach() for h in state)
            step = self.model.step(features, slots, size, previous if one_shot else None, state)
            state, masks = step.state, torch.sigmoid(step.logits.float())
            if t == 0 and not one_shot:
                order = match_slots(masks, truth[:, 0], weights.amax(1), fields.match_valid_only)
                truth, weights = _reorder(truth, order), _reorder(weights, order)
            loss = loss + weighted_mean(soft_iou_cost(masks, truth[:, t]), weights[:, t])
            if step.auxiliary is not None:
                loss = loss + fields.auxiliary_weight * _auxiliary_cost(
                    step.auxiliary, truth[:, t], weights[:, t]
                )
            previous = truth[:, t] if previous_mask == "ground_truth" else masks.detach()
            if not self.model.feeds_unstarted:
                previous = previous * truth[:, : t + 1].amax((1, 3, 4))[..., None, None]
            outputs.append(masks)
        return loss, torch.stack(outputs, 1)

    def previous_mask(self) -> str:
        """See `MaskStage`; that of the present stage."""
        return self.training_fields.stages[self.stage_at(self.current_epoch)].previous_mask

    def training_step(self, clip: Clip, _: int) -> Tensor:
        """One step; logs train/loss, the mean cost of a frame."""
        previous_mask = self.previous_mask()
        loss, _masks = self.clip_loss(clip, previous_mask)
        self.log_loss(loss / clip.labels.shape[1])
        return loss

    def validation_step(self, clip: Clip, _: int) -> None:
        """Logs val/loss, and for one-shot models val/J, val/F and val/JF of the frames after the first.

        Previous masks are those of the stage, as in training (released code).
        """
        previous_mask = self.previous_mask()
        loss, masks = self.clip_loss(clip, previous_mask)
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
