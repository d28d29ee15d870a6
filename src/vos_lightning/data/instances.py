"""One image and its instances, whatever data set it is from; and batches of them for training.

Shapes: N instances of an image of h x w pixels; B images of H x W pixels, the network's input, with O slots.
Categories are 1, 2, ...; 0 is no category. A box is (left, top, right, bottom) as shares of width and height.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from torch import Tensor

from vos_lightning.data.files import File, file_size, read_file
from vos_lightning.data.images import image_size, read_frame
from vos_lightning.data.names import LONGEST, checked_name
from vos_lightning.errors import InputError

OBJECT = "object"  # the category of objects whose data set names none
ALL = "detections.json"  # what is found in all images of a split; NAME.json, what is in one


@dataclass(frozen=True)
class Instances:
    """What is annotated in an image.

    masks: (N, h, w) bool; they may overlap. categories: (N,) int64. crowd: (N,) bool, of masks that cover
    several instances and are neither found nor missed. void: (h, w) bool, pixels that count for nothing.
    """

    masks: np.ndarray
    categories: np.ndarray
    crowd: np.ndarray
    void: np.ndarray

    def __len__(self) -> int:
        return len(self.masks)


@dataclass(frozen=True)
class Detections:
    """What a network finds in an image: masks (N, h, w) bool, scores (N,) in 0..1, categories (N,) int64.

    A network that finds no categories gives 0.
    """

    masks: np.ndarray
    scores: np.ndarray
    categories: np.ndarray

    def __len__(self) -> int:
        return len(self.masks)


class Annotation(Protocol):
    """Where the instances of an image come from."""

    @property
    def files(self) -> tuple[File, ...]:
        """The files that they are read from."""

    @property
    def count(self) -> int:
        """How many instances are listed, without crowds. Raises InputError if that cannot be read."""

    def read(self, size: tuple[int, int]) -> Instances:
        """The instances of an image of `size` (h, w). Raises InputError for what does not fit it."""

    def described(self) -> str:
        """Text that changes when the annotation does, without opening an image."""


@dataclass(frozen=True)
class Image:
    """One image: its file, and its annotation, None where there is none.

    name: what its results are called; it is unique in a split. number, category_ids: its own id and those of
    categories 1, 2, ... in a data set of COCO's format. Raises InputError for a name that `checked_name`
    refuses, or that cannot be that of a file of results.
    """

    name: str
    file: File
    annotation: Annotation | None = None
    number: int | None = None
    category_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        checked_name(self.name, self.file)
        result = f"{self.name}.json"
        if result == ALL or len(result.encode()) > LONGEST:
            raise InputError(
                f"{self.file}: the name of the image's results, {result[:40]}, must not be {ALL} and have at "
                f"most {LONGEST} bytes; rename the image."
            )

    def described(self) -> str:
        """Text that changes when the image's file or its annotation does."""
        more = "" if self.annotation is None else self.annotation.described()
        return f"{self.name} {self.file.name} {file_size(self.file)} {more}\n"

    def sources(self) -> tuple[list[File], str]:
        """The files that it is read from, and text of whatever else decides what is in it."""
        more = self.annotation
        return ([self.file], self.name) if more is None else ([self.file, *more.files], self.described())

    def frame(self) -> np.ndarray:
        """Reads the image, (h, w, 3) uint8 RGB."""
        return read_frame(self.file)

    def size(self) -> tuple[int, int]:
        """Its height and width, from the file's header."""
        return image_size(self.file, read_file(self.file))


class InstanceBatch(NamedTuple):
    """An image with its instances, or a batch of them with a leading B.

    frames: (3, H, W) float32, normalised by ImageNet's mean and deviation. masks: (O, H, W) uint8, 0 or 1,
    the largest instance first, empty behind the last one. categories: (O,) int64. boxes: (O, 4) float32 of
    the masks. weights: (O,) float32, 1 for an instance, 0 behind the last one.
    """

    frames: Tensor
    masks: Tensor
    categories: Tensor
    boxes: Tensor
    weights: Tensor


def boxes_of(masks: np.ndarray) -> np.ndarray:
    """The boxes (N, 4) float32 around masks (N, h, w); zeros around an empty one."""
    height, width = masks.shape[1:]
    found = np.zeros((len(masks), 4), np.float32)
    for box, mask in zip(found, masks, strict=True):
        rows, columns = mask.any(1).nonzero()[0], mask.any(0).nonzero()[0]
        if len(rows):
            box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return found / np.array([width, height, width, height], np.float32)
