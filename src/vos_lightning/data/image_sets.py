"""The data sets of images with instances."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from vos_lightning.data.instances import Image
from vos_lightning.data.sets import Davis2017, PublicYouTubeTree, Synthetic, SyntheticYouTubeTree, VideoSet
from vos_lightning.data.video_frames import frames_of
from vos_lightning.fields import whole


@dataclass(frozen=True, kw_only=True)
class Frames(VideoSet):
    """Makes of a data set of videos, the next base of a class, one of their annotated frames.

    every: one in so many annotated frames of a video is taken.
    """

    benchmark = "instances"
    kind: ClassVar[type] = Image

    every: Annotated[int, whole(1)] = 1

    def samples(self, split: str, first_mask_only: bool = False, all_frames: bool = False) -> Sequence[Image]:
        """The frames of a split that have masks, see `frames_of`; arguments and errors as `videos`."""
        videos = self.videos(split, first_mask_only, all_frames)
        return frames_of(videos, self.every, self.categories)


@dataclass(frozen=True, kw_only=True)
class Davis2017Frames(Frames, Davis2017):
    """The frames of DAVIS-2017."""


@dataclass(frozen=True, kw_only=True)
class SyntheticFrames(Frames, Synthetic):
    """The frames of the embedded data set."""


@dataclass(frozen=True, kw_only=True)
class YouTubeVOSFrames(Frames, PublicYouTubeTree):
    """The frames of YouTube-VOS."""


@dataclass(frozen=True, kw_only=True)
class SyntheticYouTubeFrames(Frames, SyntheticYouTubeTree):
    """The frames of its embedded twin."""
