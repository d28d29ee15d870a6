"""YouTube-VOS and its embedded twin as data sets."""

from abc import abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from vos_lightning.data.sets import VideoSet
from vos_lightning.data.synthetic_youtube import SyntheticYouTubeSpec, write_synthetic_youtube
from vos_lightning.data.videos import Video
from vos_lightning.data.youtube_vos import categories_of, load_youtube_vos, splits_there
from vos_lightning.fields import ASIDE, SCORING, WORD, choice, list_of, or_null, whole


@dataclass(frozen=True, kw_only=True)
class YouTubeTree(VideoSet):
    """The videos of YouTube-VOS or of its embedded twin, see `load_youtube_vos`.

    portion: percent of the training videos. train_list, val_list: files with the videos of train-80 and
    train-20.
    """

    portion: Annotated[int, whole(1, 100)] = 100
    train_list: Annotated[str | None, or_null(WORD), ASIDE] = None
    val_list: Annotated[str | None, or_null(WORD), ASIDE] = None

    @property
    @abstractmethod
    def tree(self) -> Path:
        """The folder that holds train, valid and test, as folders or as zips."""

    @property
    def categories(self) -> tuple[str, ...]:
        """Those of the objects of all splits that are there: those of train in order of name, then others.

        So they have the same numbers whether or not valid and test are there.
        """
        there = {split.partition("-")[0] for split in self.splits()}
        seen = categories_of(self.tree, there & {"train"})
        return (*sorted(seen), *sorted(categories_of(self.tree, there) - seen))

    def videos(self, split: str, first_mask_only: bool = False, all_frames: bool = False) -> list[Video]:
        """The videos of train, train-80, train-20, valid or test."""
        train, val = (Path(path) if path else None for path in (self.train_list, self.val_list))
        return load_youtube_vos(
            self.tree, split, all_frames, first_mask_only, self.portion, lists=(train, val)
        )

    def splits(self) -> list[str]:
        """Those whose folder or zip is there."""
        return splits_there(self.tree)


@dataclass(frozen=True, kw_only=True)
class PublicYouTubeTree(YouTubeTree):
    """YouTube-VOS below `root`."""

    root: Annotated[str, WORD, ASIDE]

    @property
    def tree(self) -> Path:
        """`root`."""
        return Path(self.root)


@dataclass(frozen=True, kw_only=True)
class SyntheticYouTubeTree(YouTubeTree):
    """The embedded data set in YouTube-VOS's tree, written below `cache` when first asked for."""

    cache: Annotated[str, WORD, ASIDE]
    spec: SyntheticYouTubeSpec = field(default_factory=SyntheticYouTubeSpec)

    @property
    def tree(self) -> Path:
        """The folder below `cache`."""
        return write_synthetic_youtube(Path(self.cache), self.spec)


@dataclass(frozen=True, kw_only=True)
class YouTube(YouTubeTree):
    """What YouTube-VOS and its embedded twin share where videos are scored.

    protocol: see `scoring.youtube_vos.PROTOCOLS`. seen_categories: None takes those of the training videos.
    """

    benchmark = "youtube_vos"

    protocol: Annotated[str, choice("all", "without-first", "without-first-and-last"), SCORING] = (
        "without-first"
    )
    seen_categories: Annotated[tuple[str, ...] | None, or_null(list_of(WORD)), SCORING] = None

    def seen(self) -> set[str]:
        """The categories that count as seen. Raises InputError if they cannot be read."""
        given = self.seen_categories
        return categories_of(self.tree, ["train"]) if given is None else set(given)


@dataclass(frozen=True, kw_only=True)
class YouTubeVOS(YouTube, PublicYouTubeTree):
    """The videos of YouTube-VOS."""


@dataclass(frozen=True, kw_only=True)
class SyntheticYouTube(YouTube, SyntheticYouTubeTree):
    """The videos of its embedded twin."""
