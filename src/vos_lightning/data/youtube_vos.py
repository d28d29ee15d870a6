"""Reads YouTube-VOS in its published tree, as folders or as zips that stay packed, into videos.

Shapes: T frames of H x W pixels. Object ids are 1, 2, ..., with gaps in some videos; 0 is background.

    ROOT/SPLIT/meta.json    {"videos": {VIDEO: {"objects": {ID: {"category", "frames": ["00000", ...]}}}}}
    ROOT/SPLIT/JPEGImages/VIDEO/00000.jpg, 00005.jpg, ...    ROOT/SPLIT/Annotations/VIDEO/00000.png, ...
    ROOT/SPLIT_all_frames/JPEGImages/VIDEO/00000.jpg, 00001.jpg, ...

Each of SPLIT and SPLIT_all_frames is a folder or a zip of that name; SPLIT is train, valid or test. In valid
and test as published, an object has no mask but its first.
"""

import math
from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np

from vos_lightning.data.files import File, find_tree, list_folder, read_file, read_names, reading
from vos_lightning.data.videos import Video
from vos_lightning.data.youtube_meta import MetaObject, read_meta
from vos_lightning.errors import InputError

IMAGES = "JPEGImages"
SPLITS = ("train", "train-80", "train-20", "valid", "test")
PORTIONS = (25, 50, 75, 100)
DIVISION_SEED = 80  # of the training videos into train-80 and train-20


@reading()
def load_youtube_vos(
    root: Path,
    split: str,
    all_frames: bool = False,
    first_mask_only: bool = False,
    portion: int = 100,
    seed: int = 0,
    lists: tuple[Path | None, Path | None] = (None, None),
) -> list[Video]:
    """Lists the videos of a split in order of name; images are not opened.

    Args:
        root: folder of the splits.
        split: one of SPLITS; train-80 and train-20 divide the training videos as `lists` say, or else at
            random, but always in the same way.
        all_frames: takes the frames from SPLIT_all_frames; those between annotations have no mask.
        first_mask_only: accepts videos that lack masks after an object's first, and videos of one frame.
        portion: percent of the videos of train or train-80 that are taken, one of PORTIONS; the videos of 25
            are among those of 50. Other splits are taken whole.
        seed: decides which videos a portion takes.
        lists: the files that name the videos of train-80 and of train-20, one a line or, where they end in
            .json, in the form of meta.json; both or neither.

    Raises:
        InputError: the split or portion is unknown, a file is missing, a zip or a meta.json cannot be read,
            one list is given alone, both name a video, or one names a video that meta.json lacks.
    """
    if split not in SPLITS:
        raise InputError(f"data split {split}: unknown; choose one of {', '.join(SPLITS)}.")
    if portion not in PORTIONS:
        raise InputError(f"data.portion={portion}: choose one of {', '.join(map(str, PORTIONS))}.")
    published = split.partition("-")[0]
    tree = _tree(root, published)
    every = _tree(root, f"{published}_all_frames") if all_frames else tree
    videos = _read_meta(tree)
    listed = _listed(lists, split, videos)
    names = _choose(sorted(videos), split, portion, seed, listed)
    if not names:
        raise InputError(f"{tree / 'meta.json'}: too few videos for split {split}; give more.")
    return [_load_video(tree, every, name, videos[name], first_mask_only) for name in names]


@reading()
def splits_there(root: Path) -> list[str]:
    """The splits of SPLITS that `root` holds. Raises InputError for a zip that cannot be read."""
    return [split for split in SPLITS if find_tree(root, split.partition("-")[0], IMAGES) is not None]


@reading()
def categories_of(root: Path, published: Iterable[str]) -> set[str]:
    """The categories of published splits; those of train are the seen ones.

    Raises InputError as `load_youtube_vos`.
    """
    videos = [objects for name in published for objects in _read_meta(_tree(root, name)).values()]
    return {thing.category for objects in videos for thing in objects.values()}


def _tree(root: Path, name: str) -> File:
    tree = find_tree(root, name, IMAGES)
    if tree is None:
        raise InputError(
            f"{root / name}: no such folder, nor {name}.zip; data.root must hold the published tree."
        )
    return tree


def _read_meta(tree: File) -> dict[str, dict[int, MetaObject]]:
    file = tree / "meta.json"
    return read_meta(read_file(file), str(file))


def _listed(lists: tuple[Path | None, Path | None], split: str, videos: Collection[str]) -> list[str] | None:
    """The names of a split in its list, or None if it has no list."""
    if None in lists and lists != (None, None):
        raise InputError("data.train_list, data.val_list: one is set alone; set both or neither.")
    named = {path: _names(path) for path in lists if path is not None}
    for path, names in named.items():
        if unknown := [name for name in names if name not in videos]:
            raise InputError(
                f"{path}: meta.json has no training video {unknown[0]}; list videos that it has."
            )
    if len(named) == 2 and (both := set.intersection(*map(set, named.values()))):
        raise InputError(f"data.train_list, data.val_list: both name video {min(both)}; name it in one.")
    listed = dict(zip(("train-80", "train-20"), lists, strict=True)).get(split)
    return None if listed is None else list(named[listed])


def _names(path: Path) -> Collection[str]:
    """The videos that a file names: one a line, or as a meta.json where it ends in .json."""
    return read_meta(read_file(path), str(path)) if path.suffix == ".json" else read_names(path)


def _choose(names: list[str], split: str, portion: int, seed: int, listed: list[str] | None) -> list[str]:
    """The names of a split among those of the published one; `listed` replaces the random division."""
    if listed is not None:
        names = listed
    elif split in ("train-80", "train-20"):
        shuffled, cut = _shuffle(names, DIVISION_SEED), len(names) * 4 // 5
        names = shuffled[:cut] if split == "train-80" else shuffled[cut:]
    if split in ("train", "train-80"):
        names = _shuffle(sorted(names), seed)[: math.ceil(len(names) * portion / 100)]
    return sorted(names)


def _shuffle(names: list[str], seed: int) -> list[str]:
    return [names[i] for i in np.random.default_rng(seed).permutation(len(names))]


def _load_video(
    tree: File, every: File, name: str, objects: dict[int, MetaObject], first_mask_only: bool
) -> Video:
    images, annotations = every / IMAGES / name, tree / "Annotations" / name
    frames, masks = list_folder(images, ".jpg"), list_folder(annotations, ".png")
    if len(frames) < (1 if first_mask_only else 2):
        raise InputError(f"{images}: {len(frames)} JPEG frames; video {name} of meta.json needs two or more.")
    times = {stem: t for t, stem in enumerate(frames)}
    for thing in objects.values():
        for stem in thing.frames:
            if stem not in times:
                raise InputError(
                    f"{images / stem}.jpg: no such file; meta.json lists this frame for video {name}."
                )
        for stem in thing.frames[:1] if first_mask_only else thing.frames:
            if stem not in masks:
                raise InputError(
                    f"{annotations / stem}.png: no such file; video {name} needs this mask of an object "
                    "that meta.json lists there."
                )
    return Video(
        name,
        tuple(frames.values()),
        tuple(masks.get(stem) for stem in frames),
        presence={i: tuple(times[stem] for stem in thing.frames) for i, thing in objects.items()},
        categories={i: thing.category for i, thing in objects.items()},
    )
