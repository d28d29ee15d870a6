"""What a run and a sweep send to Weights & Biases. Imported only by a run that logs to it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import wandb
from pytorch_lightning.loggers import WandbLogger

from vos_lightning.data.images import read_mask
from vos_lightning.data.videos import Video
from vos_lightning.runs.run import Run
from vos_lightning.runs.settings import Dashboard, as_values

Mode = Literal["online", "offline", "disabled"]

OVERLAYS = 4  # videos shown, three frames each


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

    def log_result(self, result: dict[str, Any], videos: Sequence[Video], masks: Path) -> None:
        """Logs J&F, J and F of the scored split, and masks over frames at a quarter, a half and the end."""
        scores = {f"{result['split']}/{key}": result["scores"][key] for key in ("JF", "J", "F")}
        self.experiment.summary.update(scores)
        for video in videos[:OVERLAYS]:
            asked = video.asked
            times = [asked[len(asked) // 4], asked[len(asked) // 2], asked[-1]]
            images = [_overlay(video, t, masks / video.name) for t in times]
            self.experiment.log({f"masks/{video.name}": images})

    def close(self) -> None:
        """Ends the run, so that the next one in this process gets its own."""
        if self._experiment is not None:  # which a run that only waited for another one has not
            self.experiment.finish()


def _overlay(video: Video, t: int, folder: Path) -> wandb.Image:
    predicted = read_mask(folder / f"{video.frames[t].stem}.png")
    names = {int(i): f"object {i}" for i in np.unique(predicted) if i}
    masks = {"prediction": {"mask_data": predicted, "class_labels": names}}
    return wandb.Image(video.frame(t), masks=masks, caption=f"{video.name}, frame {t}")


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
