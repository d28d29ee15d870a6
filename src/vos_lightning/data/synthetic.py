"""A synthetic data set for training and tests without downloads, written once as a DAVIS-2017 tree.

Shapes: T frames of H x W pixels; masks hold object ids 1..N, N <= 4, 0 background.

    FOLDER/JPEGImages/480p/SEQ/00000.jpg    FOLDER/Annotations/480p/SEQ/00000.png
    FOLDER/ImageSets/2017/{train,val,test}.txt    FOLDER/meta.json

meta.json: {"version", "seed", "train", "val", "test", "frames", "height", "width",
"unseen": [[shape, texture], ...], "sequences": {SEQ: {"split", "objects": {"1": [shape, texture], ...}}}}
"""

import fcntl
import hashlib
import json
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import product, repeat
from pathlib import Path

import numpy as np

from vos_lightning.data.images import write_mask
from vos_lightning.data.synthetic_render import SHAPES, TEXTURES, render_clip
from vos_lightning.errors import InputError

VERSION = 3  # Raise it when the same spec would give other bytes.
SPLITS = ("train", "val", "test")

CATEGORIES = tuple(product(SHAPES, TEXTURES))
# Never in train: one shape in every texture, and each other shape in one texture.
UNSEEN = tuple(c for c in CATEGORIES if c[0] == "heart" or SHAPES.index(c[0]) % 4 == TEXTURES.index(c[1]))
SEEN = tuple(c for c in CATEGORIES if c not in UNSEEN)


@dataclass(frozen=True)
class SyntheticSpec:
    """What to write: the seed (>= 0), sequences a split, T frames each, H and W in pixels.

    Raises InputError for a negative number, fewer than 2 frames or a side below 32 pixels.
    """

    seed: int = 0
    train: int = 160
    val: int = 16
    test: int = 24
    frames: int = 20
    height: int = 128
    width: int = 224

    def __post_init__(self) -> None:
        lowest = {"frames": 2, "height": 32, "width": 32}
        for name, value in asdict(self).items():
            if value < lowest.get(name, 0):
                raise InputError(
                    f"synthetic.{name}: {value} is too small; give {lowest.get(name, 0)} or more."
                )

    @property
    def folder_name(self) -> str:
        """Name of the data set's folder; it differs for each spec and generator version."""
        key = json.dumps([VERSION, asdict(self)], sort_keys=True)
        return f"synthetic-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


def write_synthetic(root: Path, spec: SyntheticSpec | None = None, workers: int | None = None) -> Path:
    """Writes the data set below root unless it is there, and returns its folder, a DAVIS-2017 tree.

    The bytes depend on the spec alone. The folder appears only when it is complete, and processes that ask
    for it at once wait for the first. Odd-numbered sequences hold two objects of one shape and colouring.

    Args:
        root: cache folder, made if missing.
        spec: what to write; the default spec if None.
        workers: processes to draw with; one per core if None.

    Raises:
        InputError: root cannot be written to.
    """
    spec = spec or SyntheticSpec()
    folder = root / spec.folder_name
    if folder.is_dir():
        return folder
    try:
        with _lock(root / f".{spec.folder_name}.lock"):
            if not folder.is_dir():
                _write_tree(root / f".{spec.folder_name}.partial", spec, workers or os.cpu_count() or 1)
                (root / f".{spec.folder_name}.partial").rename(folder)
    except OSError as error:
        raise InputError(
            f"{root}: cannot hold the synthetic data ({error}); name a writable folder."
        ) from error
    return folder


def categories_of(rng: np.random.Generator, split: str, index: int) -> list[tuple[str, str]]:
    """(shape, texture) of objects 1..N of a sequence, N in 1..4.

    Objects 1 and 2 share their shape if index is odd; all other shapes differ. Training takes SEEN ones;
    in the other splits object 1 is from UNSEEN in half the sequences and the others are from any.
    """
    twins = index % 2 == 1
    pool = SEEN if split == "train" else CATEGORIES
    first = UNSEEN if split != "train" and (index + index // 2) % 2 == 0 else SEEN
    chosen = [first[rng.integers(len(first))]]
    count = rng.integers(2 if twins else 1, 5)
    while len(chosen) < count:
        shapes = [shape for shape, _ in chosen]
        same = twins and len(chosen) == 1
        fitting = [c for c in pool if (c[0] in shapes) == same]
        chosen.append(fitting[rng.integers(len(fitting))])
    return chosen


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write_tree(folder: Path, spec: SyntheticSpec, workers: int) -> None:
    """Fills folder; on an error removes it."""
    shutil.rmtree(folder, ignore_errors=True)  # Left by a run that was killed.
    try:
        names = {split: [f"{split}-{i:04d}" for i in range(getattr(spec, split))] for split in SPLITS}
        lists = folder / "ImageSets" / "2017"
        lists.mkdir(parents=True)
        for split in SPLITS:
            (lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in names[split]))
        jobs = [(split, index) for split in SPLITS for index in range(len(names[split]))]
        meta = {"version": VERSION, **asdict(spec), "unseen": UNSEEN}
        meta["sequences"] = dict(_write_all(folder, spec, jobs, workers))
        (folder / "meta.json").write_text(json.dumps(meta, indent=1))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _write_all(
    folder: Path, spec: SyntheticSpec, jobs: list[tuple[str, int]], workers: int
) -> list[tuple[str, dict]]:
    if workers == 1:
        return [_write_sequence(folder, spec, job) for job in jobs]
    # A forked worker starts at once; one started afresh would import the whole calling program first.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("fork")) as pool:
        return list(pool.map(_write_sequence, repeat(folder), repeat(spec), jobs, chunksize=4))


def _write_sequence(folder: Path, spec: SyntheticSpec, job: tuple[str, int]) -> tuple[str, dict]:
    """Writes one sequence and returns its name and its entry in meta.json."""
    split, index = job
    name = f"{split}-{index:04d}"
    rng = np.random.default_rng([spec.seed, VERSION, SPLITS.index(split), index])
    categories = categories_of(rng, split, index)
    images, masks = (folder / kind / "480p" / name for kind in ("JPEGImages", "Annotations"))
    images.mkdir(parents=True)
    masks.mkdir(parents=True)
    clip = render_clip(rng, categories, index % 2 == 1, spec.frames, spec.height, spec.width)
    for t, (image, mask) in enumerate(clip):
        image.save(images / f"{t:05d}.jpg", quality=90)
        write_mask(masks / f"{t:05d}.png", mask)
    return name, {"split": split, "objects": {str(i + 1): c for i, c in enumerate(categories)}}
