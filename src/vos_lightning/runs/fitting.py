"""Training of a run with Lightning, which goes on where it was interrupted."""

import logging
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint

from vos_lightning.data.modules import TrainingData
from vos_lightning.errors import InputError
from vos_lightning.layers.weights import load_strictly, read_model_weights
from vos_lightning.models.training import Training, TrainingModule
from vos_lightning.processes import Interruption
from vos_lightning.runs.callbacks import History, LastCheckpoint, Progress, say
from vos_lightning.runs.checkpoints import WholeFiles, check_resumable
from vos_lightning.runs.folder import TrainingFolder
from vos_lightning.runs.run import Run

if TYPE_CHECKING:
    from vos_lightning.runs.wandb_log import RunLogger


class Fitted(NamedTuple):
    """What training took: optimiser steps, and the seconds of all its stretches."""

    steps: int = 0
    seconds: float = 0.0


def fit(
    run: Run,
    module: TrainingModule,
    data: TrainingData,
    device: torch.device,
    progress: Progress,
    logger: "RunLogger | None",
    stop: Interruption,
) -> Fitted:
    """Trains a run from where it stopped and leaves the weights in the training's folder.

    With train.max_steps=0 they are those that it starts from.

    Args:
        run: whose training folder this process holds.
        module, data: what trains, and on what.
        device: where it trains.
        progress: shows how far it is.
        logger: the logger of Lightning, or None.
        stop: signals that end training after the present step.

    Raises:
        InputError: a loss that is not finite, data that cannot be read, a folder that cannot be written to.
        Interrupted: a signal.
    """
    folder, training = run.training, run.settings.experiment.training
    if training.max_steps == 0:
        WholeFiles().save_checkpoint({"state_dict": module.state_dict()}, folder.checkpoint)
        return Fitted()
    history = History(folder.path / "metrics.csv")
    trainer = Trainer(
        accelerator=device.type,
        devices=[device.index] if device.type == "cuda" else 1,
        precision=training.precision,  # type: ignore[arg-type]
        max_epochs=training.epochs,
        gradient_clip_val=training.gradient_clip or None,
        callbacks=[
            history,
            progress,
            BestOfStage(folder.best_of_stage),
            LastCheckpoint(folder, run.settings.machine.checkpoint_minutes, stop, history.check),
        ],
        plugins=[WholeFiles()],
        logger=logger or False,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(module, datamodule=data, ckpt_path=_resumable(folder, module), weights_only=True)
    for path in (folder.new_checkpoint, folder.previous_checkpoint):
        path.unlink(missing_ok=True)
    return Fitted(trainer.global_step, history.seconds)


def kept_checkpoint(folder: TrainingFolder, training: Training) -> Path:
    """The checkpoint that a finished training gives: the epoch that its last stage keeps, see `Stage`.

    A training that ends before a validation has no other than its last.
    """
    best = folder.best_of_stage(len(training.stages) - 1)
    return best if training.stages[-1].rule and best.is_file() else folder.checkpoint


class BestOfStage(Checkpoint):
    """Keeps the best epoch of a stage by its `Stage.keep`, and starts the next stage from its weights.

    Args:
        path: gives the checkpoint's path of a stage by its index.
    """

    def __init__(self, path: Callable[[int], Path]) -> None:
        self.path = path
        self.score: float | None = None  # of the present stage's best epoch, higher is better

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the weights that the stage before kept, where a stage begins."""
        assert isinstance(pl_module, TrainingModule)
        if pl_module.stage_at(trainer.current_epoch) == pl_module.entered:
            return
        if self.score is not None:
            best = self.path(pl_module.entered)
            load_strictly(pl_module.model, read_model_weights(best), best)
        self.score = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the checkpoint of an epoch that is the best so far."""
        assert isinstance(pl_module, TrainingModule)
        stage, figures = pl_module.stages[pl_module.entered], trainer.callback_metrics
        rule = stage.rule
        if rule is not None and rule.figure not in figures and any(f.startswith("val/") for f in figures):
            raise InputError(
                f"train.stages: keep={stage.keep}: validation logs no {rule.figure}; choose another rule."
            )
        if rule is not None and rule.figure in figures:
            score = rule.sign * float(trainer.callback_metrics[rule.figure])
            if math.isfinite(score) and (self.score is None or score > self.score):
                self.score = score
                trainer.save_checkpoint(self.path(pl_module.entered))

    def state_dict(self) -> dict[str, Any]:
        """Kept in the checkpoint."""
        return {"score": self.score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the score of the checkpoint."""
        self.score = state_dict["score"]


def _resumable(folder: TrainingFolder, module: TrainingModule) -> Any:
    """The checkpoint to go on from, or None; one that cannot be used is set aside as NAME.unusable."""
    written = (folder.checkpoint, folder.new_checkpoint, folder.previous_checkpoint)
    there = [path for path in written if path.is_file()]
    while there:
        path = there.pop(0)
        try:
            check_resumable(path, module)
            return path
        except InputError as error:
            path.replace(path.with_suffix(".unusable"))
            say(f"{error} The run {f'goes on from {there[0].name}' if there else 'begins anew'}.")
    return None


def quiet() -> None:
    """Leaves Lightning's advice out of the output."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for advice in (
        ".*does not have many workers.*",
        ".*exists and is not empty.*",
        ".*number of training batches.*",
        ".*your dataloader is not resumable.*",  # its sampler is
        ".*`isinstance.treespec, LeafSpec.`.*",  # Lightning's own use of torch
    ):
        warnings.filterwarnings("ignore", message=advice)
