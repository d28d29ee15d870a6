"""What a run shows and keeps while it trains: a row of metrics an epoch, and progress with time left."""

import csv
import math
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
from vos_lightning.errors import InputError
from vos_lightning.models.training import TrainingModule
from vos_lightning.processes import Interruption
from vos_lightning.runs.folder import TrainingFolder

LOSS_STEPS = 10


def say(line: str) -> None:
    """Prints a line over whatever progress bar stands there."""
    # In one write, so that runs side by side do not mix their lines.
    print(("\r\x1b[K" if sys.stdout.isatty() else "") + f"{line}\n", end="", flush=True)


class History(Callback):
    """Writes metrics.csv, one row an epoch, and losses.csv, the mean training loss of every LOSS_STEPS steps
    and of those left at an epoch's end.

    An interrupted run goes on from the rows of its checkpoint. Training ends at a loss that is not finite,
    found at the latest when a mean is written, and before a checkpoint is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self.losses: list[tuple[int, float]] = []
        self.seconds = 0.0  # of training up to the last checkpoint or epoch
        self._recent: list[Tensor] = []  # losses of the last steps
        self._started = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock where the last stretch stopped."""
        self._started = time.monotonic() - self.seconds
        self._recent = [loss.to(pl_module.device) for loss in self._recent]

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
        """Collects the loss."""
        self._recent.append(outputs["loss"].detach())
        if len(self._recent) == LOSS_STEPS:
            self._add_loss(trainer)

    def _add_loss(self, trainer: Trainer) -> None:
        mean = float(torch.stack(self._recent).mean())
        if not math.isfinite(mean):
            self.check(trainer)
        self.losses.append((trainer.global_step, round(mean, 6)))
        self._recent = []

    def check(self, trainer: Trainer) -> None:
        """Raises InputError, with the clips, if a weight, or a loss since the last mean, is not finite."""
        finite = [bool(loss.isfinite()) for loss in self._recent]
        state = trainer.lightning_module.state_dict().values()
        if all(finite) and all(bool(value.isfinite().all()) for value in state):
            return
        behind = len(finite) - 1 - finite.index(False) if False in finite else 0  # steps ago
        names = trainer.datamodule.names(trainer.current_epoch, trainer.fit_loop.batch_idx - behind)  # type: ignore[attr-defined]
        what = "loss" if False in finite else "weights after it"
        raise InputError(
            f"Step {trainer.global_step - behind}: the {what} must be finite, but the clips were "
            f"{', '.join(names)}; lower optim.lr, set train.gradient_clip, or look at these clips."
        )

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Adds the epoch's row."""
        self.check(trainer)
        if self._recent:
            self._add_loss(trainer)
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.seconds = round(time.monotonic() - self._started, 2)
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        row = {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "seconds": self.seconds,
            "lr": rate,
        }
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
        self.seconds = round(time.monotonic() - self._started, 2)
        recent = [loss.cpu() for loss in self._recent]
        return {"rows": self.rows, "losses": self.losses, "recent": recent, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the rows of the checkpoint."""
        self.rows, self.losses = state_dict["rows"], state_dict["losses"]
        self._recent, self.seconds = state_dict["recent"], state_dict["seconds"]


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
        assert isinstance(pl_module, TrainingModule)
        self.bar = tqdm(
            total=pl_module.total_steps,
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
        assert isinstance(pl_module, TrainingModule)
        shown: dict[str, object] = {
            key: f"{float(trainer.callback_metrics[key]):.3f}"
            for key in ("train/loss", "val/loss", "val/JF")
            if key in trainer.callback_metrics
        }
        self.bar.set_postfix(shown)
        if self.bar.disable:
            done, total = trainer.global_step, pl_module.total_steps
            pace = (time.monotonic() - self._started) / max(1, done - self._first_step)
            figures = ", ".join(f"{key} {value}" for key, value in shown.items())
            left = tqdm.format_interval(pace * (total - done))
            say(f"{self.name}: step {done} of {total}, {figures}, {left} left")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Closes the bar."""
        self.bar.close()


class LastCheckpoint(Checkpoint):
    """Writes last.ckpt at every epoch's end, every so many minutes, and once the run is told to end.

    The one before it stays as previous.ckpt. It must be the last callback, so that the checkpoint holds the
    state of all others.

    Args:
        folder: where it writes; its status says at which step.
        minutes: between checkpoints inside an epoch; 0: none there.
        stop: signals, which wait for the present step.
        check: raises if the weights must not be kept.
    """

    def __init__(
        self, folder: TrainingFolder, minutes: float, stop: Interruption, check: Callable[[Trainer], None]
    ) -> None:
        self.folder, self.minutes, self.stop, self.check = folder, minutes, stop, check
        self._written = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock, and lets signals wait."""
        self._written = time.monotonic()
        self.stop.defer()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends the run if it was told to in the epoch before, whose figures all loggers have by now."""
        self.stop.check()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Writes inside an epoch; the last step's checkpoint is the epoch's."""
        assert isinstance(pl_module, TrainingModule)
        if trainer.is_last_batch or trainer.global_step >= pl_module.total_steps:
            return
        due = self.minutes and time.monotonic() - self._written >= 60 * self.minutes
        if due or self.stop.number:
            self.check(trainer)
            self._write(trainer)
            self.stop.check()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes at an epoch's end."""
        self._write(trainer)

    def _write(self, trainer: Trainer) -> None:
        path, new, before = (
            self.folder.checkpoint,
            self.folder.new_checkpoint,
            self.folder.previous_checkpoint,
        )
        if path.is_file():
            before.unlink(missing_ok=True)  # so that a disk holds no more than two
        trainer.save_checkpoint(new)
        if path.is_file():
            path.replace(before)
        new.replace(path)
        self.folder.set_status("running", step=trainer.global_step)
        self._written = time.monotonic()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lets signals end the run at once from here on."""
        self.stop.deferred = False
        self.stop.check()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Lets signals end the run at once from here on."""
        self.stop.deferred = False
