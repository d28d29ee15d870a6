"""Frames with their masks at the network's size, and a cache of them on disk.

Shapes: H W pixels of the network's input. Planes are (4, H, W) uint8: red, green, blue and the object ids,
void as background.
"""

import hashlib
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from vos_lightning.atomic import replacing
from vos_lightning.data.files import File, read_file
from vos_lightning.data.images import (
    VOID,
    image_size,
    read_frame,
    read_mask,
    resize_labels,
)
from vos_lightning.data.sequence import Sequence
from vos_lightning.errors import InputError

FORMAT = b"1"  # to be raised when the same files would give other planes


@dataclass(frozen=True)
class FrameCache:
    """Planes in a folder, a file each, found again by the content of the frame's and the mask's file.

    folder: made when first written to. keep_free: bytes of the disk that writing leaves free.
    """

    folder: Path
    keep_free: float

    def path(self, *content: bytes, size: tuple[int, int]) -> Path:
        """Where planes of `size` made from these contents belong."""
        digest = hashlib.sha256(FORMAT)
        for part in content:
            digest.update(len(part).to_bytes(8, "big") + part)
        name = digest.hexdigest()
        return self.folder / f"{size[0]}x{size[1]}" / name[:2] / name[2:32]

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


def read_small(
    sequence: Sequence, t: int, size: tuple[int, int], cache: FrameCache | None = None
) -> np.ndarray:
    """Frame t and its mask at `size` (H, W), as planes (4, H, W); without a mask the ids are 0.

    The frame is resized bilinearly, from a JPEG decoded at the smallest fraction of its size that suffices,
    and the mask by nearest neighbour.

    Raises:
        InputError: a file cannot be read, or their sizes differ.
    """
    files = [(path, read_file(path)) for path in (sequence.frames[t], sequence.masks[t]) if path is not None]
    if cache is None:
        planes = _decode(files, size, sequence.threshold)
    else:
        path = cache.path(*(content for _, content in files), size=size)
        found = cache.read(path, size)
        planes = _decode(files, size, sequence.threshold) if found is None else found
        if found is None:
            cache.write(path, planes)
    ids = sequence.ids(planes[3])
    planes[3] = np.where(ids == VOID, 0, ids)
    return planes


def _decode(files: list[tuple[File, bytes]], size: tuple[int, int], luminance: bool) -> np.ndarray:
    """Colours and mask values as stored, (4, H, W), of a frame's file and its mask's if there is one."""
    frame_path, frame = files[0]
    colours = colour_planes(read_frame(frame_path, frame, at_least=size), size)
    labels = np.zeros(size, np.uint8)
    for path, content in files[1:]:
        stored = read_mask(path, content, luminance)
        check_sizes(path, stored.shape, image_size(frame_path, frame))
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
