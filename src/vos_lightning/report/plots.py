"""Figures as PNG files: J over the position in the video, losses over steps and epochs, masks over frames.

Shapes: h w pixels. A frame is (h, w, 3) uint8 RGB, a mask (h, w) uint8 of object ids, 0 background.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any, NamedTuple

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
CELL_WIDTH, GAP, FONT_SIZE = 320, 6, 15  # of a sheet of strips, pixels
LABEL_LETTERS = 24  # of a line beside a strip


class EpochCurve(NamedTuple):
    """Pairs of an epoch, 1 being the first, and its mean loss, ascending; either may be empty."""

    training: Sequence[tuple[float, float]]
    validation: Sequence[tuple[float, float]]


class Strip(NamedTuple):
    """A row of frames (h, w, 3) of one size and as many masks (h, w), with a label of one or more lines."""

    label: str
    frames: Sequence[np.ndarray]
    masks: Sequence[np.ndarray]


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
    _save(figure, path, *panels[0].get_legend_handles_labels())


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
    axes.set(xlabel="iteration", ylabel="training loss", yscale="log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    _tidy(axes)
    _save(figure, path, *axes.get_legend_handles_labels())


def round_curves(path: Path, curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> None:
    """Draws J&F after each round with a user over the seconds until then, on a logarithmic scale.

    Args:
        path: where the PNG is written.
        curves: label -> seconds and J&F, equally many.

    Raises:
        InputError: the file cannot be written.
    """
    from matplotlib.ticker import LogLocator

    figure = _figure(8.4, 4.8)
    axes = figure.subplots()
    for label, (seconds, values) in curves.items():
        axes.plot(seconds, values, marker="o", markersize=4, label=label)
    axes.set(xlabel="seconds of the model, all rounds so far", ylabel="J&F", ylim=(0, 1), xscale="log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    _tidy(axes)
    _save(figure, path, *axes.get_legend_handles_labels())


def epoch_curves(path: Path, panels: Mapping[str, Mapping[str, EpochCurve]]) -> None:
    """Draws losses over epochs, solid of training and dashed of validation (STESA-GRU, Figs. 4 to 7).

    Args:
        path: where the PNG is written.
        panels: title -> label -> curve, of which the same label has the same colour in all panels.

    Raises:
        InputError: the file cannot be written.
    """
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    labels = list(dict.fromkeys(label for curves in panels.values() for label in curves))
    colours = {label: f"C{i % 10}" for i, label in enumerate(labels)}
    figure = _figure(max(6.4, 4.4 * len(panels)), 3.8)
    row = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, curves) in zip(row, panels.items(), strict=True):
        for label, curve in curves.items():
            for points, style in ((curve.training, "o-"), (curve.validation, "s--")):
                epochs, losses = np.reshape(points, (-1, 2)).T
                axes.plot(epochs, losses, style, color=colours[label], markersize=3)
        axes.set(title=title, xlabel="epoch", ylabel="loss")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        _tidy(axes)
    lines = [Line2D([], [], color=colours[label], label=label) for label in labels]
    lines.append(Line2D([], [], color="grey", linestyle="-", label="training"))
    lines.append(Line2D([], [], color="grey", linestyle="--", label="validation"))
    _save(figure, path, lines, [str(line.get_label()) for line in lines])


def strip_sheet(path: Path, strips: Sequence[Strip]) -> None:
    """Draws strips below one another, each frame 320 pixels wide under its mask in the data sets' colours.

    Args:
        path: where the PNG is written.
        strips: one or more.

    Raises:
        InputError: the file cannot be written.
    """
    font = ImageFont.load_default(FONT_SIZE)
    labels, rows, longest = [], [], 0.0
    for strip in strips:
        lines = [part for line in strip.label.splitlines() for part in wrap(line, LABEL_LETTERS)]
        longest = max(longest, *map(font.getlength, lines))
        labels.append("\n".join(lines))
        cells = [_overlay(*pair) for pair in zip(strip.frames, strip.masks, strict=True)]
        rows.append(np.hstack([_padded(cell) for cell in cells]))
    margin = round(longest) + 2 * GAP
    height = sum(len(row) for row in rows) + GAP
    sheet = Image.new("RGB", (margin + max(row.shape[1] for row in rows), height), "white")
    draw, top = ImageDraw.Draw(sheet), GAP
    for label, row in zip(labels, rows, strict=True):
        middle = top + (len(row) - GAP) // 2
        draw.multiline_text((margin - GAP, middle), label, "black", font, anchor="rm", align="right")
        sheet.paste(Image.fromarray(row), (margin, top))
        top += len(row)
    with replacing(path) as part:
        sheet.save(part, format="PNG")


def _overlay(frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The frame, `CELL_WIDTH` wide, with its objects tinted and outlined."""
    size = round(CELL_WIDTH * frame.shape[0] / frame.shape[1]), CELL_WIDTH
    small = np.asarray(Image.fromarray(frame).resize(size[::-1], Image.Resampling.LANCZOS), dtype=float)
    labels = resize_labels(np.where(mask == VOID, 0, mask).astype(np.uint8), size)
    ids = [i for i in np.unique(labels).tolist() if i]
    return tinted(small, [labels == i for i in ids], ids)


def _padded(cell: np.ndarray) -> np.ndarray:
    """A cell with a white gap to its right and below it."""
    return np.pad(cell, ((0, GAP), (0, GAP), (0, 0)), constant_values=255)


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


def _save(figure: "Figure", path: Path, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """Writes a figure with a legend below it, in as many columns as its width holds."""
    inches = 0.6 + 0.085 * max(map(len, labels))  # of a column
    columns = max(1, min(len(labels), int(figure.get_figwidth() / inches)))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
    with replacing(path) as part:
        figure.savefig(part, format="png")
