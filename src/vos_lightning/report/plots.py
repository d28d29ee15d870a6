"""Figures as PNG files: J over the position in the video, losses over steps, masks over frames.

Shapes: h w pixels. A frame is (h, w, 3) uint8 RGB, a mask (h, w) uint8 of object ids, 0 background.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vos_lightning.atomic import replacing
from vos_lightning.data.images import VOID, resize_labels
from vos_lightning.evaluation.pictures import tinted
from vos_lightning.scoring.youtube_vos import GROUPS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
LEGEND_COLUMNS = 4
CELL_WIDTH, GAP, FONT_SIZE = 320, 6, 15  # of an overlay sheet, pixels


def position_curves(path: Path, curves: Mapping[str, Mapping[str, Sequence[float | None]]]) -> None:
    """Draws J over the relative position in the video, seen and unseen categories side by side (S2S, Fig. 3).

    Args:
        path: where the PNG is written.
        curves: label -> the `position` of `youtube_vos.Scores.to_dict`; a group without values is left out,
            one must have some.

    Raises:
        InputError: the file cannot be written.
    """
    groups = [g for g in GROUPS if any(v is not None for c in curves.values() for v in c[f"J_{g}"])]
    figure = _figure(4.4 * len(groups), 3.4)
    panels = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    for axes, group in zip(panels, groups, strict=True):
        for label, curve in curves.items():
            limits = np.array(curve["limits"])
            values = np.array(curve[f"J_{group}"], dtype=float)  # None becomes NaN: no frame there
            known, middles = ~np.isnan(values), (limits[:-1] + limits[1:]) / 2
            line = axes.plot(middles[known], values[known], marker="o", markersize=4, label=label)
            line[0].set_clip_on(False)
        axes.set(title=f"{group.capitalize()} categories", xlabel="position in the video", xlim=(0, 1))
        _tidy(axes)
    panels[0].set(ylabel="J mean", ylim=(0, 1))
    handles = panels[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=LEGEND_COLUMNS, frameon=False)
    _save(figure, path)


def loss_curves(path: Path, curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> None:
    """Draws losses over iterations on a logarithmic scale: pale as they are, and smoothed above.

    Args:
        path: where the PNG is written.
        curves: label -> steps and values, equally many. Smoothed values are means over a fiftieth of them.

    Raises:
        InputError: the file cannot be written.
    """
    from matplotlib.ticker import LogLocator

    figure = _figure(6.4, 3.8)
    axes = figure.subplots()
    for label, (steps, values) in curves.items():
        (raw,) = axes.plot(steps, values, alpha=0.25, linewidth=0.8)
        axes.plot(steps, _smooth(np.asarray(values)), color=raw.get_color(), label=label)
    axes.set(xlabel="iteration", ylabel="binary cross-entropy", yscale="log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.legend(frameon=False)
    _tidy(axes)
    _save(figure, path)


def overlay_sheet(path: Path, rows: Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]]) -> None:
    """Draws masks over frames in the data sets' colours, a row a label (S2S, Fig. 5).

    Args:
        path: where the PNG is written.
        rows: label -> the same frames (h, w, 3) in each row and masks (h, w); all of one size, drawn 320
            pixels wide.

    Raises:
        InputError: the file cannot be written.
    """
    cells = [[_overlay(frame, mask) for frame, mask in row] for row in rows.values()]
    height, width = cells[0][0].shape[:2]
    font = ImageFont.load_default(FONT_SIZE)
    margin = round(max(font.getlength(label) for label in rows)) + 2 * GAP
    columns = max(map(len, cells))
    sheet = Image.new("RGB", (margin + columns * (width + GAP), len(rows) * (height + GAP) + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for r, (label, row) in enumerate(zip(rows, cells, strict=True)):
        top = GAP + r * (height + GAP)
        draw.text((margin - GAP, top + height // 2), label, "black", font, anchor="rm")
        for c, cell in enumerate(row):
            sheet.paste(Image.fromarray(cell), (margin + c * (width + GAP), top))
    with replacing(path) as part:
        sheet.save(part, format="PNG")


def _overlay(frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The frame, `CELL_WIDTH` wide, with its objects tinted and outlined."""
    size = round(CELL_WIDTH * frame.shape[0] / frame.shape[1]), CELL_WIDTH
    small = np.asarray(Image.fromarray(frame).resize(size[::-1], Image.Resampling.LANCZOS), dtype=float)
    labels = resize_labels(np.where(mask == VOID, 0, mask).astype(np.uint8), size)
    ids = [i for i in np.unique(labels).tolist() if i]
    return tinted(small, [labels == i for i in ids], ids)


def _smooth(values: np.ndarray) -> np.ndarray:
    """Running mean; at the ends over what there is of the window."""
    window = np.ones(max(1, len(values) // 50))
    return np.convolve(values, window, "same") / np.convolve(np.ones(len(values)), window, "same")


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure  # slow, and needed only here

    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def _tidy(axes: "Axes") -> None:
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _save(figure: "Figure", path: Path) -> None:
    with replacing(path) as part:
        figure.savefig(part, format="png")
