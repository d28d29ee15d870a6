"""One video and its masks, in the same form whatever data set it is from.

Shapes: T frames of H x W pixels. Object ids are 1, 2, ..., with gaps in some videos; 0 is background, 255
void.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property

import numpy as np

from vos_lightning.data.files import File, file_size
from vos_lightning.data.images import VOID, read_frame, read_mask
from vos_lightning.data.names import checked_name
from vos_lightning.errors import InputError


class Given(Enum):
    """What a model is told of a video.

    MASKS: the mask of each object where it starts. MATCHED: nothing, but what it finds is named by those
    masks. NOTHING. SCRIBBLES: a user's, in rounds. CORRECTED: a mask that a user corrects, in rounds.
    """

    MASKS = "masks"
    MATCHED = "matched"
    NOTHING = "nothing"
    SCRIBBLES = "scribbles"
    CORRECTED = "corrected"

    @property
    def has_masks(self) -> bool:
        """Whether first masks are needed, be it to name what is found."""
        return self in (Given.MASKS, Given.MATCHED)

    @property
    def in_rounds(self) -> bool:
        """Whether a user says something of one frame after the other, and sees all masks in between."""
        return self in (Given.SCRIBBLES, Given.CORRECTED)


@dataclass(frozen=True)
class Video:
    """One video: T frame files and, for each, its mask file or None where there is no annotation.

    one_object: all ids count as one object (DAVIS-2016).
    presence: the frames in which the data set lists each object, ascending, by its id (YouTube-VOS); None
        where every object is in the first mask.
    categories: the category of each object by its id, where the data set names them.
    luminance: the one object is where a mask is brighter than half, as JPEG masks need it.
    scribbles: files of first scribbles that the data set publishes, see `scribbles.read_scribbles`.

    Raises InputError for a name that `checked_name` refuses, since masks are written to a folder
    of that name.
    """

    name: str
    frames: tuple[File, ...]
    masks: tuple[File | None, ...]
    one_object: bool = False
    presence: Mapping[int, tuple[int, ...]] | None = None
    categories: Mapping[int, str] | None = None
    luminance: bool = False
    scribbles: tuple[File, ...] = field(default=(), repr=False)  # frames and masks are read without them

    def __post_init__(self) -> None:
        checked_name(self.name, self.frames[0] if self.frames else "video")

    def __len__(self) -> int:
        return len(self.frames)

    def frame(self, t: int) -> np.ndarray:
        """Reads frame t, (H, W, 3) uint8 RGB."""
        return read_frame(self.frames[t])

    def mask(self, t: int) -> np.ndarray:
        """Reads the mask of frame t, (H, W) uint8 ids with 255 as void; 0/255 masks of one object become 0/1.

        Raises InputError if frame t has no mask.
        """
        return self.ids(read_mask(self.mask_file(t), luminance=self.luminance))

    def mask_file(self, t: int) -> File:
        """The file of frame t's mask. Raises InputError if there is none."""
        path = self.masks[t]
        if path is None:
            raise InputError(f"{self.frames[t]}: video {self.name} has no mask for this frame.")
        return path

    def ids(self, stored: np.ndarray) -> np.ndarray:
        """The ids that stored values of a mask stand for, both (H, W) uint8, see `mask`."""
        if self.luminance:
            return (stored > VOID // 2).astype(np.uint8)
        if self.is_binary:
            return (stored == VOID).astype(np.uint8)
        return np.where(stored == VOID, VOID, stored > 0).astype(np.uint8) if self.one_object else stored

    @cached_property
    def is_binary(self) -> bool:
        """True if the only values in the video's masks are 0 and 255: one object, not void."""
        values: set[int] = set()
        if self.categories is not None:  # ids, as YouTube-VOS has them
            return False
        for path in self.masks:
            if path is not None:
                values.update(np.unique(read_mask(path)).tolist())
                if values - {0, VOID}:
                    return False
        return VOID in values

    @cached_property
    def objects(self) -> tuple[int, ...]:
        """The ids of the objects, ascending: those that `presence` lists, or else those in the first mask."""
        if self.presence is not None:
            return tuple(sorted(self.presence))
        return tuple(int(i) for i in np.unique(self.mask(0)) if i not in (0, VOID))

    @cached_property
    def starts(self) -> dict[int, int]:
        """The frame whose mask is given to a one-shot model, by the object's id."""
        if self.presence is None:
            return dict.fromkeys(self.objects, 0)
        return {i: frames[0] for i, frames in self.presence.items()}

    @property
    def annotated(self) -> tuple[int, ...]:
        """The frames that have a mask."""
        return tuple(t for t, path in enumerate(self.masks) if path is not None)

    @cached_property
    def asked(self) -> tuple[int, ...]:
        """The frames whose masks a data set asks for: listed or annotated ones (YouTube-VOS), or else all."""
        if self.presence is None or self.categories is None:
            return tuple(range(len(self)))
        return tuple(sorted({t for times in self.presence.values() for t in times} | set(self.annotated)))

    def described(self) -> str:
        """Text that changes when a frame or mask is added, renamed or resized, or an object listed elsewhere.

        Published scribbles are left out, since no training reads them, see `described_scribbles`.
        """
        listed = "" if self.presence is None else f"{self.presence} {self.categories}\n"
        return listed + self._sized(path for path in (*self.frames, *self.masks) if path is not None)

    def described_scribbles(self) -> str:
        """Text that changes when a file of published scribbles is added, renamed or resized."""
        return self._sized(self.scribbles)

    def _sized(self, files: Iterable[File]) -> str:
        return "".join(f"{self.name}/{file.name} {file_size(file)}\n" for file in files)

    def sources(self) -> tuple[list[File], str]:
        """The files that it is read from, and text of whatever else decides what is in it."""
        gaps = [path is None for path in self.masks]
        files = [path for path in (*self.frames, *self.masks) if path is not None]
        return files, f"{replace(self, frames=(), masks=())} {gaps}"

    def given(self) -> dict[int, np.ndarray]:
        """The given masks by their frames, (H, W) uint8: ids of objects that start there, else background.

        Raises InputError for an object that its first mask lacks.
        """
        found = {}
        for t in sorted({0, *self.starts.values()}):
            new = [i for i, start in self.starts.items() if start == t]
            if new or self.masks[t] is not None:
                mask = self.mask(t)
                absent = set(new) - set(np.unique(mask).tolist())
                if absent:
                    raise InputError(
                        f"{self.masks[t]}: video {self.name} starts object {min(absent)} here, but this mask "
                        "lacks it; mend the mask or meta.json."
                    )
                found[t] = np.where(np.isin(mask, new), mask, 0).astype(np.uint8)
        return found


def video_of(name: str, frames: tuple[File, ...], masks: tuple[File | None, ...]) -> Video:
    """Makes a video whose masks may be given at any frame: an object starts where it first has a pixel."""
    presence: dict[int, tuple[int, ...]] = {}
    plain = Video(name, frames, masks)
    for t in plain.annotated:
        for i in np.unique(plain.mask(t)).tolist():
            if i not in (0, VOID):
                presence[i] = (*presence.get(i, ()), t)
    return Video(name, frames, masks, presence=presence) if presence else plain
