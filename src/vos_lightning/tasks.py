"""Training as LightningModules: one-shot and zero-shot video object segmentation.

Shapes: B batch, T frames of a clip, O object slots, H W pixels of the network's input.
"""

import math
from dataclasses import dataclass

import torch
from pytorch_lightning import LightningModule
from torch import Tensor
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR

from vos_lightning.data.clips import Clip
from vos_lightning.errors import InputError
from vos_lightning.losses import soft_iou_cost, weighted_mean
from vos_lightning.matching import match_slots
from vos_lightning.models.rvos import RVOS
from vos_lightning.propagation import merge
from vos_lightning.scoring.measures import boundary_f, jaccard


@dataclass(frozen=True)
class Stage:
    """A stretch of training with its own previous masks; a later stage starts with fresh optimisers.

    epochs: its length. previous_mask: `ground_truth`, the true mask of the frame before, or `inferred`, the
    network's own, soft and detached.
    """

    epochs: int
    previous_mask: str = "inferred"

    def __post_init__(self) -> None:
        if self.previous_mask not in ("ground_truth", "inferred"):
            raise InputError(
                f"train.stages: previous_mask={self.previous_mask}: choose ground_truth or inferred."
            )


@dataclass(frozen=True)
class Optimisation:
    """Adam in two groups (Ventura et al. 2019, released code).

    lr, backbone_lr: of everything but the backbone, and of the backbone. weight_decay: of both. schedule:
    `constant`, or `cosine` down to 0 at the last step. warmup_steps: of a linear rise from 0.
    """

    lr: float = 1e-3
    backbone_lr: float = 1e-6
    weight_decay: float = 1e-6
    schedule: str = "constant"
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        if self.schedule not in ("constant", "cosine"):
            raise InputError(f"optim.schedule={self.schedule}: unknown; choose constant or cosine.")

    def factor(self, step: int, total: int) -> float:
        """The learning rate at a step as a share of the initial one."""
        rise = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        fall = 0.5 * (1 + math.cos(math.pi * min(1.0, step / total))) if self.schedule == "cosine" else 1.0
        return rise * fall


class Segmentation(LightningModule):
    """Trains a model over clips; one optimiser step per clip batch, costs summed over the clip's frames.

    Args:
        model: one-shot or zero-shot.
        optimisation: see `Optimisation`.
        stages: one after the other; their epochs add up to the run's.
        auxiliary_weight: of the auxiliary cost (STESA-GRU, eq. 10), if the model has the head.
        unroll: frames through which gradients flow; 0 is the whole clip.
        match_valid_only: of `match_slots`, for zero-shot models.
        compile: compiles the encoder with torch.compile.
    """

    def __init__(
        self,
        model: RVOS,
        optimisation: Optimisation,
        stages: list[Stage],
        auxiliary_weight: float = 1.0,
        unroll: int = 0,
        match_valid_only: bool = False,
        compile: bool = False,
    ) -> None:
        super().__init__()
        self.model, self.optimisation, self.stages = model, optimisation, stages
        self.auxiliary_weight, self.unroll, self.match_valid_only = auxiliary_weight, unroll, match_valid_only
        if compile:
            model.encoder.compile()

    def stage_at(self, epoch: int) -> int:
        """Index of the stage that an epoch belongs to."""
        ends = [sum(s.epochs for s in self.stages[: i + 1]) for i in range(len(self.stages))]
        return next((i for i, end in enumerate(ends) if epoch < end), len(ends) - 1)

    def on_train_epoch_start(self) -> None:
        """Clears Adam's moments where a new stage starts."""
        epoch = self.current_epoch
        if epoch and self.stage_at(epoch) != self.stage_at(epoch - 1):
            for optimizer in self.trainer.optimizers:
                optimizer.state.clear()

    def clip_loss(self, clip: Clip, previous_mask: str) -> tuple[Tensor, Tensor]:
        """Unrolls the model over a batch of clips.

        Returns:
            The loss, and the masks (B, T, O, H, W) in 0..1 of the slots in use (one-shot) or of all.
        """
        one_shot = self.model.mask_input
        slots = clip.slots_in_use() if one_shot else clip.counts.shape[-1]
        truth, counts = clip.masks(slots), clip.counts[..., :slots]
        size = clip.labels.shape[-2:]
        previous, state, loss, outputs = truth[:, 0], None, torch.zeros((), device=truth.device), []
        for t, features in enumerate(self.model.encode(clip.frames)):
            if state is not None and self.unroll and t % self.unroll == 0:
                state = tuple(h.detach() for h in state)
            step = self.model.step(features, slots, size, previous if one_shot else None, state)
            state, masks = step.state, torch.sigmoid(step.logits.float())
            if t == 0 and not one_shot:
                order = match_slots(masks, truth[:, 0], counts.amax(1), self.match_valid_only)
                truth, counts = _reorder(truth, order), _reorder(counts, order)
            loss = loss + weighted_mean(soft_iou_cost(masks, truth[:, t]), counts[:, t])
            if step.auxiliary is not None:
                loss = loss + self.auxiliary_weight * _auxiliary_cost(
                    step.auxiliary, truth[:, t], counts[:, t]
                )
            previous = truth[:, t] if previous_mask == "ground_truth" else masks.detach()
            outputs.append(masks)
        return loss, torch.stack(outputs, 1)

    def training_step(self, clip: Clip, _: int) -> Tensor:
        """One step; logs train/loss, the mean cost of a frame."""
        stage = self.stages[self.stage_at(self.current_epoch)]
        loss, _masks = self.clip_loss(clip, stage.previous_mask)
        self._log("train/loss", loss.detach() / clip.labels.shape[1], len(clip.labels))
        return loss

    def validation_step(self, clip: Clip, _: int) -> None:
        """Logs val/loss, and for one-shot models val/J, val/F and val/JF of the frames after the first."""
        loss, masks = self.clip_loss(clip, "inferred")
        batch, length = clip.labels.shape[:2]
        self._log("val/loss", loss / length, batch)
        if not self.model.mask_input:
            return
        size = tuple(clip.labels.shape[-2:])
        pairs = []
        for b in range(batch):
            ids = [int(i) + 1 for i in clip.counts[b, 0].nonzero()]
            for t in range(1, length):
                truth, predicted = clip.labels[b, t].cpu().numpy(), merge(masks[b, t], size, "painter")
                pairs += [(truth == i, predicted == i) for i in ids]
        if pairs:
            j, f = (sum(measure(*p) for p in pairs) / len(pairs) for measure in (jaccard, boundary_f))
            for name, value in (("J", j), ("F", f), ("JF", (j + f) / 2)):
                self._log(f"val/{name}", value, len(pairs))

    def _log(self, name: str, value: Tensor | float, weight: int) -> None:
        self.log(name, value, batch_size=weight, on_step=False, on_epoch=True, sync_dist=True)

    def configure_optimizers(self):
        """Adam in two groups, and the schedule per step."""
        # Lightning clips no gradients of a fused optimizer in mixed precision.
        mixed = "mixed" in str(self.trainer.precision)
        optimizer = self.optimizer(fused=not (mixed and self.trainer.gradient_clip_val))
        total = int(self.trainer.estimated_stepping_batches)
        schedule = LambdaLR(optimizer, lambda step: self.optimisation.factor(step, total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def optimizer(self, fused: bool = True) -> Adam:
        """Adam over the backbone's parameters and over all others."""
        settings, backbone = self.optimisation, list(self.model.encoder.backbone.parameters())
        inside = {id(p) for p in backbone}
        others = [p for p in self.model.parameters() if id(p) not in inside]
        groups = [{"params": others, "lr": settings.lr}, {"params": backbone, "lr": settings.backbone_lr}]
        return Adam(groups, weight_decay=settings.weight_decay, fused=fused)


def _auxiliary_cost(logits: Tensor, truth: Tensor, counts: Tensor) -> Tensor:
    """Soft IoU of the auxiliary masks (B, O, h, w) against the truth (B, O, H, W) at that size."""
    small = torch.nn.functional.interpolate(truth, size=logits.shape[-2:], mode="nearest")
    return weighted_mean(soft_iou_cost(torch.sigmoid(logits.float()), small), counts)


def _reorder(x: Tensor, order: Tensor) -> Tensor:
    """Takes (B, T, O, ...) in the slot order (B, O)."""
    return torch.stack([clip[:, o] for clip, o in zip(x, order, strict=True)])
