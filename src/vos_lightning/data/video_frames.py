"""The annotated frames of videos as images of their own, whose instances are the objects of the masks.

Shapes: see `instances`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vos_lightning.data.files import File, file_size
from vos_lightning.data.images import VOID
from vos_lightning.data.instances import OBJECT, Image, Instances
from vos_lightning.data.small_frames import check_sizes
from vos_lightning.data.videos import Video


@dataclass(frozen=True)
class FrameMask:
    """The mask of frame t of a video.

    names: of all categories; the first is category 1. An object that the video lists no category for, though
    it has some, is void.
    """

    video: Video
    t: int
    names: tuple[str, ...]

    @property
    def files(self) -> tuple[File, ...]:
        """The file of the mask."""
        return (self.video.mask_file(self.t),)

    @cached_property
    def count(self) -> int:
        """How many objects the data set lists for this frame, or else how many the mask shows."""
        if self.video.presence is not None:
            return sum(self.t in times for times in self.video.presence.values())
        return len(_ids(self.video.mask(self.t)))

    def read(self, size: tuple[int, int]) -> Instances:
        """The objects that the mask shows. Raises InputError for a mask of another size (h, w)."""
        mask = self.video.mask(self.t)
        check_sizes(self.files[0], mask.shape, size)
        ids = [i for i in _ids(mask) if self.video.categories is None or i in self.video.categories]
        categories = [self.names.index((self.video.categories or {}).get(i, OBJECT)) + 1 for i in ids]
        return Instances(
            masks=np.array([mask == i for i in ids], bool).reshape(-1, *mask.shape),
            categories=np.array(categories, np.int64),
            crowd=np.zeros(len(ids), bool),
            void=~np.isin(mask, [0, *ids]),
        )

    def described(self) -> str:
        """See `Annotation.described`."""
        return f"{self.files[0].name} {file_size(self.files[0])} {self.video.categories} {self.names}"


def _ids(mask: np.ndarray) -> list[int]:
    """The ids of the objects in a mask, ascending."""
    return [i for i in np.flatnonzero(np.bincount(mask.ravel())).tolist() if i not in (0, VOID)]


def frames_of(videos: Iterable[Video], every: int, names: tuple[str, ...]) -> list[Image]:
    """One in `every` annotated frames of videos, called VIDEO-FRAME; names: see `FrameMask`."""
    return [
        Image(f"{video.name}-{video.frames[t].stem}", video.frames[t], FrameMask(video, t, names))
        for video in videos
        for t in video.annotated[::every]
    ]
