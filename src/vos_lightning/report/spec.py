"""The node `table` of a sweep, checked before a table is made of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from vos_lightning.errors import InputError
from vos_lightning.fields import shown

NUMBER = (int, float)
PUBLISHED = ("data", "split")  # of the paper's figures


def checked_spec(spec: Any) -> Mapping[str, Any]:
    """Gives a node `table` back, whose fields `tables.Table` explains.

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
        and all(isinstance(c, list) and c and all(map(_is_text, c)) for c in columns.values()),
        "others": all(_is_text(other.get("name")) for other in _rows(spec.get("others", []), "name")),
        "reports": isinstance(spec.get("reports", {}), Mapping),
    }
    if wrong := [field for field, fit in fits.items() if not fit]:
        raise InputError(f"table.{wrong[0]}={shown(spec.get(wrong[0]))}: not as in the files of sweeps/.")
    return spec


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _rows(rows: Any, name: str) -> Sequence[Mapping[str, Any]]:
    """Rows of figures beside a field `name`; one row without anything where they are no such rows."""
    fit = isinstance(rows, list) and all(
        isinstance(row, Mapping) and all(isinstance(v, NUMBER) for k, v in row.items() if k != name)
        for row in rows
    )
    return rows if fit else [{}]
