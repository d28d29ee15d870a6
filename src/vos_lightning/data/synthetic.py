"""A synthetic data set for training and tests without downloads, written once as a DAVIS-2017 tree.

Shapes: T frames of H x W pixels; masks hold object ids 1..N, N <= 4, 0 background.

    FOLDER/JPEGImages/480p/SEQ/00000.jpg    FOLDER/Annotations/480p/SEQ/00000.png
    FOLDER/ImageSets/2017/{train,val,test}.txt    FOLDER/meta.json

meta.json: {"version", "seed", "train", "val", "test", "frames", "height", "width",
"unseen": [[shape, texture], ...], "sequences": {SEQ: {"split", "objects": {"1": [shape, texture], ...}}}}
"""

import hashlib
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from filelock import FileLock

from vos_lightning.data.images import write_mask
from vos_lightning.data.synthetic_render import SHAPES, TEXTURES, render_clip
from vos_lightning.errors import InputError
from vos_lightning.fields import whole

VERSION = 3  # Raise it when the same spec would give other bytes.
SPLITS = ("train", "val", "test")
Job = tuple[str, int]  # a split and the number of a video there

CATEGORIES = tuple(product(SHAPES, TEXTURES))
# Never in train: one shape in every texture, and each other shape in one texture.
UNSEEN = tuple(
    (shape, texture)
    for shape, texture in CATEGORIES
    if shape == "heart" or texture == TEXTURES[SHAPES.index(shape) % len(TEXTURES)]
)
SEEN = tuple(c for c in CATEGORIES if c not in UNSEEN)


class Spec:
    """Base of the frozen dataclasses that say what to write: counts and sizes, from which all bytes follow.

    kind: start of the folder's name. version: to be raised when the same spec would give other bytes.

    Raises InputError for a negative number, fewer than `least_frames` or a side below 32 pixels.
    """

    kind: ClassVar[str]
    version: ClassVar[int]
    least_frames: ClassVar[int]

    def __post_init__(self) -> None:
        lowest = {"frames": self.least_frames, "height": 32, "width": 32}
        for name, value in vars(self).items():
            if value < lowest.get(name, 0):
                raise InputError(
                    f"synthetic.{name}: {value} is too small; give {lowest.get(name, 0)} or more."
                )

    @property
    def folder_name(self) -> str:
        """Name of the data set's folder; it differs for each spec and generator version."""
        key = json.dumps([self.version, vars(self)], sort_keys=True)
        return f"{self.kind}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class SyntheticSpec(Spec):
    """What to write: the seed (>= 0), videos a split, T frames each, H and W in pixels."""

    kind, version = "synthetic", VERSION
    least_frames = 2

    seed: Annotated[int, whole(0)] = 0
    train: Annotated[int, whole(0, 100_000)] = 160
    val: Annotated[int, whole(0, 100_000)] = 16
    test: Annotated[int, whole(0, 100_000)] = 24
    frames: Annotated[int, whole(1, 10_000)] = 20
    height: Annotated[int, whole(32, 4096)] = 128
    width: Annotated[int, whole(32, 4096)] = 224


def write_synthetic(root: Path, spec: SyntheticSpec | None = None, workers: int | None = None) -> Path:
    """Writes the data set below root unless it is there, and returns its folder, a DAVIS-2017 tree.

    Odd-numbered videos hold two objects of one shape and colouring. Arguments and errors as `write_once`.
    """
    spec = spec or SyntheticSpec()
    return write_once(root, spec, lambda folder: _write_tree(folder, spec, workers))


def write_once(root: Path, spec: Spec, write_tree: Callable[[Path], None]) -> Path:
    """Writes a data set below root unless it is there, and returns its folder.

    The folder appears only when it is complete, and processes that ask for it at once wait for the first.

    Args:
        root: cache folder, made if missing.
        spec: names the folder.
        write_tree: fills a folder, which it makes.

    Raises:
        InputError: root cannot be written to.
    """
    folder, unfinished = root / spec.folder_name, root / f".{spec.folder_name}.partial"
    if folder.is_dir():
        return folder
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{spec.folder_name}.lock"):
            if not folder.is_dir():
                shutil.rmtree(unfinished, ignore_errors=True)  # Left by a run that was killed.
                try:
                    write_tree(unfinished)
                except BaseException:
                    shutil.rmtree(unfinished, ignore_errors=True)
                    raise
                unfinished.rename(folder)
    except OSError as error:
        raise InputError(
            f"{root}: cannot hold the synthetic data ({error}); name a writable folder."
        ) from error
    return folder


def categories_of(
    rng: np.random.Generator, split: str, index: int, twins: bool, least: int, most: int
) -> list[tuple[str, str]]:
    """(shape, texture) of objects 1..N of a video, N from `least` to `most`.

    With twins, objects 1 and 2 share their shape; all other shapes differ. Training takes SEEN ones; in the
    other splits object 1 is from UNSEEN in half the videos and the others are from any.
    """
    pool = SEEN if split == "train" else CATEGORIES
    # Half of the even-numbered and half of the odd-numbered videos begin with an unseen category.
    first = UNSEEN if split != "train" and index % 4 in (0, 3) else SEEN
    chosen = [first[rng.integers(len(first))]]
    count = rng.integers(least, most + 1)
    while len(chosen) < count:
        shapes = [shape for shape, _ in chosen]
        same = twins and len(chosen) == 1
        fitting = [c for c in pool if (c[0] in shapes) == same]
        chosen.append(fitting[rng.integers(len(fitting))])
    return chosen


def _write_tree(folder: Path, spec: SyntheticSpec, workers: int | None) -> None:
    names = {split: [f"{split}-{i:04d}" for i in range(getattr(spec, split))] for split in SPLITS}
    lists = folder / "ImageSets" / "2017"
    lists.mkdir(parents=True)
    for split in SPLITS:
        (lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in names[split]))
    jobs = [(split, index) for split in SPLITS for index in range(len(names[split]))]
    meta = {"version": VERSION, **vars(spec), "unseen": UNSEEN}
    meta["sequences"] = in_processes(partial(_write_video, folder, spec), jobs, workers)
    (folder / "meta.json").write_text(json.dumps(meta, indent=1))


def in_processes(
    write: Callable[[Job], tuple[str, dict]], jobs: list[Job], workers: int | None
) -> dict[str, dict]:
    """Writes videos with so many processes, one per core if None; returns their entries by name."""
    workers = workers or os.cpu_count() or 1
    if workers == 1:
        return dict(map(write, jobs))
    # A forked worker starts at once; one started afresh would import the whole calling program first.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("fork")) as pool:
        return dict(pool.map(write, jobs, chunksize=4))


def _write_video(folder: Path, spec: SyntheticSpec, job: Job) -> tuple[str, dict]:
    """Writes one video and returns its name and its entry in meta.json."""
    split, index = job
    name, twins = f"{split}-{index:04d}", index % 2 == 1
    rng = np.random.default_rng([spec.seed, VERSION, SPLITS.index(split), index])
    categories = categories_of(rng, split, index, twins, least=2 if twins else 1, most=4)
    images, masks = (folder / kind / "480p" / name for kind in ("JPEGImages", "Annotations"))
    images.mkdir(parents=True)
    masks.mkdir(parents=True)
    times = np.arange(spec.frames)
    clip = render_clip(rng, categories, twins, times, spec.frames - 1, spec.height, spec.width)
    for t, (image, mask) in enumerate(clip):
        image.save(images / f"{t:05d}.jpg", quality=90)
        write_mask(masks / f"{t:05d}.png", mask)
    return name, {"split": split, "objects": {str(i + 1): c for i, c in enumerate(categories)}}
