"""YAML and JSON files, which may come from strangers: plain values alone, nothing that refers or runs."""

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from vos_lightning.errors import InputError

Type = type | tuple[type, ...]

YAML_BYTES, JSON_BYTES = 2**16, 2**24
DEPTH = 12  # of mappings and lists inside each other
LONGEST_KEY = 500  # such as a video's name and an object's id


class _Loader(yaml.SafeLoader):
    """Also reads 1e-3 as a number, as Hydra does and YAML 1.1 does not."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def parse_yaml(text: str, source: str) -> Any:
    """The value that a YAML text holds: mappings with text for keys, lists, text, numbers, true, false, null.

    Args:
        text: one document.
        source: what an error starts with, such as a file's name.

    Raises:
        InputError: no YAML, an alias, a tag, a value of another type, an interpolation `${...}`, a key that
            begins with `_`, a whole number of more than 63 bits, or too much inside each other.
    """
    try:
        depth = 0
        for event in yaml.parse(text, yaml.SafeLoader):
            if getattr(event, "anchor", None) or getattr(event, "tag", None):
                raise InputError(f"{source}: holds a tag or an alias; write the values themselves.")
            opens = isinstance(event, yaml.CollectionStartEvent)
            depth += opens - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEPTH:
                raise InputError(f"{source}: more than {DEPTH} lists or mappings inside each other.")
        value = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{source}: not readable YAML ({reason}); correct it.") from error
    _check_plain(value, source)
    return value


def _check_plain(value: Any, source: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _check_plain(key, source)
            if not isinstance(key, str) or key.startswith("_"):
                raise InputError(f"{source}: {str(key)[:60]} cannot be a key; remove it.")
            _check_plain(item, source)
    elif isinstance(value, list):
        for item in value:
            _check_plain(item, source)
    elif isinstance(value, str) and "${" in value:
        raise InputError(f"{source}: {value[:60]} is an interpolation; write the value itself.")
    elif isinstance(value, int) and abs(value) >= 2**63:
        raise InputError(f"{source}: a whole number takes more than 63 bits; write a smaller one.")
    elif value is not None and type(value) not in (str, int, float, bool):
        raise InputError(f"{source}: {str(value)[:60]} is a {type(value).__name__}; write text in quotes.")


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises InputError as `parse_yaml`, and for a file that is too large."""
    try:
        value = parse_yaml(_read(path, YAML_BYTES).decode(), str(path))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not text in UTF-8; correct it.") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: must hold KEY: VALUE lines.")
    return value


def read_json(
    path: Path, kinds: Mapping[str, type | tuple[type, ...]], needed: int = 0
) -> dict[str, Any] | None:
    """The mapping in a JSON file; None if there is no such file.

    Args:
        path: the file.
        kinds: types of keys; the file may hold others.
        needed: so many of `kinds`, from the first, have to be there.

    Raises:
        InputError: the file is no JSON, too large or of another shape, or holds a number that is not
            between -2**63 and 2**63, or too much inside each other.
    """
    if not os.path.lexists(path):
        return None
    value = parse_json(_read(path, JSON_BYTES), path)
    for number, (key, kind) in enumerate(kinds.items()):
        if (number < needed and key not in value) or (key in value and not isinstance(value[key], kind)):
            raise InputError(f"{path}: {key} is missing or of a wrong type; remove the file.")
    return value


def parse_json(content: bytes, source: object) -> dict[str, Any]:
    """The mapping that a JSON text holds; `source` is what an error starts with, such as a file's path.

    Raises InputError as `read_json`, but for what it says of keys and size.
    """
    try:
        value = json.loads(content, parse_int=_number, parse_float=_number, parse_constant=_number)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source}: not readable JSON ({error}); remove it.") from error
    if not isinstance(value, dict):
        raise InputError(f"{source}: must hold a JSON object; remove it.")
    _check_shape(value, source)
    return value


def _check_shape(value: Any, source: object) -> None:
    """Raises InputError for JSON with too much inside each other, or keys that are no names."""
    level = [value]
    for _ in range(DEPTH):
        for key in (key for v in level if isinstance(v, dict) for key in v):
            if len(key) > LONGEST_KEY or not key.isprintable():
                raise InputError(f"{source}: {ascii(key)[:60]} cannot be a key; remove the file.")
        level = [item for v in level for item in _items(v)]
    if any(isinstance(v, dict | list) for v in level):
        raise InputError(f"{source}: more than {DEPTH} lists or objects inside each other; remove it.")


def _items(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _number(text: str) -> int | float:
    value = float(text)
    if not abs(value) < 2**63:
        raise ValueError(f"{text[:60]} is too large or not finite")
    return int(text) if text.removeprefix("-").isdigit() else value


def _read(path: Path, limit: int) -> bytes:
    try:
        if not path.is_file():
            raise InputError(f"{path}: no such file.")
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
    if len(content) > limit:
        raise InputError(f"{path}: larger than {limit >> 10} KiB; this cannot be what it should hold.")
    return content
