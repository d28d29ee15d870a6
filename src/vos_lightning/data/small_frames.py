"""Reads frames with their masks at the network's size, and keeps them in a cache on disk.

Shapes: H W pixels of the network's input. Planes are (4, H, W) uint8: red, green, blue and the object ids,
void as background.
"""

import hashlib
import math
import os
import re
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from vos_lightning.atomic import replacing
from vos_lightning.data.files import File, file_state, read_file
from vos_lightning.data.images import (
    VOID,
    image_size,
    read_frame,
    read_mask,
    resize_labels,
)
from vos_lightning.data.instances import Image
from vos_lightning.data.videos import Video
from vos_lightning.errors import InputError

VERSION = b"2"  # is raised when the same files would give other planes
# A JPEG is decoded at a fraction of its size that is at least so many times what is asked for, so that a
# filter still follows; without it, details would differ from those of frames that are read in full.
MARGIN = 1.25


LINKS, MARKS = ".links", ".checked"
SETTLED = 2 * 10**9  # ns after a change in which another one might leave the times of a file as they are


@dataclass(frozen=True)
class FrameCache:
    """A folder with a file for each frame's planes, found by the state or by the content of the files read.

    A plane's file is FOLDER/HxW/HASH by the content that it was made from. A link FOLDER/.links/HASH by the
    state of the files (see `file_state`) leads there, so that neither is opened again. A file that was edited
    has another state and is read anew. Where a tree has moved, or one was copied, the states differ and the
    contents do not: each file is read once, the planes are found and linked. A file that changed just now is
    not linked, since the same instant may hold another change.

    The cache also remembers which videos and images have passed a check: FOLDER/.checked/HASH is there, by
    the state of their files.

    folder: is made when it is first written to. keep_free: bytes of the disk that writing leaves free.
    """

    folder: Path
    keep_free: float

    def path(self, *content: bytes, size: tuple[int, int], luminance: bool = False) -> Path:
        """Where planes of `size` made from these contents belong."""
        name = _digest(*content, *([b"luminance"] if luminance else []))
        return self.folder / f"{size[0]}x{size[1]}" / name[:2] / name[2:]

    def link(self, files: list[File], size: tuple[int, int], luminance: bool = False) -> tuple[Path, bool]:
        """The link of the files as they are now, and whether their state tells their content."""
        name, settled = _state(files, f"{size} {luminance}")
        return self.folder / LINKS / name[:2] / name[2:], settled

    def mark(self, sample: Video | Image, what: str) -> tuple[Path, bool]:
        """A file that says that a sample has passed a check, and whether its files' states tell so."""
        files, more = sample.sources()
        name, settled = _state(files, f"{what} {more}")
        return self.folder / MARKS / name[:2] / name[2:], settled

    def set_mark(self, mark: Path) -> None:
        """Makes the file; a disk that is full or read-only is no error."""
        with suppress(OSError):
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()

    def read(self, path: Path, size: tuple[int, int]) -> np.ndarray | None:
        """Planes (4, H, W), or None if there is no whole and readable file."""
        with suppress(OSError):
            planes = np.fromfile(path, np.uint8)
            if planes.size == 4 * size[0] * size[1]:
                return planes.reshape(4, *size)
        return None

    def write(self, path: Path, planes: np.ndarray) -> None:
        """Writes planes whole or not at all; a disk that is full or read-only is no error."""
        with suppress(OSError, InputError):
            path.parent.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(path.parent).free <= self.keep_free:
                return
            with replacing(path, durable=False) as part:
                planes.tofile(part)

    def set_link(self, link: Path, path: Path) -> None:
        """Makes a link lead to planes; a file system without links is no error."""
        with suppress(OSError):
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(path, link.parent))

    def contents(self) -> dict[str, tuple[int, int]]:
        """The number of frames and their bytes by their size, such as 256x448."""
        found: dict[str, tuple[int, int]] = {}
        for folder in self._folders():
            sizes = [path.stat().st_size for path in folder.iterdir()]
            frames, used = found.get(folder.parent.name, (0, 0))
            found[folder.parent.name] = frames + len(sizes), used + sum(sizes)
        return found

    def clear(self) -> None:
        """Removes what a cache writes to its folder, and nothing else."""
        for folder in [*self._folders(), self.folder / LINKS, self.folder / MARKS]:
            shutil.rmtree(folder, ignore_errors=True)

    def _folders(self) -> list[Path]:
        """The folders that hold planes: below HxW, named by two hexadecimal digits."""
        found = sorted(self.folder.glob("*x*/[0-9a-f][0-9a-f]"))
        return [path for path in found if re.fullmatch(r"\d+x\d+", path.parent.name)]


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256(VERSION)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:32]


def _state(files: list[File], more: str) -> tuple[str, bool]:
    """A name for the files in their present state, and whether it tells their content."""
    states = [file_state(file) for file in files]
    newest = max((changed for _, changed in states), default=0)
    return _digest(
        *(os.fsencode(state) for state, _ in states), more.encode()
    ), time.time_ns() - newest > SETTLED


def read_small(video: Video, t: int, size: tuple[int, int], cache: FrameCache | None = None) -> np.ndarray:
    """Frame t and its mask at `size` (H, W), as planes (4, H, W); without a mask the ids are 0.

    The frame is resized bilinearly, from a JPEG decoded at the smallest fraction of its size that is MARGIN
    times larger, and the mask by nearest neighbour.

    Raises:
        InputError: a file cannot be read, or their sizes differ.
    """
    files = [path for path in (video.frames[t], video.masks[t]) if path is not None]
    planes = (
        _decode(files, [read_file(file) for file in files], size, video.luminance)
        if cache is None
        else _cached(files, size, video.luminance, cache)
    )
    ids = video.ids(planes[3])
    planes[3] = np.where(ids == VOID, 0, ids)
    return planes


def read_colours(file: File, size: tuple[int, int], cache: FrameCache | None = None) -> np.ndarray:
    """An image at `size` (H, W) as planes (3, H, W), resized as by `read_small`, with its errors."""
    if cache is None:
        return _decode([file], [read_file(file)], size, False)[:3]
    return _cached([file], size, False, cache)[:3]


def _cached(files: list[File], size: tuple[int, int], luminance: bool, cache: FrameCache) -> np.ndarray:
    """Gives what `_decode` does, from the cache if it holds it."""
    link, settled = cache.link(files, size, luminance)
    planes = cache.read(link, size)
    if planes is not None:
        return planes
    contents = [read_file(file) for file in files]
    path = cache.path(*contents, size=size, luminance=luminance)
    planes = cache.read(path, size)
    if planes is None:
        planes = _decode(files, contents, size, luminance)
        cache.write(path, planes)
    if settled:
        cache.set_link(link, path)
    return planes


def _decode(files: list[File], contents: list[bytes], size: tuple[int, int], luminance: bool) -> np.ndarray:
    """The colours of a frame and the values of its mask as they are stored, (4, H, W).

    files, contents: those of the frame and, if it has one, of its mask.
    """
    frame, *masks = contents
    larger = (math.ceil(MARGIN * size[0]), math.ceil(MARGIN * size[1]))
    colours = colour_planes(read_frame(files[0], frame, at_least=larger), size)
    labels = np.zeros(size, np.uint8)
    for path, content in zip(files[1:], masks, strict=True):
        stored = read_mask(path, content, luminance)
        check_sizes(path, stored.shape, image_size(files[0], frame))
        labels = resize_labels(stored, size)
    return np.concatenate([colours, labels[None]])


def colour_planes(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A frame (h, w, 3) uint8 as planes (3, H, W) uint8 of `size`, resized bilinearly without aliasing."""
    planes = torch.from_numpy(np.array(frame)).permute(2, 0, 1)
    if frame.shape[:2] != size:
        planes = F.interpolate(planes[None], size=size, mode="bilinear", antialias=True)[0]
    return planes.numpy()


def check_sizes(path: File, mask: tuple[int, ...], frame: tuple[int, ...]) -> None:
    """Raises InputError if a mask's size (h, w) is not its frame's; `path` is the mask's."""
    if mask != frame:
        raise InputError(
            f"{path}: mask of {mask[1]}x{mask[0]} pixels for a frame of {frame[1]}x{frame[0]}; "
            "they must agree."
        )
