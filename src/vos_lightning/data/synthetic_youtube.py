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

import numpy as np

from vos_lightning.data.images import write_mask
from vos_lightning.data.synthetic import Spec, categories_of, in_processes, write_once
from vos_lightning.data.synthetic_render import render_clip

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

    seed: int = 0
    train: int = 120
    valid: int = 24
    test: int = 4
    frames: int = 8
    height: int = 128
    width: int = 224


def write_synthetic_youtube(root: Path, spec: SyntheticYouTubeSpec, workers: int | None = None) -> Path:
    """Writes the data set below root unless it is there, and returns its folder.

    Even-numbered videos list one object, half of them beside a twin of its shape and colours that is not
    listed. The others list two or three: in half of these two are twins, in a quarter the last comes late, in
    a fifth the ids leave out 2. Arguments and errors as `write_once`.
    """
    return write_once(root, spec, lambda folder: _write_tree(folder, spec, workers))


def _write_tree(folder: Path, spec: SyntheticYouTubeSpec, workers: int | None) -> None:
    for split in SPLITS:
        jobs = [(split, index) for index in range(getattr(spec, split))]
        (folder / split).mkdir(parents=True)
        videos = in_processes(partial(_write_video, folder, spec), jobs, workers)
        (folder / split / "meta.json").write_text(json.dumps({"videos": videos}))


def _write_video(folder: Path, spec: SyntheticYouTubeSpec, job: tuple[str, int]) -> tuple[str, dict]:
    """Writes one video and returns its name and its entry in meta.json."""
    split, index = job
    name, late, unlisted = f"{split}-{index:04d}", index % 8 == 3, index % 4 == 0
    ids = [1, 0] if unlisted else [1, 3, 4] if index % 10 == 1 else [1, 2, 3]
    twins, most = unlisted or index % 8 in (1, 7), 1 if index % 2 == 0 and not unlisted else len(ids)
    rng = np.random.default_rng([spec.seed, spec.version, STRIDE, SPLITS.index(split), index])
    categories = categories_of(rng, split, index, twins, min(2, most), most)
    every = folder / f"{split}_all_frames" / "JPEGImages" / name
    images, annotations = (folder / split / kind / name for kind in ("JPEGImages", "Annotations"))
    for made in (every, images, annotations):
        made.mkdir(parents=True)
    times = np.arange(STRIDE * (spec.frames - 1) + 1) * (PACE / STRIDE)
    masks = {}
    span = max(SPAN, times[-1])
    clip = render_clip(rng, categories, twins, times, span, spec.height, spec.width, late)
    for t, (image, drawn) in enumerate(clip):
        path = every / f"{t:05d}.jpg"
        image.save(path, quality=90)
        if t % STRIDE == 0:
            (images / path.name).hardlink_to(path)
            masks[path.stem] = _annotate(drawn, ids)
    listed = {i: [frame for frame, mask in masks.items() if (mask == i).any()] for i in ids if i}
    if split == "test":
        listed = {
            i: [frame for frame in masks if frame >= min(seen, default="x")] for i, seen in listed.items()
        }
        masks = _only_first(masks, listed)
    for frame, mask in masks.items():
        write_mask(annotations / f"{frame}.png", mask)
    objects = {
        str(i): {"category": " ".join(category), "frames": listed[i]}
        for i, category in zip(ids, categories, strict=False)
        if listed.get(i)
    }
    return name, {"objects": objects}


def _annotate(drawn: np.ndarray, ids: list[int]) -> np.ndarray:
    """A drawn mask (H, W) of 1..N with these ids instead, 0 for what is not listed, slivers left out."""
    labels = np.array([0, *ids], dtype=np.uint8)
    areas = np.bincount(drawn.ravel(), minlength=len(labels))
    labels[areas < LEAST_SHARE * drawn.size] = 0
    return labels[drawn]


def _only_first(masks: dict[str, np.ndarray], listed: dict[int, list[str]]) -> dict[str, np.ndarray]:
    """The masks of the frames in which objects are listed first, with these objects alone."""
    starting = {frame: [i for i, frames in listed.items() if frame in frames[:1]] for frame in masks}
    return {
        frame: np.where(np.isin(masks[frame], ids), masks[frame], 0) for frame, ids in starting.items() if ids
    }
