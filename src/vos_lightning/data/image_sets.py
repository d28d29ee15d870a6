"""The data sets of images with instances."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from vos_lightning.data.coco import annotation_file, load_coco, read_contents, splits_of
from vos_lightning.data.instances import Image
from vos_lightning.data.sets import DataSet, Davis2017, Synthetic, VideoSet
from vos_lightning.data.video_frames import frames_of
from vos_lightning.data.voc import CATEGORIES, load_voc
from vos_lightning.data.youtube_sets import PublicYouTubeTree, SyntheticYouTubeTree
from vos_lightning.fields import ASIDE, WORD, list_of, or_null, whole


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


@dataclass(frozen=True, kw_only=True)
class PublicImages(DataSet):
    """What COCO and Pascal VOC share.

    root: the public tree. only: the categories that are taken, in this order; None takes all.
    """

    benchmark = "instances"
    kind: ClassVar[type] = Image

    root: Annotated[str, WORD, ASIDE]
    only: Annotated[tuple[str, ...] | None, or_null(list_of(WORD))] = None


@dataclass(frozen=True, kw_only=True)
class Coco(PublicImages):
    """A tree in COCO's format, see `load_coco`."""

    @property
    def categories(self) -> tuple[str, ...]:
        """`only`, or those of the training split in order of their ids; none if it is not there."""
        if self.only is not None:
            return self.only
        if self.train_split not in self.splits():
            return ()
        return tuple(read_contents(annotation_file(Path(self.root), self.train_split)).categories.values())

    def samples(self, split: str, first_mask_only: bool = False, all_frames: bool = False) -> Sequence[Image]:
        """The images of a split that has a JSON."""
        return load_coco(Path(self.root), split, self.categories)

    def splits(self) -> list[str]:
        """Those that have a JSON."""
        return splits_of(Path(self.root))


@dataclass(frozen=True, kw_only=True)
class Voc2012(PublicImages):
    """The images of Pascal VOC 2012 whose objects are segmented, see `load_voc`."""

    @property
    def categories(self) -> tuple[str, ...]:
        """`only`, or all 20."""
        return CATEGORIES if self.only is None else self.only

    def samples(self, split: str, first_mask_only: bool = False, all_frames: bool = False) -> Sequence[Image]:
        """The images of a list of ImageSets/Segmentation; first_mask_only: accept those without masks."""
        return load_voc(Path(self.root), split, self.categories, first_mask_only)

    def splits(self) -> list[str]:
        """The lists of ImageSets/Segmentation."""
        return [path.stem for path in (Path(self.root) / "ImageSets" / "Segmentation").glob("*.txt")]
