"""Rows of figures of a paper or a server: `{set: {KEY: VALUE}, marks: {HEADING: WORD}, J: .., ...}`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vos_lightning.errors import InputError
from vos_lightning.plain import read_yaml


def entry_of(entries: Any, fields: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The entry whose `set` holds in a configuration."""
    return next((entry for entry in entries if holds(entry["set"], fields)), None)


def holds(wanted: Mapping[str, Any], fields: Mapping[str, Any]) -> bool:
    """Whether fields of a configuration, by dotted keys, have these values."""
    return all(fields.get(key) == value for key, value in wanted.items())


def figures_of(entry: Mapping[str, Any] | None) -> dict[str, float] | None:
    """The figures of an entry; None if it has none."""
    found = {key: float(v) for key, v in (entry or {}).items() if key not in ("set", "marks")}
    return found or None


def read_server(path: Path, known: set[str]) -> Any:
    """The entries of a YAML file that a user wrote, see `tables.build_table`, whose keys must be known."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; it should hold the server's figures.")
    cells, names = read_yaml(path).get("cells"), ", ".join(sorted(known))
    if not isinstance(cells, list) or not all(isinstance(c, dict) and len(c) > 1 for c in cells):
        raise InputError(f"{path}: must hold cells, each with set and some of {names} (percent).")
    for entry in cells:
        if not isinstance(entry.get("set"), dict):
            raise InputError(f"{path}: must hold cells, each with set and some of {names} (percent).")
        if unknown := set(entry) - known - {"set"}:
            raise InputError(f"{path}: {min(unknown)} is no figure of this table; give some of {names}.")
        for key in set(entry) - {"set"}:
            if type(entry[key]) not in (int, float):
                raise InputError(f"{path}: {key}={entry[key]}: must be a number (percent).")
    return cells
