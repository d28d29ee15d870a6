"""Synthetic twins of DAVIS-2016 and of the data sets that S2S's setting 2 adds to it, written once.

Shapes: T frames of H x W pixels, one object a video. The trees are those of `davis` and `single_object`:

    FOLDER/DAVIS    FOLDER/SegTrackv2    FOLDER/JumpCut    FOLDER/YouTube-Objects
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
from PIL import Image

from vos_lightning.data.synthetic import Job, Spec, categories_of, in_processes, write_once
from vos_lightning.data.synthetic_render import render_clip
from vos_lightning.fields import whole

# A frame's and its mask's file: n is the video's number, t the frame's, category the object's.
LAYOUTS = {
    "train": (
        "DAVIS/JPEGImages/480p/train-{n:04d}/{t:05d}.jpg",
        "DAVIS/Annotations/480p/train-{n:04d}/{t:05d}.png",
    ),
    "val": (
        "DAVIS/JPEGImages/480p/val-{n:04d}/{t:05d}.jpg",
        "DAVIS/Annotations/480p/val-{n:04d}/{t:05d}.png",
    ),
    "segtrack": (
        "SegTrackv2/JPEGImages/{n:02d}/{n:02d}_{t:05d}.png",
        "SegTrackv2/GroundTruth/{n:02d}/{n:02d}_{t:05d}.png",
    ),
    "jumpcut": ("JumpCut/ANIMAL/{n:02d}/RGB/{t:05d}.jpg", "JumpCut/ANIMAL/{n:02d}/GT/{t:05d}.png"),
    "youtube_objects": (
        "YouTube-Objects/{category}/data/{n:04d}/shots/001/images/{t:05d}.png",
        "YouTube-Objects/{category}/data/{n:04d}/shots/001/labels/{t:05d}.jpg",
    ),
}


@dataclass(frozen=True)
class SyntheticTreesSpec(Spec):
    """What to write: the seed (>= 0), videos of each data set, T frames each, H and W in pixels.

    train, val: how many videos DAVIS has, with `frames` each; the others' videos have `added_frames`.
    """

    kind, version = "synthetic-trees", 1
    least_frames = 2

    seed: Annotated[int, whole(0)] = 0
    train: Annotated[int, whole(0, 100_000)] = 30
    val: Annotated[int, whole(0, 100_000)] = 20
    segtrack: Annotated[int, whole(0, 100_000)] = 10
    jumpcut: Annotated[int, whole(0, 100_000)] = 10
    youtube_objects: Annotated[int, whole(0, 100_000)] = 40
    frames: Annotated[int, whole(1, 10_000)] = 20
    added_frames: Annotated[int, whole(1, 10_000)] = 12
    height: Annotated[int, whole(32, 4096)] = 128
    width: Annotated[int, whole(32, 4096)] = 224


def write_synthetic_trees(root: Path, spec: SyntheticTreesSpec, workers: int | None = None) -> Path:
    """Writes the data sets below root unless they are there, and returns their folder.

    Objects are of the SEEN categories of `synthetic`, but for those of every other video of val. Arguments
    and errors as `write_once`.
    """
    return write_once(root, spec, lambda folder: _write_trees(folder, spec, workers))


def _write_trees(folder: Path, spec: SyntheticTreesSpec, workers: int | None) -> None:
    jobs = [(videos, n) for videos in LAYOUTS for n in range(getattr(spec, videos))]
    in_processes(partial(_write_video, folder, spec), jobs, workers)
    lists = folder / "DAVIS/ImageSets/2016"
    lists.mkdir(parents=True)
    for split in ("train", "val"):
        names = [f"{split}-{n:04d}\n" for n in range(getattr(spec, split))]
        (lists / f"{split}.txt").write_text("".join(names))


def _write_video(folder: Path, spec: SyntheticTreesSpec, job: Job) -> tuple[str, dict]:
    videos, n = job
    rng = np.random.default_rng([spec.seed, spec.version, 2016, list(LAYOUTS).index(videos), n])
    category = categories_of(rng, "val" if videos == "val" else "train", n, False, 1, 1)
    times = np.arange(spec.frames if videos in ("train", "val") else spec.added_frames)
    clip = render_clip(rng, category, False, times, spec.frames - 1, spec.height, spec.width)
    for t, (frame, mask) in enumerate(clip):
        images = frame, Image.fromarray(mask * np.uint8(255))
        for image, layout in zip(images, LAYOUTS[videos], strict=True):
            path = folder / layout.format(n=n, t=t, category=category[0][0])
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path, quality=90)
    return f"{videos}-{n:04d}", {}
