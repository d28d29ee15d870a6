"""What a run and a sweep send to Weights & Biases. Imported only by a run that logs to it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import wandb
from pytorch_lightning.loggers import WandbLogger

from vos_lightning.data.images import Shown
from vos_lightning.runs.run import Run
from vos_lightning.runs.settings import Dashboard, as_values
from vos_lightning.scoring.rules import Rules

Mode = Literal["online", "offline", "disabled"]


def mode(wanted: str | None) -> Mode:
    """`wanted` if it is given; else online with an account (a key or a login), offline without."""
    return cast(Mode, wanted) if wanted else ("online" if wandb.login(prompt=False) else "offline")


class RunLogger(WandbLogger):
    """A run's curves and result. The folders' names are the id, so that an interrupted run goes on.

    Args:
        run: its tags are the data set, the model, and the fields that the model names.
        dashboard: the project.
        group: the sweep.
    """

    def __init__(self, run: Run, dashboard: Dashboard, group: str | None) -> None:
        experiment = run.settings.experiment
        fields, name = experiment.fields, run.name.replace("/", "-")
        parts = [f"{tag}-{getattr(fields, tag)}" for tag in experiment.model.tags]
        super().__init__(
            project=dashboard.project,
            save_dir=run.training.path,
            id=name,
            name=name,
            group=group,
            tags=[experiment.data_set.name, fields.name, *parts],
            config=as_values(experiment),
            mode=mode(dashboard.mode),
            resume="allow",
            settings=wandb.Settings(silent=True),
        )

    def log_result(self, result: dict[str, Any], rules: Rules, shown: Mapping[str, Sequence[Shown]]) -> None:
        """Logs the headline of the scored split, and pictures of some samples by their names."""
        scores = {f"{result['split']}/{key}": result["scores"][key] for key in rules.headline.values()}
        self.experiment.summary.update(scores)
        for name, pictures in shown.items():
            self.experiment.log({f"masks/{name}": [_overlay(*picture) for picture in pictures]})

    def close(self) -> None:
        """Ends the run, so that the next one in this process gets its own."""
        if self._experiment is not None:  # which a run that only waited for another one has not
            self.experiment.finish()


def _overlay(caption: str, frame: np.ndarray, ids: np.ndarray) -> wandb.Image:
    names = {int(i): f"object {i}" for i in np.unique(ids) if i}
    masks = {"prediction": {"mask_data": ids, "class_labels": names}}
    return wandb.Image(frame, masks=masks, caption=caption)


def log_table(
    dashboard: Dashboard, folder: Path, name: str, columns: list[str], rows: list[list[Any]]
) -> None:
    """Logs a finished table as a run of its own in the sweep's group."""
    with wandb.init(
        project=dashboard.project,
        dir=folder,
        name=name,
        group=name,
        job_type="table",
        mode=mode(dashboard.mode),
        settings=wandb.Settings(silent=True),
    ) as run:
        run.log({name: wandb.Table(columns=[*columns], data=rows)})
