"""What all trainings share: their stages, their optimiser, and what they log.

Shapes: see the modules of each model.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Annotated, Any, ClassVar, NamedTuple

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MeanMetric

from vos_lightning.errors import InputError
from vos_lightning.fields import ASIDE, TRUTH, WEIGHTS, WORD, Where, choice, list_of, or_null, real, whole
from vos_lightning.layers.backbones import Backbone, DeepLab

STABLE = 0.01  # share by which a mean loss must fall to count as falling


class Best(NamedTuple):
    """A rule of `Stage.keep` that picks an epoch.

    figure: what validation logs. sign: 1 where a higher one is better, -1 where a lower one is. words: the
    epoch in words. scored: whether the figure is a score, so that scoring/ decides too which epoch it is.
    """

    figure: str
    sign: int
    words: str
    scored: bool = False


BEST = {
    "val_loss": Best("val/loss", -1, "the epoch of the lowest validation loss"),
    "val_JF": Best("val/JF", 1, "the epoch of the highest validation J&F", scored=True),
}


# Marks of a network's own weights, which mean nothing to a training that starts from others.
FROM_SCRATCH = (Where("train.init_from", None), Where("train.first", None))


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stretch of training; a later stage starts with fresh optimisers.

    epochs: how many it has. patience: it ends early, and leaves its remaining epochs to the next stage if
    there is one, once the epoch's mean training loss has not fallen by 1 % for so many epochs; 0: never.
    keep: the epoch whose weights the next stage starts from, or the last stage gives to be scored: `last`;
    `val_loss`, that of the lowest validation loss; or `val_JF`, that of the highest validation J&F.
    A model whose validation logs other figures names them in `best`, and in a `keep` of its own.
    """

    best: ClassVar[Mapping[str, Best]] = BEST

    epochs: Annotated[int, whole(1, 100_000)]
    patience: Annotated[int, whole(0)] = 0
    keep: Annotated[str, choice("last", *BEST)] = "last"

    @property
    def rule(self) -> Best | None:
        """Which epoch is kept; None for the last."""
        return self.best.get(self.keep)

    @property
    def every_frame(self) -> bool:
        """Whether its clips run over frames without annotation too."""
        return False


@dataclass(frozen=True, kw_only=True)
class LossStage(Stage):
    """A stage of a model whose validation logs a loss and no scores: `keep` is `last` or `val_loss`."""

    best: ClassVar[Mapping[str, Best]] = {"val_loss": BEST["val_loss"]}

    keep: Annotated[str, choice("last", "val_loss")] = "last"


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a model is trained; a model's own subclass says of which stages, and adds its fields.

    first: overrides of a run that is trained first, from whose weights this one starts. first_data: overrides
    that choose its data; None takes this run's, unless `first` chooses data. stages: they follow one another.
    max_steps: training stops after so many steps; -1 lets all stages end, and 0 takes the weights of `first`
    or `init_from` as they are. gradient_clip: the norm that gradients are clipped to; 0 leaves them.
    precision: as Lightning names it. tf32: see `devices.choose_arithmetic`. init_from: the weights that
    training starts from.

    Raises InputError where there are two sorts of weights to start from, or none and max_steps is 0.
    """

    stages: tuple[Stage, ...]
    first: Annotated[tuple[str, ...] | None, or_null(list_of(WORD)), ASIDE] = None
    first_data: Annotated[tuple[str, ...] | None, or_null(list_of(WORD)), ASIDE] = None
    max_steps: Annotated[int, whole(0, also=-1)] = -1
    gradient_clip: Annotated[float, real(0)] = 0.0
    precision: Annotated[str, choice("32-true", "bf16-mixed")] = "32-true"
    tf32: Annotated[bool, TRUTH] = False
    init_from: Annotated[str | None, or_null(WORD), WEIGHTS] = None

    def __post_init__(self) -> None:
        if self.first and self.init_from:
            raise InputError(
                "train.init_from: train.first is set too, whose weights count; set one of them to null."
            )
        if self.max_steps == 0 and not (self.first or self.init_from):
            raise InputError(
                "train.max_steps=0: trains nothing, so it needs weights to score; set train.first or "
                "train.init_from."
            )

    @property
    def epochs(self) -> int:
        """How many epochs all stages have together."""
        return sum(stage.epochs for stage in self.stages)

    @property
    def every_frame(self) -> bool:
        """Whether the clips of any stage run over frames without annotation too."""
        return any(stage.every_frame for stage in self.stages)


@dataclass(frozen=True, kw_only=True)
class Optimisation:
    """Adam in two groups (Ventura et al. 2019, released code).

    lr: the learning rate of everything but the backbones. backbone_lr: that of the backbones. weight_decay:
    for both groups. schedule: `constant`, or `cosine`, which falls to 0 at the last step. warmup_steps: in
    how many steps the rates rise from 0.
    """

    lr: Annotated[float, real(0)] = 1e-3
    backbone_lr: Annotated[float, real(0)] = 1e-6
    weight_decay: Annotated[float, real(0)] = 1e-6
    schedule: Annotated[str, choice("constant", "cosine")] = "constant"
    warmup_steps: Annotated[int, whole(0)] = 0

    def factor(self, step: int, total: int) -> float:
        """The learning rate at a step as a share of the initial one."""
        rise = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        fall = 0.5 * (1 + math.cos(math.pi * min(1.0, step / total))) if self.schedule == "cosine" else 1.0
        return rise * fall


class TrainingModule(LightningModule):
    """Trains a network, one optimiser step a batch.

    Args:
        network: what is trained.
        training: see `Training`.
        optimisation: see `Optimisation`.
    """

    def __init__(self, network: nn.Module, training: Training, optimisation: Optimisation) -> None:
        super().__init__()
        self.model, self.training_fields, self.optimisation = network, training, optimisation
        self.stages = training.stages
        self.ends = list(accumulate(stage.epochs for stage in self.stages))
        self.entered = 0  # the stage that has begun
        self.losses: list[float] = []  # of its epochs
        self.total_steps = 1  # of all stages, known once the data is
        self.train_loss = MeanMetric(nan_strategy="disable")

    def stage_at(self, epoch: int) -> int:
        """Index of the stage that an epoch belongs to."""
        return next((i for i, end in enumerate(self.ends) if epoch < end), len(self.ends) - 1)

    def every_frame(self, epoch: int) -> bool:
        """Whether the clips of an epoch run over frames without annotation too."""
        return self.stages[self.stage_at(epoch)].every_frame

    def setup(self, stage: str) -> None:
        """Counts the steps of all stages."""
        fields = self.training_fields
        steps = self.trainer.datamodule.train_batches * fields.epochs  # type: ignore[attr-defined]
        self.total_steps = steps if fields.max_steps < 0 else min(steps, fields.max_steps)

    @property
    def step_seed(self) -> int:
        """What decides the draws of a step: the run's seed and the step."""
        return int(self.trainer.datamodule.seed) * 2**24 + self.global_step  # type: ignore[attr-defined]

    def on_train_batch_start(self, *_: Any) -> None:
        """Seeds dropout and the like for a step, so that a resumed run draws the same."""
        torch.manual_seed(self.step_seed)

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
        # The trainer's own max_steps would end an epoch a second time where a run goes on.
        self.trainer.should_stop = self.trainer.global_step >= self.total_steps

    def on_train_epoch_end(self) -> None:
        """Ends the stage if its loss is stable."""
        index = self.stage_at(self.current_epoch)
        patience = self.stages[index].patience
        self.losses.append(float(self.trainer.callback_metrics["train/loss"]))
        if patience and self.is_stable(patience):
            self.ends[index] = min(self.ends[index], self.current_epoch + 1)
            self.trainer.should_stop |= self.stages[index] is self.stages[-1]

    def is_stable(self, patience: int) -> bool:
        """Whether the mean training loss has not fallen by 1 % for so many epochs; 0 takes any for stable."""
        before = self.losses[: max(0, len(self.losses) - patience)]
        return not patience or (bool(before) and min(self.losses[-patience:]) > (1 - STABLE) * min(before))

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
        # The trainer's own estimated_stepping_batches would start the loader processes before Lightning knows
        # where a run goes on.
        schedule = LambdaLR(optimizer, lambda step: self.optimisation.factor(step, self.total_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def optimizer(self, fused: bool = True) -> Adam:
        """Adam over the backbones' parameters and over all others."""
        settings = self.optimisation
        backbones = [m for m in self.model.modules() if isinstance(m, Backbone | DeepLab)]
        inside = {id(p) for m in backbones for p in m.parameters()}
        groups = [
            {"params": [p for p in self.model.parameters() if id(p) not in inside], "lr": settings.lr},
            {"params": [p for p in self.model.parameters() if id(p) in inside], "lr": settings.backbone_lr},
        ]
        return Adam(groups, weight_decay=settings.weight_decay, fused=fused)
