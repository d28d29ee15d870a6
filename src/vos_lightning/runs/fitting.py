"""Training of a run with Lightning, which goes on where it was interrupted."""

import logging
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from omegaconf import DictConfig
from pytorch_lightning import Trainer

from vos_lightning.data.modules import VideoData
from vos_lightning.errors import InputError
from vos_lightning.layers.weights import WholeFiles, check_resumable
from vos_lightning.models.training import ClipTask
from vos_lightning.processes import Interruption
from vos_lightning.runs.callbacks import BestOfStage, History, LastCheckpoint, Progress, say
from vos_lightning.runs.folder import Run

if TYPE_CHECKING:
    from vos_lightning.runs.wandb_log import RunLogger


class Fitted(NamedTuple):
    """What training took: optimiser steps, and seconds over all its stretches."""

    steps: int = 0
    seconds: float = 0.0


def fit(
    cfg: DictConfig,
    run: Run,
    task: ClipTask,
    data: VideoData,
    device: torch.device,
    progress: Progress,
    logger: "RunLogger | None",
    stop: Interruption,
) -> Fitted:
    """Trains a run from where it stopped and leaves the weights in the run's folder.

    Args:
        cfg: the run's.
        run: whose folder this process holds.
        task, data: set up; `task.total_steps` is set.
        device: where it trains.
        progress: shown.
        logger: of Lightning.
        stop: signals that end training after the present step.

    Raises:
        InputError: a loss that is not finite, data that cannot be read, a folder that cannot be written to.
        Interrupted: a signal.
    """
    history = History(run.folder / "metrics.csv")
    trainer = Trainer(
        accelerator=device.type,
        devices=[device.index] if device.type == "cuda" else 1,
        precision=cfg.train.precision,
        max_epochs=sum(stage.epochs for stage in cfg.train.stages),
        gradient_clip_val=cfg.train.gradient_clip or None,
        callbacks=[
            history,
            progress,
            BestOfStage(run.best_of_stage),
            LastCheckpoint(run, cfg.run.checkpoint_minutes, stop, history.check),
        ],
        plugins=[WholeFiles()],
        logger=logger or False,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(task, datamodule=data, ckpt_path=_resumable(run, task), weights_only=True)
    for path in (run.new_checkpoint, run.previous_checkpoint):
        path.unlink(missing_ok=True)
    return Fitted(trainer.global_step, history.seconds)


def _resumable(run: Run, task: ClipTask) -> Any:
    """The checkpoint to go on from, None for none; one that cannot be used is set aside as NAME.unusable."""
    written = (run.checkpoint, run.new_checkpoint, run.previous_checkpoint)
    there = [path for path in written if path.is_file()]
    while there:
        path = there.pop(0)
        try:
            check_resumable(path, task)
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
