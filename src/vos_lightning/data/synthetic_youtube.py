"""A synthetic data set in YouTube-VOS's tree, written once: every fifth frame has masks, objects come late.

Shapes: T annotated frames of H x W pixels, 5 (T - 1) + 1 frames in all; masks hold object ids, 0 background.

    FOLDER/SPLIT/JPEGImages/VIDEO/00000.jpg, 00005.jpg, ...    FOLDER/SPLIT/Annotations/VIDEO/00000.png, ...
    FOLDER/SPLIT/meta.json, as YouTube-VOS has it
    FOLDER/SPLIT_all_frames/JPEGImages/VIDEO/00000.jpg, 00001.jpg, ...

In test, an object is only in the mask of its first frame.
"""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np

from vos_lightning.data.images import write_mask
from vos_lightning.data.synthetic import Spec, categories_of, in_processes, write_once
from vos_lightning.data.synthetic_render import render_clip
from vos_lightning.fields import whole

SPLITS = ("train", "valid", "test")
STRIDE = 5  # An annotated frame in so many.
PACE = 1.2  # Motion between two of them, as a share of that between two frames of `synthetic`.
SPAN = 12.0  # That motion over a whole path, in such frames, or that of the video if it is longer.
LEAST_SHARE = 0.005  # An object that covers less of the frame is left out of the mask.


@dataclass(frozen=True)
class SyntheticYouTubeSpec(Spec):
    """What to write: the seed (>= 0), videos a split, T annotated frames each, H and W in pixels."""

    kind, version = "synthetic-youtube", 3
    least_frames = 4

    seed: Annotated[int, whole(0)] = 0
    train: Annotated[int, whole(0, 100_000)] = 120
    valid: Annotated[int, whole(0, 100_000)] = 24
    test: Annotated[int, whole(0, 100_000)] = 4
    frames: Annotated[int, whole(1, 10_000)] = 8
    height: Annotated[int, whole(32, 4096)] = 128
    width: Annotated[int, whole(32, 4096)] = 224


def write_synthetic_youtube(root: Path, spec: SyntheticYouTubeSpec, workers: int | None = None) -> Path:
    """Writes the data set below root unless it is there, and returns its folder.

    `cast_of` says which objects a video has. Arguments and errors are those of `write_once`.
    """
    return write_once(root, spec, lambda folder: _write_tree(folder, spec, workers))


class Cast(NamedTuple):
    """The objects of a video.

    ids: their ids in the masks, in the order in which they are drawn; 0 stands for one that is not listed.
    least: how many are drawn at least; at most all are. twins: whether the first two share shape and colours.
    late: whether the last one comes in after the start.
    """

    ids: tuple[int, ...]
    least: int
    twins: bool = False
    late: bool = False


def cast_of(index: int) -> Cast:
    """Which objects the video of this number has, in every split.

    Even-numbered videos list one object, half of them beside a twin that is not listed. The others list two
    or three: in half of these the first two are twins, in a quarter the last comes late, in a fifth the ids
    leave out 2.
    """
    if index % 4 == 0:
        return Cast(ids=(1, 0), least=2, twins=True)
    if index % 2 == 0:
        return Cast(ids=(1,), least=1)
    ids = (1, 3, 4) if index % 10 == 1 else (1, 2, 3)
    return Cast(ids, least=2, twins=index % 8 in (1, 7), late=index % 8 == 3)


def _write_tree(folder: Path, spec: SyntheticYouTubeSpec, workers: int | None) -> None:
    for split in SPLITS:
        jobs = [(split, index) for index in range(getattr(spec, split))]
        (folder / split).mkdir(parents=True)
        videos = in_processes(partial(_write_video, folder, spec), jobs, workers)
        (folder / split / "meta.json").write_text(json.dumps({"videos": videos}))


def _write_video(folder: Path, spec: SyntheticYouTubeSpec, job: tuple[str, int]) -> tuple[str, dict]:
    """Writes one video and returns its name and its entry in meta.json."""
    split, index = job
    name, cast = f"{split}-{index:04d}", cast_of(index)
    rng = np.random.default_rng([spec.seed, spec.version, STRIDE, SPLITS.index(split), index])
    categories = categories_of(rng, split, index, cast.twins, cast.least, len(cast.ids))
    every = folder / f"{split}_all_frames" / "JPEGImages" / name
    images, annotations = (folder / split / kind / name for kind in ("JPEGImages", "Annotations"))
    for made in (every, images, annotations):
        made.mkdir(parents=True)
    times = np.arange(STRIDE * (spec.frames - 1) + 1) * (PACE / STRIDE)
    masks = {}
    span = max(SPAN, times[-1])
    clip = render_clip(rng, categories, cast.twins, times, span, spec.height, spec.width, cast.late)
    for t, (image, drawn) in enumerate(clip):
        path = every / f"{t:05d}.jpg"
        image.save(path, quality=90)
        if t % STRIDE == 0:
            (images / path.name).hardlink_to(path)
            masks[path.stem] = _annotate(drawn, cast.ids)
    listed = _frames_of_objects(masks)
    if split == "test":
        listed = {i: [frame for frame in masks if frame >= seen[0]] for i, seen in listed.items()}
        masks = _only_first(masks, listed)
    for frame, mask in masks.items():
        write_mask(annotations / f"{frame}.png", mask)
    objects = {
        str(i): {"category": " ".join(category), "frames": listed[i]}
        for i, category in zip(cast.ids, categories, strict=False)
        if i in listed
    }
    return name, {"objects": objects}


def _annotate(drawn: np.ndarray, ids: tuple[int, ...]) -> np.ndarray:
    """A drawn mask (H, W) of 1..N with these ids instead, 0 for what is not listed, slivers left out."""
    labels = np.array([0, *ids], dtype=np.uint8)
    areas = np.bincount(drawn.ravel(), minlength=len(labels))
    labels[areas < LEAST_SHARE * drawn.size] = 0
    return labels[drawn]


def _frames_of_objects(masks: dict[str, np.ndarray]) -> dict[int, list[str]]:
    """The names of the frames whose masks show an object, in order, by the object's id."""
    frames: dict[int, list[str]] = {}
    for frame, mask in masks.items():
        for i in np.unique(mask[mask > 0]).tolist():
            frames.setdefault(i, []).append(frame)
    return frames


def _only_first(masks: dict[str, np.ndarray], listed: dict[int, list[str]]) -> dict[str, np.ndarray]:
    """The masks of the frames in which objects are listed first, with these objects alone."""
    starting = {frame: [i for i, frames in listed.items() if frame in frames[:1]] for frame in masks}
    return {
        frame: np.where(np.isin(masks[frame], ids), masks[frame], 0) for frame, ids in starting.items() if ids
    }
