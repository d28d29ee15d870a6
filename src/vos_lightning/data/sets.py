"""The data sets: where the videos of each come from and how they are scored."""

from pathlib import Path
from typing import Any

from vos_lightning.data.davis import load_davis
from vos_lightning.data.modules import VideoData
from vos_lightning.data.single_object import load_jumpcut, load_segtrack, load_youtube_objects
from vos_lightning.data.synthetic import SPLITS, SyntheticSpec, write_synthetic
from vos_lightning.data.synthetic_youtube import SyntheticYouTubeSpec, write_synthetic_youtube
from vos_lightning.data.videos import Video
from vos_lightning.data.youtube_vos import categories_of_training, load_youtube_vos, splits_there
from vos_lightning.errors import InputError
from vos_lightning.scoring.rules import Rules, YouTubeRules
from vos_lightning.scoring.youtube_vos import frame_rule


class Davis(VideoData):
    """DAVIS-2016 or DAVIS-2017 below `root`, see `load_davis`; other arguments as `VideoData`."""

    year: int

    def __init__(self, root: Path, resolution: str = "480p", **clips: Any) -> None:
        super().__init__(**clips)
        self.root, self.resolution = root, resolution

    def videos(self, split: str, first_mask_only: bool = False, all_frames: bool = False) -> list[Video]:
        """The videos of an ImageSets list."""
        return load_davis(self.root, split, self.year, self.resolution, first_mask_only)

    def splits(self) -> list[str]:
        """The lists of ImageSets/YEAR."""
        return [path.stem for path in (self.root / "ImageSets" / str(self.year)).glob("*.txt")]


class Davis2016(Davis):
    """DAVIS-2016: one object a video."""

    year = 2016


class Davis2016Extended(Davis2016):
    """DAVIS-2016 with the videos of three other data sets added to its train split: 192 with all of them.

    Setting 2 of S2S (Xu et al., ECCV 2018). Videos with a single mask are left out.

    Args:
        root: of DAVIS.
        segtrack_root, jumpcut_root, youtube_objects_root: see `single_object`; None leaves the data set out,
            with a line that says so.
        extended: whether anything is added.
    """

    def __init__(
        self,
        root: Path,
        segtrack_root: Path | None,
        jumpcut_root: Path | None,
        youtube_objects_root: Path | None,
        extended: bool = True,
        **davis: Any,
    ) -> None:
        super().__init__(root, **davis)
        self.added = []
        for name, folder, load in (
            ("segtrack_root", segtrack_root, load_segtrack),
            ("jumpcut_root", jumpcut_root, load_jumpcut),
            ("youtube_objects_root", youtube_objects_root, load_youtube_objects),
        ):
            if not extended:
                continue
            if folder is None:
                print(f"data.{name} is not set: its videos are left out.", flush=True)
            else:
                self.added.append((load, folder))

    def videos(self, split: str, first_mask_only: bool = False, all_frames: bool = False) -> list[Video]:
        """The videos of an ImageSets list; in train, those of the other data sets too."""
        found = super().videos(split, first_mask_only)
        if split == "train":
            found += [s for load, folder in self.added for s in load(folder) if len(s.annotated) > 1]
        return found


class Davis2017(Davis):
    """DAVIS-2017: several objects a video."""

    year = 2017


class Synthetic(VideoData):
    """The embedded data set, written below `cache` when first asked for; other arguments as `VideoData`."""

    def __init__(self, cache: Path, spec: SyntheticSpec, **clips: Any) -> None:
        super().__init__(**clips)
        self.cache, self.spec = cache, spec

    def videos(self, split: str, first_mask_only: bool = False, all_frames: bool = False) -> list[Video]:
        """The videos of train, val or test."""
        return load_davis(write_synthetic(self.cache, self.spec), split, first_mask_only=first_mask_only)

    def splits(self) -> list[str]:
        """train, val and test."""
        return list(SPLITS)


class YouTubeVOS(VideoData):
    """YouTube-VOS below `root`, see `load_youtube_vos`; other arguments as `VideoData`.

    portion: percent of the training videos. seen_categories: None for those of the training videos.
    protocol: of `scoring.youtube_vos.PROTOCOLS`. train_list, val_list: of `load_youtube_vos`.
    """

    def __init__(
        self,
        root: Path,
        portion: int,
        seen_categories: list[str] | None,
        protocol: str,
        train_list: Path | None = None,
        val_list: Path | None = None,
        **clips: Any,
    ) -> None:
        super().__init__(**clips)
        self.lists = train_list, val_list
        self.root, self.portion, self._seen_categories = root, portion, seen_categories
        self.protocol = protocol
        frame_rule(protocol)

    def videos(self, split: str, first_mask_only: bool = False, all_frames: bool = False) -> list[Video]:
        """The videos of train, train-80, train-20, valid or test."""
        return load_youtube_vos(self.root, split, all_frames, first_mask_only, self.portion, lists=self.lists)

    def splits(self) -> list[str]:
        """Those whose folder or zip is there."""
        return splits_there(self.root)

    def rules(self, one_shot: bool) -> Rules:
        """The YouTube-VOS protocol, which is one-shot.

        Raises InputError for a model that takes no given masks, or if the seen categories cannot be read.
        """
        if not one_shot:
            raise InputError("data.name: YouTube-VOS is scored one-shot; set predict.match_given=true.")
        seen = self._seen_categories
        return YouTubeRules(categories_of_training(self.root) if seen is None else set(seen), self.protocol)


class SyntheticYouTube(YouTubeVOS):
    """The embedded data set in YouTube-VOS's tree, written below `cache` at once if it is not there.

    Other arguments as `YouTubeVOS`.
    """

    def __init__(self, cache: Path, spec: SyntheticYouTubeSpec, **youtube: Any) -> None:
        super().__init__(root=write_synthetic_youtube(cache, spec), **youtube)
