"""What stands below a table: curves, counts and rows of frames from its runs' folders.

A sweep asks for them by `table.reports`: {NAME: FIGURE}. NAME is one of REPORTS, and FIGURE the paper's
figure that it follows, in words; or NAME is a free one, and FIGURE are the fields of `spec.StripFields`, by
which rows of frames are shown.
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vos_lightning.errors import InputError
from vos_lightning.fields import shown
from vos_lightning.report.plots import EpochCurve, epoch_curves, loss_curves, position_curves, round_curves
from vos_lightning.report.spec import StripFields
from vos_lightning.report.strips import strips
from vos_lightning.report.tables import Table
from vos_lightning.report.text import as_text
from vos_lightning.runs.run import Run
from vos_lightning.scoring.youtube_vos import GROUPS


def report(table: Table, stem: Path) -> list[str]:
    """Makes a table's reports from the first seed's finished runs.

    Args:
        table: whose spec asks for reports.
        stem: pictures are written to STEM-NAME.png.

    Returns:
        Lines to print, each report's after an empty one; a file that cannot be used is named there.

    Raises:
        InputError: a name that is not known.
    """
    runs = {row.label: row.first for row in table.rows if row.first is not None}
    lines = []
    for name, figure in table.spec.get("reports", {}).items():
        path = stem.with_name(f"{stem.name}-{name}.png")
        if not isinstance(figure, StripFields) and name not in REPORTS:
            raise InputError(
                f"table.reports.{name}: unknown; choose one of {', '.join(REPORTS)}, or give the fields of "
                f"rows of frames, such as {{figure: {shown(figure)}}}."
            )
        try:
            if isinstance(figure, StripFields):
                made = strips(table, figure, path)
            else:
                made = REPORTS[name](runs, path, figure)
        except InputError as error:  # such as masks that were removed, which cost no table
            made = [f"No {name}: {error}"]
        lines += ["", *made] if made else []
    return lines


def _scores(runs: Mapping[str, Run], key: str) -> dict[str, Any]:
    """What a key of the scores holds, by the label of each run that has it."""
    results = {label: run.result() for label, run in runs.items()}
    return {label: r["scores"][key] for label, r in results.items() if r is not None and key in r["scores"]}


def _position(runs: Mapping[str, Run], path: Path, source: str) -> list[str]:
    """J over the position in the video, which YouTube-VOS has."""
    curves = _scores(runs, "position")
    if not curves:
        return []
    limits = next(iter(curves.values()))["limits"]
    lines = [
        [label, group, *("-" if j is None else f"{100 * j:.1f}" for j in curve[f"J_{group}"])]
        for label, curve in curves.items()
        for group in GROUPS
    ]
    position_curves(path, curves)
    columns = ["", "categories", *(f"to {limit:g}" for limit in limits[1:])]
    return [f"J over the relative position in the video ({source}): {path}", "", as_text(columns, lines)]


def _instances(runs: Mapping[str, Run], path: Path, source: str) -> list[str]:
    """J and F by the number of objects, which YouTube-VOS has."""
    lines = [
        [label, count, str(found["objects"]), f"{100 * found['J']:.1f}", f"{100 * found['F']:.1f}"]
        for label, counts in _scores(runs, "instances").items()
        for count, found in counts.items()
    ]
    if not lines:
        return []
    columns = ["", "objects in the video", "objects", "J", "F"]
    return [f"J and F by the number of objects in the video ({source})", "", as_text(columns, lines)]


def _rounds(runs: Mapping[str, Run], path: Path, source: str) -> list[str]:
    """J&F after each of the rounds with a user, and the seconds until then."""
    found = _scores(runs, "rounds")
    if not found:
        return []
    lines = [
        [label, what, *(f"{scale * r[key]:.1f}" for r in rounds)]
        for label, rounds in found.items()
        for what, key, scale in (("J&F", "JF", 100), ("seconds", "seconds", 1))
    ]
    curves = {
        label: ([r["seconds"] for r in rounds], [r["JF"] for r in rounds]) for label, rounds in found.items()
    }
    round_curves(path, curves)
    columns = ["", "after round", *(str(n + 1) for n in range(max(map(len, found.values()))))]
    return [f"J&F over the seconds of the model ({source}): {path}", "", as_text(columns, lines)]


def _losses(runs: Mapping[str, Run], path: Path, source: str) -> list[str]:
    """The training loss over iterations."""
    curves = {}
    for label, run in runs.items():
        points = _read(run.training.path / "losses.csv", ("step", "loss"))
        if points:
            curves[label] = ([step for step, _ in points], [loss for _, loss in points])
    if not curves:
        return []
    loss_curves(path, curves)
    return [f"Training loss over iterations ({source}): {path}"]


def _epochs(runs: Mapping[str, Run], path: Path, source: str) -> list[str]:
    """The losses of training and validation over epochs; runs that come first have a panel of their own."""
    labels: dict[Path, list[str]] = {}
    before: dict[Path, list[str]] = {}
    for label, run in runs.items():
        labels.setdefault(run.training.path, []).append(label)
        if (first := run.training.first()) is not None:
            before.setdefault(first.path, []).append(label)
    for folder in before.keys() & labels.keys():  # a row of the table itself
        before[folder] = [*labels.pop(folder), *before[folder]]
    tuned = {label for found in before.values() for label in found}
    alone = any(not tuned.issuperset(found) for found in labels.values())
    then = "Fine-tuning" if not alone else "Fine-tuning, or training alone" if tuned else "Training"
    parts = {"Pre-training": before, then: labels}
    panels = {title: _of_epochs(folders) for title, folders in parts.items() if folders}
    panels = {title: curves for title, curves in panels.items() if curves}
    if not panels:
        return []
    epoch_curves(path, panels)
    return [f"Training and validation loss over epochs ({source}): {path}"]


def _of_epochs(folders: Mapping[Path, Sequence[str]]) -> dict[str, EpochCurve]:
    """The losses of trainings by the labels of the rows that have them."""
    curves = {}
    for folder, labels in folders.items():
        path = folder / "metrics.csv"
        found = (_read(path, ("epoch", f"{part}/loss")) for part in ("train", "val"))
        curve = EpochCurve(*([(epoch + 1, loss) for epoch, loss in points] for points in found))
        if curve.training:
            curves[", ".join(dict.fromkeys(labels))] = curve
    return curves


def _read(path: Path, columns: tuple[str, str]) -> list[tuple[float, float]]:
    """Two columns of a file of numbers, less the rows where the second is blank; nothing if there is no file.

    Raises InputError for a file of another shape.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [(row[columns[0]], row.get(columns[1])) for row in csv.DictReader(file)]
        return [(float(x), float(y)) for x, y in rows if y]
    except FileNotFoundError:
        return []
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: must hold numbers below {','.join(columns)}; train again.") from error


REPORTS: dict[str, Callable[[Mapping[str, Run], Path, str], list[str]]] = {
    "position": _position,
    "instances": _instances,
    "rounds": _rounds,
    "losses": _losses,
    "epochs": _epochs,
}
