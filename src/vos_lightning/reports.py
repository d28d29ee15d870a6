"""What stands below a table: curves, counts and pictures from its runs' folders.

A sweep asks for them by `table.reports`; each names the paper's figure that it follows.
"""

import csv
from collections.abc import Callable
from pathlib import Path

from vos_lightning.configuration import build_data
from vos_lightning.data.images import read_mask
from vos_lightning.plots import loss_curves, overlay_sheet, position_curves
from vos_lightning.scoring.youtube_vos import GROUPS
from vos_lightning.tables import Row, Table
from vos_lightning.text_tables import as_text

FRAMES_SHOWN = 5


def report(table: Table, stem: Path) -> list[str]:
    """Makes a table's reports from the first seed's finished runs.

    Args:
        table: whose table.reports names some of REPORTS.
        stem: pictures are written to STEM-NAME.png.

    Returns:
        Lines to print, each report's after an empty one.
    """
    rows = {" ".join(row.values.values()): row for row in table.rows if row.results}
    lines = []
    for name in table.cfg.table.get("reports", []) if rows else []:
        lines += ["", *REPORTS[name](table, rows, stem.with_name(f"{stem.name}-{name}.png"))]
    return lines


def _position(table: Table, rows: dict[str, Row], path: Path) -> list[str]:
    curves = {label: row.results[0]["scores"]["position"] for label, row in rows.items()}
    limits = next(iter(curves.values()))["limits"]
    lines = [
        [label, group, *("-" if j is None else f"{100 * j:.1f}" for j in curve[f"J_{group}"])]
        for label, curve in curves.items()
        for group in GROUPS
    ]
    position_curves(path, curves)
    columns = ["", "categories", *(f"to {limit:g}" for limit in limits[1:])]
    return [f"J over the relative position in the video (S2S, Figure 3): {path}", "", as_text(columns, lines)]


def _instances(table: Table, rows: dict[str, Row], path: Path) -> list[str]:
    lines = [
        [label, count, str(found["objects"]), f"{100 * found['J']:.1f}", f"{100 * found['F']:.1f}"]
        for label, row in rows.items()
        for count, found in row.results[0]["scores"]["instances"].items()
    ]
    columns = ["", "objects in the video", "objects", "J", "F"]
    return ["J and F by the number of objects in the video (RVOS, Table 3)", "", as_text(columns, lines)]


def _losses(table: Table, rows: dict[str, Row], path: Path) -> list[str]:
    curves = {}
    for label, row in rows.items():
        with (row.runs[0].folder / "losses.csv").open(newline="") as file:
            points = [(float(p["step"]), float(p["loss"])) for p in csv.DictReader(file)]
        curves[label] = ([step for step, _ in points], [loss for _, loss in points])
    loss_curves(path, curves)
    return [f"Binary cross-entropy over iterations (S2S with video representations, Figure 2): {path}"]


def _overlays(table: Table, rows: dict[str, Row], path: Path) -> list[str]:
    """The scored sequence in which the rows differ most, at the same frames (S2S, Figure 5)."""
    spread: dict[str, float] = {}
    objects = [row.results[0]["scores"]["per_object"] for row in rows.values()]
    for name in objects[0]:
        values = [scores[name]["J"] for scores in objects if name in scores]
        spread[name] = values[-1] - values[0]
    name = max(spread, key=lambda key: spread[key]).rpartition("_")[0]
    sequences = build_data(table.cfg).sequences(table.cfg.data.score_split)
    sequence = next(s for s in sequences if s.name == name)
    last = len(sequence.asked) - 1
    times = [sequence.asked[round(i * last / (FRAMES_SHOWN - 1))] for i in range(FRAMES_SHOWN)]
    sheet = {}
    for label, row in rows.items():
        folder = row.runs[0].folder / "masks" / name
        sheet[label] = [
            (sequence.frame(t), read_mask(folder / f"{sequence.frames[t].stem}.png")) for t in times
        ]
    overlay_sheet(path, sheet)
    return [f"The same frames in every row (S2S, Figure 5), sequence {name}, which gains most: {path}"]


REPORTS: dict[str, Callable[[Table, dict[str, Row], Path], list[str]]] = {
    "position": _position,
    "instances": _instances,
    "losses": _losses,
    "overlays": _overlays,
}
