"""Counts what a data set holds, for the columns of S2S's Table 1 (Xu et al., ECCV 2018)."""

from collections import Counter, defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vos_lightning.data.davis import load_davis
from vos_lightning.data.files import find_tree, read_file, reading
from vos_lightning.data.images import VOID
from vos_lightning.data.single_object import (
    MASK_FOLDERS,
    frame_number,
    load_jumpcut,
    load_segtrack,
    load_youtube_objects,
)
from vos_lightning.data.videos import Video
from vos_lightning.data.youtube_meta import read_meta
from vos_lightning.errors import InputError


class Counts(NamedTuple):
    """The columns of the table.

    categories: None where the data set names none. annotations: an object counts once in each frame that
    shows it, so a mask of two objects is two annotations. minutes: the length of all videos together.
    """

    videos: int
    categories: int | None
    objects: int
    annotations: int
    minutes: float


# S2S, Table 1.
PUBLISHED = {
    "JumpCut": Counts(22, 14, 22, 6331, 3.52),
    "SegTrackv2": Counts(14, 11, 24, 1475, 0.59),
    "YouTube-Objects": Counts(96, 10, 96, 1692, 9.01),
    "FBMS": Counts(59, 16, 139, 1465, 7.70),
    "DAVIS": Counts(50, None, 50, 3440, 2.88),
}


def count_videos(videos: list[Video], fps: float) -> Counts:
    """Reads every mask and counts what is in it.

    Videos whose frames lie in one folder count as one. A video lasts from the first to the last number in the
    names of its frames: 00010.jpg and 00030.jpg are 21 frames.

    Raises:
        InputError: a mask cannot be read, or a frame has no number in its name.
    """
    numbers: dict[str, set[int]] = defaultdict(set)
    categories: set[str] = set()
    objects = annotations = 0
    for video in videos:
        numbers[str(video.frames[0]).rpartition("/")[0]].update(map(frame_number, video.frames))
        categories.update((video.categories or {}).values())
        seen: Counter[int] = Counter()
        for t in video.annotated:
            seen.update(np.flatnonzero(np.bincount(video.mask(t).ravel())).tolist())
        del seen[0], seen[VOID]
        objects += len(seen)
        annotations += seen.total()
    frames = sum(max(found) - min(found) + 1 for found in numbers.values())
    return Counts(len(numbers), len(categories) or None, objects, annotations, frames / fps / 60)


def count_youtube_vos(root: Path, fps: float) -> Counts:
    """Counts what the meta.json of train, valid and test list, of those that are there; no image is opened.

    Raises InputError for a meta.json that cannot be used.
    """
    trees = [find_tree(root, name, "JPEGImages") for name in ("train", "valid", "test")]
    files = [tree / "meta.json" for tree in trees if tree is not None]
    videos = [
        list(objects.values()) for file in files for objects in read_meta(read_file(file), str(file)).values()
    ]
    frames = 0
    for objects in videos:
        numbers = [frame_number(Path(name)) for found in objects for name in found.frames]
        frames += max(numbers) - min(numbers) + 1
    found = [o for objects in videos for o in objects]
    categories = {o.category for o in found}
    annotations = sum(len(o.frames) for o in found)
    return Counts(len(videos), len(categories), len(found), annotations, frames / fps / 60)


class Format(NamedTuple):
    """A data set's public tree.

    patterns: paths that no other tree has. fps: frames per second. counts_of: counts the tree below a root,
    at so many frames per second.
    """

    name: str
    patterns: tuple[str, ...]
    fps: float
    counts_of: Callable[[Path, float], Counts]


def _by_masks(load: Callable[[Path], list[Video]]) -> Callable[[Path, float], Counts]:
    return lambda root, fps: count_videos(load(root), fps)


def _davis(root: Path, year: int) -> list[Video]:
    return [*load_davis(root, "train", year), *load_davis(root, "val", year)]


FORMATS = {
    "davis2016": Format(
        "DAVIS-2016", ("ImageSets/2016", "ImageSets/480p"), 20, _by_masks(partial(_davis, year=2016))
    ),
    "davis2017": Format("DAVIS-2017", ("ImageSets/2017",), 20, _by_masks(partial(_davis, year=2017))),
    "youtube-vos": Format(
        "YouTube-VOS", ("*/meta.json", "train.zip", "valid.zip", "test.zip"), 30, count_youtube_vos
    ),
    "segtrack": Format("SegTrackv2", ("GroundTruth",), 30, _by_masks(load_segtrack)),
    "jumpcut": Format("JumpCut", tuple(f"*/*/{n}" for n in MASK_FOLDERS), 30, _by_masks(load_jumpcut)),
    "youtube-objects": Format("YouTube-Objects", ("*/data/*/shots",), 30, _by_masks(load_youtube_objects)),
}


@reading()
def formats_of(root: Path) -> list[str]:
    """The keys of FORMATS whose trees lie at `root`; a DAVIS tree may hold the lists of both years.

    Raises InputError if there is none of these trees.
    """
    found = [key for key, form in FORMATS.items() if any(any(root.glob(p)) for p in form.patterns)]
    if not found:
        raise InputError(f"{root}: no known data set; expected the public tree of {', '.join(FORMATS)}.")
    return found
