"""Rows of frames of chosen videos, with the masks of chosen runs and of the annotation laid over them.

Shapes: h w pixels. A frame is (h, w, 3) uint8 RGB, a mask (h, w) uint8 of object ids.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from vos_lightning.data.images import read_mask
from vos_lightning.data.videos import Video
from vos_lightning.devices import choose_arithmetic, choose_device
from vos_lightning.errors import InputError
from vos_lightning.report.entries import holds
from vos_lightning.report.plots import Strip, strip_sheet
from vos_lightning.report.spec import StripFields
from vos_lightning.report.tables import Table
from vos_lightning.runs.load import load_run
from vos_lightning.runs.run import Run

CHOSEN = {
    "gains": "where the last row gains most over the first",
    "instances": "with most objects",
    "first": "first of the split",
}


def strips(table: Table, fields: StripFields, path: Path) -> list[str]:
    """Draws rows of frames into a file and returns lines that name it; none while no run for it is
    finished, or for gains not two.

    Raises InputError for masks, frames or weights that cannot be read, or a split without videos.
    """
    runs = _runs(table, fields)
    if len(runs) < (2 if fields.videos == "gains" else 1) and fields.rows != {}:
        return []
    split = getattr(table.experiment.data_set, f"{fields.split}_split")
    there = [v for v in table.experiment.data_set.samples(split) if isinstance(v, Video)]
    videos = chosen(there, list(runs.values()), fields)
    if not videos:
        raise InputError(f"{path}: {split} has no video with results for it; score again.")
    groups = {video.name: list(strips_of(video, runs, fields)) for video in videos}
    strip_sheet(path, _named(groups))
    videos_shown = f"{'video' if len(videos) == 1 else 'videos'} {', '.join(groups)} of {split}"
    lines = [f"Frames ({fields.figure}), {videos_shown}, {CHOSEN[fields.videos]}: {path}"]
    if any(_pastes(run) for run in runs.values()):
        lines.append("Rows that are told first masks show them where objects start.")
    return lines


def _pastes(run: Run) -> bool:
    """Whether the masks that a run writes hold the first ones that it is given."""
    experiment = run.settings.experiment
    return experiment.given.has_masks and getattr(experiment.prediction, "paste_given", True)


def _runs(table: Table, fields: StripFields) -> dict[str, Run]:
    """The first finished run of each row that is shown, by its label."""
    if fields.rows is None:
        return {row.label: row.first for row in table.rows if row.first is not None}
    return {
        label: row.first
        for label, wanted in fields.rows.items()
        for row in table.rows
        if row.first is not None and holds(wanted, row.fields)
    }


def chosen(videos: Sequence[Video], runs: Sequence[Run], fields: StripFields) -> list[Video]:
    """The videos of a split that are shown, see `StripFields.videos`; equal ones stay in order."""
    if fields.videos == "instances":
        videos = sorted(videos, key=lambda video: -len(video.objects))
    if fields.videos == "gains":
        before, after = (_means(run) for run in (runs[0], runs[-1]))
        scored = [video for video in videos if video.name in before.keys() & after.keys()]
        videos = sorted(scored, key=lambda video: before[video.name] - after[video.name])
    return list(videos[: fields.count])


def _means(run: Run) -> dict[str, float]:
    """The mean J of each scored video."""
    result = run.result()
    assert result is not None
    found: dict[str, list[float]] = {}
    for name, scores in result["scores"].get("per_object", {}).items():
        found.setdefault(name.rpartition("_")[0], []).append(scores["J"])
    return {name: float(np.mean(values)) for name, values in found.items()}


def strips_of(video: Video, runs: Mapping[str, Run], fields: StripFields) -> Iterator[Strip]:
    """Yields the strips of one video: what `fields.above` names, then the masks of each run by its label."""
    last = len(video.asked) - 1
    times = sorted({video.asked[round(i * last / (fields.columns - 1))] for i in range(fields.columns)})
    frames = [video.frame(t) for t in times]
    for name in fields.above:
        if name == "frames":
            yield Strip(name, frames, [np.zeros(frame.shape[:2], np.uint8) for frame in frames])
        elif all(video.masks[t] is not None for t in times):
            yield Strip(name, frames, [video.mask(t) for t in times])
    for label, run in runs.items():
        masks = (_predicted if fields.split == "train" else _written)(run, video, times)
        yield Strip(label, frames, masks)


def _written(run: Run, video: Video, times: Sequence[int]) -> list[np.ndarray]:
    """The masks of some frames that a run's evaluation has left of a scored video."""
    folder = run.evaluation.masks / video.name
    return [read_mask(folder / f"{video.frames[t].stem}.png") for t in times]


def _predicted(run: Run, video: Video, times: Sequence[int]) -> list[np.ndarray]:
    """The masks of some frames that a run's network finds in a video of another split than the scored one."""
    machine = run.settings.machine
    experiment, network = load_run(run.evaluation.path)
    choose_arithmetic(experiment.prediction.tf32)
    evaluation = experiment.model.evaluation(
        network, experiment, choose_device(machine.accelerator, machine.device)
    )
    with TemporaryDirectory() as folder:
        masks = dict(zip(video.asked, evaluation.write(video, Path(folder)), strict=True))
    return [masks[t] for t in times]


def _named(groups: Mapping[str, Sequence[Strip]]) -> list[Strip]:
    """All strips of some videos, with the names of the videos in their labels where there are several."""
    if len(groups) == 1:
        return list(*groups.values())
    return [
        strip._replace(label=name if len(group) == 1 else f"{name}\n{strip.label}")
        for name, group in groups.items()
        for strip in group
    ]
