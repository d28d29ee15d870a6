"""DAVIS-2016 and DAVIS-2017 in their public trees, read into sequences.

Shapes: T frames of H x W pixels. Object ids are 1, 2, ...; 0 is background, 255 void.

    ROOT/JPEGImages/480p/SEQ/00000.jpg    ROOT/Annotations/480p/SEQ/00000.png
    ROOT/ImageSets/2017/{train,val,test-dev,test-challenge}.txt       names
    ROOT/ImageSets/2016/{train,val}.txt                               names
    ROOT/ImageSets/480p/{train,val}.txt                               pairs of paths (DAVIS-2016)
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from vos_lightning.data.images import VOID, read_frame, read_mask
from vos_lightning.errors import InputError


@dataclass(frozen=True)
class Sequence:
    """One video: T frame files and, for each, its mask file or None where there is no annotation."""

    name: str
    frames: tuple[Path, ...]
    masks: tuple[Path | None, ...]
    one_object: bool = False  # DAVIS-2016: all ids are one

    def __len__(self) -> int:
        return len(self.frames)

    def frame(self, t: int) -> np.ndarray:
        """Frame t, (H, W, 3) uint8 RGB."""
        return read_frame(self.frames[t])

    def mask(self, t: int) -> np.ndarray:
        """Mask of frame t, (H, W) uint8 ids with 255 as void; 0/255 masks of one object become 0/1.

        Raises InputError if frame t has no mask.
        """
        return self.ids(read_mask(self.mask_file(t)))

    def mask_file(self, t: int) -> Path:
        """The file of frame t's mask. Raises InputError if there is none."""
        path = self.masks[t]
        if path is None:
            raise InputError(f"{self.frames[t]}: sequence {self.name} has no mask for this frame.")
        return path

    def ids(self, stored: np.ndarray) -> np.ndarray:
        """Ids of mask values as stored, both (H, W) uint8, see `mask`."""
        if self.is_binary:
            return (stored == VOID).astype(np.uint8)
        return np.where(stored == VOID, VOID, stored > 0).astype(np.uint8) if self.one_object else stored

    @cached_property
    def is_binary(self) -> bool:
        """True if the only values in the sequence's masks are 0 and 255: one object, not void."""
        values: set[int] = set()
        for path in self.masks:
            if path is not None:
                values.update(np.unique(read_mask(path)).tolist())
                if values - {0, VOID}:
                    return False
        return VOID in values

    @cached_property
    def objects(self) -> tuple[int, ...]:
        """Ids in the first mask, ascending, void left out."""
        return tuple(int(i) for i in np.unique(self.mask(0)) if i not in (0, VOID))


def _split_names(root: Path, year: int, split: str) -> list[str]:
    lists = [root / "ImageSets" / str(year) / f"{split}.txt"]
    if year == 2016:
        lists.append(root / "ImageSets" / "480p" / f"{split}.txt")
    for path in lists:
        if path.is_file():
            first_words = [line.split()[0] for line in path.read_text().splitlines() if line.strip()]
            # A line is a name, or in DAVIS-2016 the paths of one frame and its mask.
            return list(dict.fromkeys(Path(w).parent.name if "/" in w else w for w in first_words))
    raise InputError(
        f"{lists[0]}: no such file; data.root must be a DAVIS tree and data split one of its lists."
    )


def load_davis(
    root: Path, split: str, year: int = 2017, resolution: str = "480p", first_mask_only: bool = False
) -> list[Sequence]:
    """Lists the sequences of a split; images are not opened.

    Args:
        root: the DAVIS tree.
        split: train, val, test-dev, test-challenge, or any other list there.
        year: 2016 or 2017, which list to read.
        resolution: folder below JPEGImages and Annotations: 480p or Full-Resolution.
        first_mask_only: accept sequences with a mask for frame 0 only (the test splits).

    Raises:
        InputError: a missing root, list, sequence folder or mask.
    """
    if not root.is_dir():
        raise InputError(
            f"{root}: no such folder; set data.root to the DAVIS tree (the folder of JPEGImages)."
        )
    return [
        _load_sequence(root, resolution, name, first_mask_only, year == 2016)
        for name in _split_names(root, year, split)
    ]


def _load_sequence(
    root: Path, resolution: str, name: str, first_mask_only: bool, one_object: bool
) -> Sequence:
    folder = root / "JPEGImages" / resolution / name
    frames = tuple(sorted(folder.glob("*.jpg")))
    if not frames:
        raise InputError(f"{folder}: no JPEG frames; the split list names sequence {name}.")
    annotations = root / "Annotations" / resolution / name
    found = {path.stem: path for path in annotations.glob("*.png")}
    masks = tuple(found.get(frame.stem) for frame in frames)
    if masks[0] is None:
        raise InputError(
            f"{annotations / frames[0].stem}.png: no such file; sequence {name} has no first mask."
        )
    if not first_mask_only and None in masks:
        missing = frames[masks.index(None)].stem
        raise InputError(f"{annotations / missing}.png: no such file; sequence {name} needs a mask a frame.")
    return Sequence(name, frames, masks, one_object)
