"""What stands below a table: curves, counts and pictures from its runs' folders.

A sweep asks for them by `table.reports`: {NAME OF A REPORT: the paper's figure that it follows, in words}.
"""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vos_lightning.data.images import read_mask
from vos_lightning.data.videos import Video
from vos_lightning.errors import InputError
from vos_lightning.report.plots import loss_curves, overlay_sheet, position_curves
from vos_lightning.report.tables import Table
from vos_lightning.report.text import as_text
from vos_lightning.runs.run import Run
from vos_lightning.scoring.youtube_vos import GROUPS

FRAMES_SHOWN = 5


def report(table: Table, stem: Path) -> list[str]:
    """Makes a table's reports from the first seed's finished runs.

    Args:
        table: whose spec asks for some of REPORTS.
        stem: pictures are written to STEM-NAME.png.

    Returns:
        Lines to print, each report's after an empty one.
    """
    runs = {row.label: row.first for row in table.rows if row.first is not None}
    lines = []
    for name, source in table.spec.get("reports", {}).items():
        chosen = {label: run for label, run in runs.items() if _has(run, name)}
        if chosen:
            path = stem.with_name(f"{stem.name}-{name}.png")
            lines += ["", *REPORTS[name](table, chosen, path, source)]
    return lines


def _has(run: Run, report: str) -> bool:
    """Whether a run has what a report shows: scores of YouTube-VOS have curves, a training has losses."""
    if report == "losses":
        return (run.training.path / "losses.csv").is_file()
    return report == "overlays" or report in _scores(run)


def _scores(run: Run) -> dict[str, Any]:
    result = run.result()
    assert result is not None
    return result["scores"]


def _position(table: Table, runs: dict[str, Run], path: Path, source: str) -> list[str]:
    curves = {label: _scores(run)["position"] for label, run in runs.items()}
    limits = next(iter(curves.values()))["limits"]
    lines = [
        [label, group, *("-" if j is None else f"{100 * j:.1f}" for j in curve[f"J_{group}"])]
        for label, curve in curves.items()
        for group in GROUPS
    ]
    position_curves(path, curves)
    columns = ["", "categories", *(f"to {limit:g}" for limit in limits[1:])]
    return [f"J over the relative position in the video ({source}): {path}", "", as_text(columns, lines)]


def _instances(table: Table, runs: dict[str, Run], path: Path, source: str) -> list[str]:
    lines = [
        [label, count, str(found["objects"]), f"{100 * found['J']:.1f}", f"{100 * found['F']:.1f}"]
        for label, run in runs.items()
        for count, found in _scores(run)["instances"].items()
    ]
    columns = ["", "objects in the video", "objects", "J", "F"]
    return [f"J and F by the number of objects in the video ({source})", "", as_text(columns, lines)]


def _losses(table: Table, runs: dict[str, Run], path: Path, source: str) -> list[str]:
    curves = {}
    for label, run in runs.items():
        path_of_losses = run.training.path / "losses.csv"
        try:
            with path_of_losses.open(newline="", encoding="utf-8") as file:
                points = [(float(p["step"]), float(p["loss"])) for p in csv.DictReader(file)]
        except (KeyError, TypeError, ValueError, csv.Error) as error:
            raise InputError(f"{path_of_losses}: must hold step,loss in each line; train again.") from error
        curves[label] = ([step for step, _ in points], [loss for _, loss in points])
    loss_curves(path, curves)
    return [f"Training loss over iterations ({source}): {path}"]


def _overlays(table: Table, runs: dict[str, Run], path: Path, source: str) -> list[str]:
    """The scored video in which the rows differ most, at the same frames."""
    spread: dict[str, float] = {}
    objects = [_scores(run)["per_object"] for run in runs.values()]
    data_set = table.experiment.data_set
    videos = {v.name: v for v in data_set.samples(data_set.score_split) if isinstance(v, Video)}
    for key in objects[0]:
        values = [scores[key]["J"] for scores in objects if key in scores]
        if key.rpartition("_")[0] in videos:
            spread[key] = values[-1] - values[0]
    if not spread:
        raise InputError(f"{path}: no video of {data_set.score_split} is in the results; score again.")
    name = max(spread, key=lambda key: spread[key]).rpartition("_")[0]
    video = videos[name]
    last = len(video.asked) - 1
    times = [video.asked[round(i * last / (FRAMES_SHOWN - 1))] for i in range(FRAMES_SHOWN)]
    sheet = {}
    for label, run in runs.items():
        folder = run.evaluation.masks / name
        sheet[label] = [(video.frame(t), read_mask(folder / f"{video.frames[t].stem}.png")) for t in times]
    overlay_sheet(path, sheet)
    return [f"The same frames in every row ({source}), video {name}, which gains most: {path}"]


REPORTS: dict[str, Callable[[Table, dict[str, Run], Path, str], list[str]]] = {
    "position": _position,
    "instances": _instances,
    "losses": _losses,
    "overlays": _overlays,
}
