"""What a run shows and keeps while it trains: a row of metrics an epoch, and progress with time left."""

import csv
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from torch import Tensor
from tqdm import tqdm

from vos_lightning.atomic import replacing
from vos_lightning.checkpoints import load_strictly, read_model_weights
from vos_lightning.tasks.common import BEST, ClipTask

LOSS_STEPS = 10


def say(line: str) -> None:
    """Prints a line over whatever progress bar stands there."""
    # In one write, so that runs side by side do not mix their lines.
    print(("\r\x1b[K" if sys.stdout.isatty() else "") + f"{line}\n", end="", flush=True)


class History(Callback):
    """Writes metrics.csv, one row an epoch, and losses.csv, the mean training loss of every LOSS_STEPS steps
    and of those left at an epoch's end.

    An interrupted run goes on from the rows of its checkpoint.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self.losses: list[tuple[int, float]] = []
        self._recent: list[Tensor] = []
        self._started = 0.0

    @property
    def seconds(self) -> float:
        """Training time up to the last finished epoch, seconds."""
        return self.rows[-1]["seconds"] if self.rows else 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock where the last stretch stopped."""
        self._started = time.monotonic() - self.seconds

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
        """Collects the loss."""
        self._recent.append(outputs["loss"].detach())
        if len(self._recent) == LOSS_STEPS:
            self._add_loss(trainer.global_step)

    def _add_loss(self, step: int) -> None:
        self.losses.append((step, round(float(torch.stack(self._recent).mean()), 6)))
        self._recent = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Adds the epoch's row."""
        if self._recent:
            self._add_loss(trainer.global_step)
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        seconds = round(time.monotonic() - self._started, 2)
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        row = {"epoch": trainer.current_epoch, "step": trainer.global_step, "seconds": seconds, "lr": rate}
        self.rows.append(row | metrics)
        self.write()

    def write(self) -> None:
        """Writes both files. Raises InputError if that fails."""
        with replacing(self.path) as part, part.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(dict.fromkeys(key for row in self.rows for key in row)))
            writer.writeheader()
            writer.writerows(self.rows)
        with replacing(self.path.with_name("losses.csv")) as part, part.open("w", newline="") as file:
            csv.writer(file).writerows([("step", "loss"), *self.losses])

    def state_dict(self) -> dict[str, Any]:
        """Kept in the checkpoint."""
        return {"rows": self.rows, "losses": self.losses}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the rows of the checkpoint."""
        self.rows, self.losses = state_dict["rows"], state_dict["losses"]


class Progress(Callback):
    """A bar over all steps of a run with the time left; a line an epoch where there is no terminal.

    Args:
        name: shown in front.
        position: line of the bar, for runs side by side.
    """

    def __init__(self, name: str, position: int) -> None:
        self.name, self.position = name, position

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Opens the bar at the step where training starts."""
        self.bar = tqdm(
            total=int(trainer.estimated_stepping_batches),
            initial=trainer.global_step,
            desc=self.name,
            position=self.position,
            leave=False,
            unit="step",
            dynamic_ncols=True,
            disable=not sys.stderr.isatty(),
        )
        self._started, self._first_step = time.monotonic(), trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Moves the bar on."""
        self.bar.update(trainer.global_step - self.bar.n)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Shows the epoch's loss and validation figures."""
        shown: dict[str, object] = {
            key: f"{float(trainer.callback_metrics[key]):.3f}"
            for key in ("train/loss", "val/loss", "val/JF")
            if key in trainer.callback_metrics
        }
        self.bar.set_postfix(shown)
        if self.bar.disable:
            done, total = trainer.global_step, int(trainer.estimated_stepping_batches)
            pace = (time.monotonic() - self._started) / max(1, done - self._first_step)
            figures = ", ".join(f"{key} {value}" for key, value in shown.items())
            left = tqdm.format_interval(pace * (total - done))
            say(f"{self.name}: step {done} of {total}, {figures}, {left} left")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Closes the bar."""
        self.bar.close()


class BestOfStage(Checkpoint):
    """Keeps the best epoch of a stage by its `Stage.keep`, and starts the next stage from its weights.

    Args:
        path: of the checkpoint of a stage, given its index.
    """

    def __init__(self, path: Callable[[int], Path]) -> None:
        self.path = path
        self.score: float | None = None  # of the present stage's best epoch, higher is better

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the weights that the stage before kept, where a stage begins."""
        assert isinstance(pl_module, ClipTask)
        if pl_module.stage_at(trainer.current_epoch) == pl_module.entered:
            return
        if self.score is not None:
            best = self.path(pl_module.entered)
            load_strictly(pl_module.model, read_model_weights(best), best)
        self.score = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the checkpoint of an epoch that is the best so far."""
        assert isinstance(pl_module, ClipTask)
        figure, sign = BEST.get(pl_module.stages[pl_module.entered].keep, ("", 1))
        if figure in trainer.callback_metrics:
            score = sign * float(trainer.callback_metrics[figure])
            if self.score is None or score > self.score:
                self.score = score
                trainer.save_checkpoint(self.path(pl_module.entered))

    def state_dict(self) -> dict[str, Any]:
        """Kept in the checkpoint."""
        return {"score": self.score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the score of the checkpoint."""
        self.score = state_dict["score"]
