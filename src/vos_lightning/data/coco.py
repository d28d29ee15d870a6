"""Reads images with annotations in COCO's format, in the tree of COCO 2017.

Shapes: see `instances`.

    ROOT/SPLIT/IMAGE.jpg    ROOT/annotations/instances_SPLIT.json
    ROOT/annotations/image_info_SPLIT.json, of a split without annotations; the folder's name lacks its -dev

The JSON, with further keys that are not read; `segmentation` is what `regions` decodes:

    {"images": [{"id": 9, "file_name": "000000000009.jpg", "height": 480, "width": 640}],
     "categories": [{"id": 1, "name": "person"}],
     "annotations": [{"id": 1, "image_id": 9, "category_id": 1, "iscrowd": 0, "segmentation": ...}]}
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np

from vos_lightning.data.files import File, file_size, file_state, read_file, reading
from vos_lightning.data.images import MOST_PIXELS
from vos_lightning.data.instances import Image, Instances
from vos_lightning.data.names import checked_name
from vos_lightning.data.regions import decode_region
from vos_lightning.errors import InputError

KINDS = ("instances", "image_info")  # of JSON files: with annotations, and without
MOST_BYTES = 2**30  # of a JSON
MOST_MASKS = 2**31  # bytes of all masks of an image


class Entry(NamedTuple):
    """An annotation. category: the id that its file gives to it. segmentation: as in the file."""

    number: int
    category: int
    crowd: bool
    segmentation: Any


class Listed(NamedTuple):
    """An image of a JSON: its id, file and size (h, w), and its annotations."""

    number: int
    name: str
    size: tuple[int, int]
    entries: list[Entry]


class Contents(NamedTuple):
    """What a JSON holds: the names of categories by id, ascending, and the images in order of name."""

    categories: Mapping[int, str]
    images: Sequence[Listed]


@dataclass(frozen=True, eq=False)
class CocoAnnotation:
    """The annotations of one image.

    file: the JSON. categories: 1, 2, ... by the ids of the file; others are left out, as is an annotation
    without a pixel.
    """

    file: Path
    listed: Listed
    categories: Mapping[int, int]

    @property
    def files(self) -> tuple[File, ...]:
        """The JSON."""
        return (self.file,)

    @cached_property
    def taken(self) -> list[Entry]:
        """The annotations that are not left out for their category."""
        return [entry for entry in self.listed.entries if entry.category in self.categories]

    @property
    def count(self) -> int:
        """How many instances are listed."""
        return sum(not entry.crowd for entry in self.taken)

    def read(self, size: tuple[int, int]) -> Instances:
        """Decodes the masks. Raises InputError if one does not fit an image of `size` (h, w)."""
        where = f"{self.file}: image {self.listed.name}"
        if self.listed.size != size:
            sizes = " ".join(f"{w}x{h}" for h, w in (self.listed.size, size))
            raise InputError(f"{where}: listed size and size of the file differ ({sizes}); correct the list.")
        if len(self.taken) * size[0] * size[1] > MOST_MASKS:
            raise InputError(f"{where}: {len(self.taken)} masks take too much memory; shrink the image.")
        masks = [
            decode_region(entry.segmentation, size, f"{self.file}: annotation {entry.number}")
            for entry in self.taken
        ]
        seen = np.array([mask.any() for mask in masks], bool)
        numbers = np.array([self.categories[entry.category] for entry in self.taken], np.int64)
        return Instances(
            masks=np.array(masks, bool).reshape(-1, *size)[seen],
            categories=numbers[seen],
            crowd=np.array([entry.crowd for entry in self.taken], bool)[seen],
            void=np.zeros(size, bool),
        )

    def described(self) -> str:
        """See `Annotation.described`."""
        return f"{self.file.name} {file_size(self.file)} {self.categories}"


def load_coco(root: Path, split: str, names: Sequence[str]) -> list[Image]:
    """Lists the images of a split; none is opened, and no mask decoded.

    Args:
        root: the tree.
        split: such as train2017.
        names: of the categories that are taken, 1, 2, ...; without any, all of the split's file are.

    Raises:
        InputError: a file that is missing or not of the form above, an id or a name that occurs twice, an
            annotation of an image or a category that is not listed, or a category of `names` that is not.
    """
    file = annotation_file(root, split)
    contents = read_contents(file)
    names = names or tuple(contents.categories.values())
    for name in names:
        if name not in contents.categories.values():
            raise InputError(
                f"{file}: has no category {name}, which data.only or the training split names; give a file "
                "that has it."
            )
    ids = {name: i for i, name in contents.categories.items()}
    numbers = {ids[name]: number for number, name in enumerate(names, 1)}
    annotated = file.name.startswith(KINDS[0])
    folder = root / (split if annotated else split.removesuffix("-dev"))
    with reading():
        there = set(os.listdir(folder))
    for listed in contents.images:
        if listed.name not in there:
            raise InputError(f"{folder / listed.name}: no such file; {file} lists it as {listed.number}.")
    return [
        Image(
            PurePath(listed.name).stem,
            folder / listed.name,
            CocoAnnotation(file, listed, numbers) if annotated else None,
            listed.number,
            tuple(numbers),
        )
        for listed in contents.images
    ]


def annotation_file(root: Path, split: str) -> Path:
    """The JSON of a split. Raises InputError if there is none."""
    files = [root / "annotations" / f"{kind}_{split}.json" for kind in KINDS]
    for file in files:
        if file.is_file():
            return file
    raise InputError(f"{files[0]}: no such file; data.root must be a tree in COCO's layout.")


def splits_of(root: Path) -> list[str]:
    """The splits that have a JSON."""
    found = [(kind, file.stem) for kind in KINDS for file in (root / "annotations").glob(f"{kind}_*.json")]
    return sorted({name.removeprefix(f"{kind}_") for kind, name in found})


def read_contents(file: Path) -> Contents:
    """What a JSON holds, which is read once. Raises InputError as `load_coco`."""
    return _contents(file, file_state(file)[0])


@lru_cache(maxsize=4)
def _contents(file: Path, state: str) -> Contents:
    try:
        whole = json.loads(read_file(file, MOST_BYTES))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: not readable as JSON ({str(error)[:80]}); fetch the file again.") from None
    rows = _rows(whole, file, "categories", "category")
    categories = {number: _text(row, "name", where) for number, row, where in rows}
    if len(set(categories.values())) < len(categories):
        raise InputError(f"{file}: two categories have the same name; rename one.")
    images = {
        number: Listed(number, checked_name(_text(row, "file_name", where), where), _size(row, where), [])
        for number, row, where in _rows(whole, file, "images", "image")
    }
    names: dict[str, str] = {}
    for listed in images.values():
        stem = PurePath(listed.name).stem
        if stem in names:
            raise InputError(f"{file}: {names[stem]} and {listed.name} have the same name; rename one.")
        names[stem] = listed.name
    for number, row, where in _rows(whole, file, "annotations", "annotation", needed=False):
        for key, known in (("image_id", images), ("category_id", categories)):
            if type(row.get(key)) is not int or row[key] not in known:
                raise InputError(f"{where}: no {key} {ascii(row.get(key))[:40]} is listed; correct the file.")
        crowd = row.get("iscrowd", 0)
        if type(crowd) is not int or crowd not in (0, 1):
            raise InputError(f"{where}: iscrowd must be 0 or 1; correct the file.")
        entry = Entry(number, row["category_id"], crowd == 1, row.get("segmentation"))
        images[row["image_id"]].entries.append(entry)
    return Contents(dict(sorted(categories.items())), sorted(images.values(), key=lambda one: one.name))


def _rows(
    whole: Any, file: Path, key: str, word: str, needed: bool = True
) -> Iterator[tuple[int, dict[str, Any], str]]:
    """The ids of what a key lists, what is listed, and words for it in error messages."""
    rows = whole.get(key, [] if not needed else None) if isinstance(whole, dict) else None
    if not isinstance(rows, list) or (needed and not rows):
        raise InputError(f'{file}: no list "{key}"; give a file in COCO\'s format.')
    seen: set[int] = set()
    for row in rows:
        number = row.get("id") if isinstance(row, dict) else None
        if type(number) is not int or not 0 <= number < 2**63:
            raise InputError(f'{file}: an entry of "{key}" has no id that is a whole number; correct it.')
        if number in seen:
            raise InputError(f"{file}: {word} {number} is listed twice; leave one out.")
        seen.add(number)
        yield number, row, f"{file}: {word} {number}"


def _text(row: dict[str, Any], key: str, where: str) -> str:
    text = row.get(key)
    if not isinstance(text, str) or not 0 < len(text) <= 255 or not text.isprintable():
        raise InputError(f'{where}: no "{key}"; give it a printable name.')
    return text


def _size(row: dict[str, Any], where: str) -> tuple[int, int]:
    height, width = row.get("height"), row.get("width")
    if type(height) is not int or type(width) is not int or min(height, width) < 1:
        raise InputError(f"{where}: height and width must be whole numbers of pixels; correct the file.")
    if height * width > MOST_PIXELS:
        raise InputError(f"{where}: {width}x{height} is more than {MOST_PIXELS} pixels; shrink the image.")
    return height, width
