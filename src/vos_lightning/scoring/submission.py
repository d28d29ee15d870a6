"""Packs the zip of predicted masks that a benchmark's server takes, and checks that it is complete.

Shapes: a mask is (H, W) uint8 of object ids, 0 background.
"""

import zipfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vos_lightning.atomic import replacing
from vos_lightning.data.files import File, read_file
from vos_lightning.data.images import image_size, read_mask
from vos_lightning.data.videos import Video
from vos_lightning.errors import InputError
from vos_lightning.scoring.davis import MAX_PROPOSALS


class Layout(NamedTuple):
    """What a server takes: VIDEO/FRAME.png below `top`, with the ids of the video's objects.

    proposals: where a method finds its objects by itself, the ids are 1 up to this one instead.
    """

    top: str = ""
    proposals: int = 0


DAVIS = Layout()
DAVIS_UNSUPERVISED = Layout(proposals=MAX_PROPOSALS)
YOUTUBE_VOS = Layout(top="Annotations/")


def server_layout(videos: Sequence[Video], masks_given: bool) -> Layout:
    """The layout for the server of the data set that videos, at least one, are from.

    masks_given: whether the method was given the objects' first masks.
    """
    if videos[0].categories is not None:
        return YOUTUBE_VOS
    return DAVIS if masks_given else DAVIS_UNSUPERVISED


def zip_masks(folder: Path, archive: Path, videos: Sequence[Video], layout: Layout) -> Path:
    """Packs folder/VIDEO/FRAME.png of videos; the archive is written whole or not at all.

    The frames are those in which the data set lists objects (YouTube-VOS), or else all.

    Returns:
        The archive.

    Raises:
        InputError: a mask is missing, cannot be read, or has another size than its frame or an id that the
            layout does not allow; or the archive cannot be written.
    """
    with replacing(archive) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as file:
        for video in videos:
            ids = range(1, layout.proposals + 1) if layout.proposals else video.objects
            for t in video.asked:
                frame = video.frames[t]
                path = folder / video.name / f"{frame.stem}.png"
                entry = zipfile.ZipInfo(f"{layout.top}{video.name}/{path.name}")
                file.writestr(entry, _checked(path, frame, ids))
    return archive


def _checked(path: Path, frame: File, ids: Collection[int]) -> bytes:
    """The content of a mask's file, once it is known to fit its frame and to hold no ids but these."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; the server asks for a mask of this frame, so predict it.")
    content = read_file(path)
    mask, size = read_mask(path, content), image_size(frame, read_file(frame))
    if mask.shape != size:
        sizes = " not ".join("x".join(map(str, shape[::-1])) for shape in (size, mask.shape))
        raise InputError(f"{path}: the mask must be {sizes} as {frame.name} is; predict at its size.")
    extra = set(np.unique(mask).tolist()) - {0, *ids}
    if extra:
        known = ", ".join(map(str, ids))
        raise InputError(f"{path}: id {min(extra)} is not one of those allowed ({known}); remove it.")
    return content
