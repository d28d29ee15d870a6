"""Scores folders of predicted masks against folders of true masks, both VIDEO/FRAME.png.

Only names are looked at before a video is scored. Each process scores one video at a time.
"""

import multiprocessing
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from vos_lightning.data.files import list_folder, reading
from vos_lightning.data.videos import Video
from vos_lightning.data.youtube_meta import MetaObject
from vos_lightning.errors import InputError
from vos_lightning.scoring import davis, youtube_vos

Score = TypeVar("Score")
# The true and the predicted masks of a video. No images are needed: `frames` names the files of all masks
# that there should be, `masks` those that are there.
VideoPair = tuple[Video, Video]


@reading()
def score_davis(
    truth: Path, predictions: Path, protocol: str, names: list[str] | None = None, jobs: int = 1
) -> davis.Scores:
    """Scores predictions under a DAVIS-2017 protocol.

    Args:
        truth: folder of VIDEO/FRAME.png.
        predictions: a folder like it of predicted masks; frames that the truth does not have are ignored.
        protocol: one of `davis.PROTOCOLS`; frames that it does not score need no prediction.
        names: the videos to score, by default all in `truth`.
        jobs: number of processes.

    Raises:
        InputError: a folder, a video or a frame to be scored is missing, an image cannot be read, or
            `davis.score_video` raises it.
    """
    _check_folders(truth, predictions)
    if names is None:
        names = sorted(p.name for p in truth.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not names:
        raise InputError(f"{truth}: no video folder; give a folder of VIDEO/FRAME.png.")
    scored = slice(1, -1) if protocol == "semi-supervised" else slice(None)
    pairs = []
    for name in names:
        masks = _true_masks(truth / name)
        files, found = _predicted_masks(predictions / name, masks, scored, protocol)
        pairs.append((Video(name, masks, masks), Video(name, files, found)))
    return davis.summarise(_each(partial(_score_davis, protocol=protocol), pairs, jobs))


def _score_davis(pair: VideoPair, protocol: str) -> davis.VideoScore:
    truth, predicted = pair
    return davis.score_video(*_masks(pair), protocol, truth.name, predicted.frames)


@reading()
def score_youtube_vos(
    truth: Path,
    predictions: Path,
    meta: Mapping[str, Mapping[int, MetaObject]],
    seen: Collection[str],
    protocol: str,
    jobs: int = 1,
) -> youtube_vos.Scores:
    """Scores predictions under a YouTube-VOS protocol.

    Args:
        truth: folder of VIDEO/FRAME.png with all masks that `meta` lists; further frames are scored too.
        predictions: a folder like it of predicted masks; frames that the truth does not have are ignored.
        meta: the videos and their objects, see `read_meta`.
        seen: categories of the training set.
        protocol: one of `youtube_vos.PROTOCOLS`; frames that it does not score need no prediction.
        jobs: number of processes.

    Raises:
        InputError: a folder, a video, a true mask or a frame to be scored is missing, an image cannot be
            read, or `youtube_vos.score_video` raises it.
    """
    _check_folders(truth, predictions)
    rule = youtube_vos.frame_rule(protocol)
    pairs = []
    for name, objects in meta.items():
        masks = _true_masks(truth / name)
        presence = {i: _times(truth / name, masks, i, o.frames) for i, o in objects.items()}
        first = min(times[0] for times in presence.values())
        scored = slice(first + rule.skip_first, len(masks) - rule.skip_last)
        files, found = _predicted_masks(predictions / name, masks, scored, protocol)
        categories = {i: o.category for i, o in objects.items()}
        pairs.append(
            (
                Video(name, masks, masks, presence=presence, categories=categories),
                Video(name, files, found, presence=presence, categories=categories),
            )
        )
    videos = _each(partial(_score_video, protocol=protocol), pairs, jobs)
    return youtube_vos.summarise(videos, seen, protocol)


def _score_video(pair: VideoPair, protocol: str) -> youtube_vos.VideoScore:
    truth, predicted = pair
    return youtube_vos.score_video(
        *_masks(pair), truth.starts, truth.categories or {}, protocol, truth.name, predicted.frames
    )


def _check_folders(*folders: Path) -> None:
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; give a folder of VIDEO/FRAME.png.")


def _true_masks(folder: Path) -> tuple[Path, ...]:
    masks = tuple(path for path in list_folder(folder, ".png").values() if isinstance(path, Path))
    if not masks:
        raise InputError(f"{folder}: no PNG masks of this video; give a folder of VIDEO/FRAME.png.")
    return masks


def _predicted_masks(
    folder: Path, masks: tuple[Path, ...], scored: slice, protocol: str
) -> tuple[tuple[Path, ...], tuple[Path | None, ...]]:
    """The files that should be there, one for each true mask, and which of them are there."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; predict video {folder.name} or use --split-list.")
    files = tuple(folder / mask.name for mask in masks)
    found = tuple(path if path.is_file() else None for path in files)
    if None in found[scored]:
        missing = files[scored][found[scored].index(None)]
        raise InputError(f"{missing}: no such file; the {protocol} protocol scores this frame.")
    return files, found


def _times(folder: Path, masks: tuple[Path, ...], number: int, frames: tuple[str, ...]) -> tuple[int, ...]:
    """The indices of the true masks that an object's `frames` name."""
    index = {mask.stem: t for t, mask in enumerate(masks)}
    missing = [frame for frame in frames if frame not in index]
    if missing:
        raise InputError(
            f"{folder / missing[0]}.png: no such file; meta.json lists this frame for object {number}, and "
            "scoring needs the true masks of all."
        )
    return tuple(index[frame] for frame in frames)


def _masks(pair: VideoPair) -> tuple[Iterator[np.ndarray], Iterator[np.ndarray | None]]:
    truth, predicted = pair
    return (
        map(truth.mask, range(len(truth))),
        (None if path is None else predicted.mask(t) for t, path in enumerate(predicted.masks)),
    )


def _each(score: Callable[[VideoPair], Score], pairs: list[VideoPair], jobs: int) -> Iterator[Score]:
    """Scores the pairs in order, in so many processes."""
    if jobs == 1:
        yield from map(score, pairs)
        return
    # Nothing here has threads, and forked processes start at once.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    with ProcessPoolExecutor(jobs, context) as pool:
        yield from pool.map(score, pairs)
