"""Typed values from the plain ones of a configuration, and what of them decides a result.

A part of a configuration is a frozen dataclass, which stands beside the code that reads it. Each field says
in its type which values it may have, and perhaps how it counts in the identity of a run:

    hidden: Annotated[int, whole(8, 4096, step=8)] = 128
    reset_gates: Annotated[int, whole(1), Where("cell", "gru")] = 1    # means nothing to other cells
    root: Annotated[str, WORD, ASIDE]                                  # where files are, not what they hold
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar, cast, get_args, get_origin, get_type_hints

from vos_lightning.errors import InputError

Part = TypeVar("Part")


class Kind(NamedTuple):
    """A set of values. wanted: what an error says of it. holds: whether a value is in it."""

    wanted: str
    holds: Callable[[Any], bool]


def whole(low: int, high: int = 2**31 - 1, step: int = 1, also: int | None = None) -> Kind:
    """Whole numbers low..high that `step` divides, and `also`."""
    more = f" that {step} divides" if step > 1 else ""
    other = "" if also is None else f", or {also}"
    return Kind(
        f"must be a whole number from {low} to {high}{more}{other}",
        lambda v: type(v) is int and (v == also or (low <= v <= high and v % step == 0)),
    )


def real(low: float, high: float = math.inf) -> Kind:
    """Finite numbers low..high."""
    span = f"of {low} or more" if math.isinf(high) else f"from {low} to {high}"
    return Kind(
        f"must be a number {span}", lambda v: type(v) in (int, float) and low <= v <= high and abs(v) < 1e30
    )


def choice(*values: str) -> Kind:
    """Some words."""
    return Kind(f"unknown; choose one of {', '.join(values)}", lambda v: v in values)


def or_null(kind: Kind) -> Kind:
    """Values of a kind, and null."""
    return Kind(f"{kind.wanted}, or null", lambda v: v is None or kind.holds(v))


def pair_or(kind: Kind, alone: bool, ordered: bool) -> Kind:
    """[A, B] of a kind, where A is no more than B if `ordered`; also A for both if `alone`."""

    def holds(v: Any) -> bool:
        pair = [v, v] if alone and not isinstance(v, list) else v
        fits = isinstance(pair, list) and len(pair) == 2 and all(map(kind.holds, pair))
        return fits and (not ordered or pair[0] <= pair[1])

    names = "T or [shortest, longest]" if alone else "[least, most]" if ordered else "[height, width]"
    return Kind(f"must be {names}, of which each {kind.wanted}", holds)


def list_of(kind: Kind) -> Kind:
    """Lists of a kind."""
    return Kind(
        f"must be a list, of which each {kind.wanted}",
        lambda v: isinstance(v, list) and all(map(kind.holds, v)),
    )


TRUTH = Kind("must be true or false", lambda v: type(v) is bool)
WORD = Kind(
    "must be text, in quotes if it looks like something else",
    lambda v: isinstance(v, str) and 0 < len(v) <= 4096 and v.isprintable(),
)
NAME = Kind(
    "must be a name of at most 60 letters, without slashes, that does not begin with a dot",
    lambda v: WORD.holds(v) and len(v) <= 60 and not set(v) & set("/\\") and v[0] != ".",
)
FOLDER = Kind(  # beside what a run's folder holds, see `runs.folder`
    "must be a name of at most 60 letters, digits, hyphens and underscores other than masks and wandb",
    lambda v: NAME.holds(v) and re.fullmatch(r"[\w-]+", v) is not None and v not in ("masks", "wandb"),
)
SIZE = pair_or(whole(32, 4096), alone=False, ordered=False)

ASIDE = "aside"  # a field that says where something is or what it is called: no part of an identity
SCORING = "scoring"  # a field by which predictions are scored: no part of what is trained
WEIGHTS = "weights"  # the path of weights, for which its content stands in an identity; or one of these words
WORDS_OF_WEIGHTS = ("none", "imagenet", "coco")


class Where:
    """A field that decides something only where another one has one of these values.

    The other one is of the same part, as in `Where("cell", "gru")`, or of another one, whose node then stands
    before it, as in `Where("model.cell", "gru")`.
    """

    def __init__(self, other: str, *values: Any) -> None:
        self.other, self.values = other, values

    def holds(self, part: Any, parts: Mapping[str, Any]) -> bool:
        """Whether the field decides something in a part, beside the other parts by node."""
        node, _, other = self.other.rpartition(".")
        return getattr(parts[node] if node else part, other) in self.values


@dataclass(frozen=True)
class Field:
    """What a dataclass says of one of its fields.

    part: the dataclass that the field holds, or of which it holds a tuple if `many`; None for plain values.
    needed: whether it has no default. real: whether it holds a float, as which 4 and 4.0 are the same.
    marks: ASIDE, SCORING, WEIGHTS or `Where`.
    """

    name: str
    kind: Kind | None
    part: type | None
    many: bool
    needed: bool
    real: bool
    marks: tuple[Any, ...]


def fields_of(part: type) -> dict[str, Field]:
    """Name -> what is known of a field of a part."""
    hints = get_type_hints(part, include_extras=True)
    return {f.name: _field(f.name, hints[f.name], _is_needed(f)) for f in fields(part) if f.init}


def _is_needed(field: Any) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _field(field: str, hint: Any, needed: bool) -> Field:
    notes = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    plain = get_args(hint)[0] if notes else hint
    many = get_origin(plain) is tuple and is_dataclass(get_args(plain)[0])
    held = get_args(plain)[0] if many else plain
    kind = next((note for note in notes if isinstance(note, Kind)), None)
    part = held if is_dataclass(held) else None
    if kind is None and part is None:
        raise TypeError(f"{field}: needs a Kind in its type, such as Annotated[int, whole(1)].")
    assert part is None or isinstance(part, type)
    marks = tuple(note for note in notes if not isinstance(note, Kind))
    return Field(field, kind, part, many, needed, plain is float, marks)


def read(part: type[Part], node: str, values: Any) -> Part:
    """A part from the plain values of a node.

    Raises:
        InputError: names the field, its value and what is allowed; or a field that is unknown or not set.
    """
    (made,) = read_parts(node, values, part)
    return made


def read_parts(node: str, values: Any, *parts: type) -> tuple[Any, ...]:
    """Several parts whose fields share a node, such as a data set and how training draws from it.

    Raises InputError as `read`.
    """
    if not isinstance(values, Mapping):
        raise InputError(f"{node}={shown(values)}: must have fields of its own.")
    known = [field for part in parts for field in fields_of(part)]
    if unknown := sorted(str(key) for key in values if key not in known):
        raise InputError(f"{node}.{shown(unknown[0])}: no such field; choose some of {', '.join(known)}.")
    return tuple(_read(part, node, values) for part in parts)


def _read(part: type[Part], node: str, values: Mapping[str, Any]) -> Part:
    found = {}
    for field in fields_of(part).values():
        place = f"{node}.{field.name}" if node else field.name
        if field.name in values and values[field.name] != "???":
            found[field.name] = _value(field, place, values[field.name])
        elif field.needed:
            raise InputError(f"{place}: not set; give {place}=VALUE.")
    return part(**found)


def _value(field: Field, place: str, value: Any) -> Any:
    if field.many and field.part is not None:
        if not isinstance(value, list) or not value or not all(isinstance(v, Mapping) for v in value):
            names = ", ".join(fields_of(field.part))
            raise InputError(f"{place}={shown(value)}: must be a list of one or more {{...}} of {names}.")
        return tuple(read(field.part, f"{place}[{i}]", item) for i, item in enumerate(value))
    if field.part is not None:
        return read(field.part, place, value)
    assert field.kind is not None
    if not field.kind.holds(value):
        raise InputError(f"{place}={shown(value)}: {field.kind.wanted}.")
    if field.real:
        return float(value)
    return tuple(value) if isinstance(value, list) else value


def shown(value: Any) -> str:
    """A value as configurations write it, in at most 60 printable letters."""
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= 60 else f"{text[:57]}..."


def as_plain(part: Any) -> dict[str, Any]:
    """A part as plain values, from which `read` makes it again."""
    return {field: _plain(getattr(part, field), as_plain) for field in fields_of(type(part))}


def decisive(
    part: Any, content: Callable[[Path], str], parts: Mapping[str, Any], *aside: str
) -> dict[str, Any]:
    """What of a part decides a result, as plain values.

    Left out are fields with a mark in `aside` or ASIDE, and those that mean nothing beside the others.

    Args:
        part: any of the parts of a configuration, or what one of them holds.
        content: what stands for a file of weights.
        parts: all parts by node, for `Where`.
        aside: marks of fields that are left out too.
    """

    def inner(held: Any) -> dict[str, Any]:
        return decisive(held, content, parts, *aside)

    return {
        field.name: _plain(_content(field, getattr(part, field.name), content), inner)
        for field in fields_of(type(part)).values()
        if not {ASIDE, *aside} & set(field.marks)
        and all(mark.holds(part, parts) for mark in field.marks if isinstance(mark, Where))
    }


def _content(field: Field, value: Any, content: Callable[[Path], str]) -> Any:
    """A field's value; for weights that are a path, what stands for them."""
    if WEIGHTS not in field.marks or value is None or value in WORDS_OF_WEIGHTS:
        return value
    return content(Path(value)) if Path(value).exists() else value


def without_weights(part: Part) -> Part:
    """A part whose fields that name weights say `none`."""
    named = [field.name for field in fields_of(type(part)).values() if WEIGHTS in field.marks]
    return replace(cast(Any, part), **dict.fromkeys(named, "none"))


def _plain(value: Any, inner: Callable[[Any], dict[str, Any]]) -> Any:
    if is_dataclass(value):
        return inner(value)
    return [_plain(item, inner) for item in value] if isinstance(value, tuple) else value


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{'a': {'b': 1}} as {'a.b': 1}."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
