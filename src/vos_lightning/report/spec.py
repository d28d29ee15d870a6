"""The node `table` of a sweep, checked before a table is made of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from vos_lightning.errors import InputError
from vos_lightning.fields import NAME, WORD, Kind, choice, list_of, or_null, read, shown, whole

NUMBER = (int, float)
PUBLISHED = ("data", "split")  # of the paper's figures
ROWS = Kind(
    "must be {LABEL: {KEY: VALUE}}, such as {GRU: {model.cell: gru}}",
    lambda rows: (
        isinstance(rows, Mapping)
        and all(WORD.holds(label) and isinstance(wanted, Mapping) for label, wanted in rows.items())
    ),
)


@dataclass(frozen=True, kw_only=True)
class StripFields:
    """Rows of frames with masks laid over them, of one or several videos.

    figure: the paper's figure that they follow, in words. rows: the rows of the table whose masks are shown,
    each by a label and what holds in its configuration; null takes all by their own labels, {} takes none.
    above: what stands above them: `frames` without masks, and the `truth` of videos where it is annotated.
    videos: those where the last row `gains` most J over the first, those with most objects (`instances`), or
    the `first` of the split. count: of videos. columns: frames of a video, evenly from the first to the last.
    split: `score`; or `train`, whose masks are predicted when the table is made.
    """

    figure: Annotated[str, WORD]
    rows: Annotated[Mapping[str, Mapping[str, Any]] | None, or_null(ROWS)] = None
    above: Annotated[tuple[str, ...], list_of(choice("frames", "truth"))] = ()
    videos: Annotated[str, choice("gains", "instances", "first")] = "first"
    count: Annotated[int, whole(1, 50)] = 1
    columns: Annotated[int, whole(2, 20)] = 5
    split: Annotated[str, choice("score", "train")] = "score"


def checked_spec(spec: Any) -> Mapping[str, Any]:
    """A node `table`, see `tables.Table`, in which reports of rows of frames are `StripFields`.

    Raises InputError for one of another shape.
    """
    if not isinstance(spec, Mapping):
        raise InputError(f"table={shown(spec)}: must have fields of its own.")
    published, columns = spec.get("published", {"data": "", "split": ""}), spec.get("columns") or {}
    fits = {
        "title": _is_text(spec.get("title")),
        "published": isinstance(published, Mapping) and all(map(_is_text, map(published.get, PUBLISHED))),
        "cells": all(isinstance(c.get("set"), Mapping) for c in _rows(spec.get("cells", []), "set")),
        "columns": isinstance(columns, Mapping)
        and all(map(_is_text, columns))
        and all(isinstance(c, list) and c and all(map(_is_text, c)) for c in columns.values()),
        "names": _are_words(spec.get("names", {}), str),
        "others": all(_is_text(other.get("name")) for other in _rows(spec.get("others", []), "name")),
        "reports": isinstance(spec.get("reports", {}), Mapping),
    }
    if wrong := [field for field, fit in fits.items() if not fit]:
        raise InputError(f"table.{wrong[0]}={shown(spec.get(wrong[0]))}: not as in the files of sweeps/.")
    reports = spec.get("reports", {}).items()
    return {**spec, "reports": {name: _report(name, value) for name, value in reports}}


def _report(name: Any, value: Any) -> str | StripFields:
    """A report: the figure that it follows, or rows of frames. Raises InputError for anything else."""
    if not NAME.holds(name):
        raise InputError(f"table.reports.{shown(name)}: {NAME.wanted}.")
    if isinstance(value, Mapping):
        strip = read(StripFields, f"table.reports.{name}", value)
        if strip.videos == "gains" and (strip.rows == {} or strip.split == "train"):
            raise InputError(
                f"table.reports.{name}.videos=gains: needs scores of rows; set rows and split=score."
            )
        return strip
    if not _is_text(value):
        raise InputError(
            f"table.reports.{name}={shown(value)}: must be a figure in words, or fields of rows of frames."
        )
    return value


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_words(value: Any, *kinds: type) -> bool:
    """Whether text stands for each key."""
    return isinstance(value, Mapping) and all(
        _is_text(key) and isinstance(word, kinds) for key, word in value.items()
    )


def _rows(rows: Any, name: str) -> Sequence[Mapping[str, Any]]:
    """Rows of figures beside a field `name` and marks; one empty row where they are no such rows."""
    fit = isinstance(rows, list) and all(
        isinstance(row, Mapping)
        and _are_words(row.get("marks", {}), str, bool)
        and all(isinstance(v, NUMBER) for k, v in row.items() if k not in (name, "marks"))
        for row in rows
    )
    return rows if fit else [{}]
