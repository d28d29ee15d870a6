"""What all training tasks share: stages, optimisation, logging."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MeanMetric

from vos_lightning.errors import InputError, one_of
from vos_lightning.layers.backbones import Backbone

STABLE = 0.01  # share by which a mean loss must fall to count as falling
# Rules of `Stage.keep` that pick an epoch: the validation figure, and the sign of what is better.
BEST = {"val_loss": ("val/loss", -1), "val_JF": ("val/JF", 1)}


@dataclass(frozen=True)
class Stage:
    """A stretch of training; a later stage starts with fresh optimisers.

    epochs: its length. patience: it ends early, and leaves its remaining epochs to the next stage if there is
    one, once the epoch's mean training loss has not fallen by 1 % for so many epochs; 0: never. keep: the
    epoch whose weights the next stage starts from, or the last stage gives to be scored: `last`; `val_loss`,
    that of the lowest validation loss; or `val_JF`, that of the highest validation J&F.

    Raises InputError for another rule.
    """

    epochs: int
    patience: int = 0
    keep: str = "last"

    def __post_init__(self) -> None:
        one_of("train.stages: keep", self.keep, ("last", *BEST))


@dataclass(frozen=True)
class Optimisation:
    """Adam in two groups (Ventura et al. 2019, released code).

    lr, backbone_lr: of everything but the backbones, and of these. weight_decay: of both. schedule:
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


class ClipTask(LightningModule):
    """Trains a model over clips, one optimiser step a batch.

    Args:
        model: what is trained.
        optimisation: see `Optimisation`.
        stages: one after the other; their epochs add up to the run's.
    """

    def __init__(self, model: nn.Module, optimisation: Optimisation, stages: Sequence[Stage]) -> None:
        super().__init__()
        self.model, self.optimisation, self.stages = model, optimisation, stages
        self.ends = [sum(s.epochs for s in stages[: i + 1]) for i in range(len(stages))]
        self.entered = 0  # the stage that has begun
        self.losses: list[float] = []  # of its epochs
        self.total_steps = 1  # of all stages; set by what trains
        self.train_loss = MeanMetric(nan_strategy="disable")

    def stage_at(self, epoch: int) -> int:
        """Index of the stage that an epoch belongs to."""
        return next((i for i, end in enumerate(self.ends) if epoch < end), len(self.ends) - 1)

    def on_train_epoch_start(self) -> None:
        """Clears Adam's moments where a new stage begins, and not where a run goes on inside it."""
        self.train_loss.reset()
        stage = self.stage_at(self.current_epoch)
        if stage != self.entered:
            self.entered, self.losses = stage, []
            for optimizer in self.trainer.optimizers:
                optimizer.state.clear()

    def on_train_start(self) -> None:
        """Does nothing more where a run goes on that has taken all its steps or ended its last stage."""
        self.on_train_batch_end()
        self.trainer.should_stop |= self.current_epoch >= self.ends[-1]

    def on_train_batch_end(self, *_: Any) -> None:
        """Ends training after the last step, which may be inside an epoch."""
        # Not by the trainer's max_steps, with which Lightning ends an epoch again where a run goes on.
        self.trainer.should_stop = self.trainer.global_step >= self.total_steps

    def on_train_epoch_end(self) -> None:
        """Ends the stage if its loss is stable."""
        index, patience = (stage := self.stage_at(self.current_epoch)), self.stages[stage].patience
        self.losses.append(float(self.trainer.callback_metrics["train/loss"]))
        before = self.losses[:-patience] if patience else []
        if before and min(self.losses[-patience:]) > (1 - STABLE) * min(before):
            self.ends[index] = min(self.ends[index], self.current_epoch + 1)
            self.trainer.should_stop |= self.stages[index] is self.stages[-1]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps where stages ended, which one has begun, and the mean loss of an epoch that has not ended."""
        checkpoint["train_loss"] = self.train_loss.metric_state
        checkpoint["stages"] = {"ends": self.ends, "entered": self.entered, "losses": self.losses}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes up where stages ended, which one had begun, and the mean loss."""
        for name, value in checkpoint["train_loss"].items():
            setattr(self.train_loss, name, value)
        stages = checkpoint["stages"]
        self.ends, self.entered, self.losses = stages["ends"], stages["entered"], stages["losses"]

    def log_loss(self, loss: Tensor) -> None:
        """Logs the epoch's mean of train/loss, to which each batch gives one figure."""
        self.train_loss.update(loss.detach())
        self.log("train/loss", self.train_loss, on_step=False, on_epoch=True)

    def log_mean(self, name: str, value: Tensor | float, weight: int) -> None:
        """Logs the epoch's mean of a figure, a batch counting by its weight."""
        self.log(name, value, batch_size=weight, on_step=False, on_epoch=True, sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam in two groups, and the schedule per step."""
        # Lightning clips no gradients of a fused optimizer in mixed precision.
        mixed = "mixed" in str(self.trainer.precision)
        optimizer = self.optimizer(fused=not (mixed and self.trainer.gradient_clip_val))
        # Not the trainer's estimated_stepping_batches, for which Lightning starts the loader processes before
        # it knows where a run goes on.
        schedule = LambdaLR(optimizer, lambda step: self.optimisation.factor(step, self.total_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def optimizer(self, fused: bool = True) -> Adam:
        """Adam over the backbones' parameters and over all others."""
        settings = self.optimisation
        inside = {id(p) for m in self.model.modules() if isinstance(m, Backbone) for p in m.parameters()}
        groups = [
            {"params": [p for p in self.model.parameters() if id(p) not in inside], "lr": settings.lr},
            {"params": [p for p in self.model.parameters() if id(p) in inside], "lr": settings.backbone_lr},
        ]
        return Adam(groups, weight_decay=settings.weight_decay, fused=fused)
