"""The course of RSIS's training: it begins with masks and takes up the other terms as it goes on."""

import math
from typing import Any

from vos_lightning.models.rsis.fields import RSISTraining

FIRST_STEPS = 2  # of the curriculum


class Course:
    """What the loss counts at present; the released code changes it on plateaus and in given epochs.

    Args:
        training: see `RSISTraining`.
        steps: objects that are looked for in the end.
        boxes: whether there is a box head.

    Attributes:
        entered: which of `backbone`, `box`, `class` and `stop` have.
        steps: objects that are looked for at present.
    """

    def __init__(self, training: RSISTraining, steps: int, boxes: bool) -> None:
        self.training, self.most = training, steps
        self.starts = {
            "backbone": training.finetune_after,
            "box": training.box_loss_after if boxes else -1,
            "class": training.class_loss_after,
            "stop": training.stop_loss_after,
        }
        self.entered: list[str] = []
        self.steps = min(FIRST_STEPS, steps) if training.curriculum else steps
        self.best, self.waited = math.inf, 0

    @property
    def ever(self) -> list[str]:
        """What is not left out for good."""
        return [name for name, epoch in self.starts.items() if epoch >= 0]

    def begin(self, epoch: int) -> None:
        """Takes up what an epoch, counted from 0, begins with."""
        for name in self.ever:
            if self.starts[name] <= epoch:
                self._enter(name)

    def end(self, loss: float) -> bool:
        """Ends an epoch with the validation loss of what has entered; gives whether training ends with it."""
        if loss < self.best:
            self.best, self.waited = loss, 0
        else:
            self.waited += 1
        for name in ("box", "class", "step", "backbone", "stop"):
            if self.waited > self.training.patience:
                self._enter(name)
        return 0 < self.training.end_patience < self.waited

    def _enter(self, name: str) -> None:
        """Takes up one thing, if it is not there yet; losses are compared anew from then on."""
        training = self.training
        if name == "step" and self.steps < self.most:
            self.steps += 1
        elif name in self.ever and name not in self.entered:
            if name == "stop" and training.curriculum and self.steps <= training.min_steps:
                return
            self.entered.append(name)
        else:
            return
        self.best, self.waited = math.inf, 0

    def state_dict(self) -> dict[str, Any]:
        """Kept in a checkpoint."""
        return {key: getattr(self, key) for key in ("entered", "steps", "best", "waited")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up the course of a checkpoint."""
        for key, value in state.items():
            setattr(self, key, value)
