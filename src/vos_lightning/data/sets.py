"""What a data set is, and those in the layout of DAVIS: their videos, and by whose rules they are scored."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, ClassVar

from vos_lightning.data.davis import load_davis
from vos_lightning.data.instances import OBJECT, Image
from vos_lightning.data.single_object import load_jumpcut, load_segtrack, load_youtube_objects
from vos_lightning.data.synthetic import SPLITS, SyntheticSpec, write_synthetic
from vos_lightning.data.synthetic_trees import SyntheticTreesSpec, write_synthetic_trees
from vos_lightning.data.videos import Video
from vos_lightning.fields import ASIDE, FOLDER, NAME, SCORING, TRUTH, WORD, or_null

Sample = Video | Image  # what a data set consists of, has a name and is told apart by `described`


def fingerprint(samples: Iterable[Sample], in_rounds: bool = False) -> str:
    """12 hex digits that change when what any sample is described by does, see `Video.described`.

    in_rounds: whether published scribbles count too.
    """
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(sample.described().encode())
        if in_rounds and isinstance(sample, Video):
            digest.update(sample.described_scribbles().encode())
    return digest.hexdigest()[:12]


@dataclass(frozen=True, kw_only=True)
class DataSet(ABC):
    """A data set and which of its splits do what.

    benchmark: by whose rules it is scored, see `scoring.rules`. kind: of its samples.

    name: its key in `catalogue.DATA_SETS`. train_split: the split that is trained on. val_split: the one that
    is watched each epoch. score_split: the one that is scored after training. submit_split: the one that is
    predicted and zipped for a server, if its list is there; None zips none.
    """

    benchmark: ClassVar[str]
    kind: ClassVar[type]

    name: Annotated[str, NAME]
    train_split: Annotated[str, NAME] = "train"
    val_split: Annotated[str, NAME] = "val"
    score_split: Annotated[str, NAME, SCORING] = "val"
    submit_split: Annotated[str | None, or_null(FOLDER), ASIDE] = None

    @property
    def categories(self) -> tuple[str, ...]:
        """The names of the objects' categories, in all splits the same; the first is category 1."""
        return (OBJECT,)

    @abstractmethod
    def samples(
        self, split: str, first_mask_only: bool = False, all_frames: bool = False
    ) -> Sequence[Sample]:
        """The videos or images of a split.

        Args:
            split: name of a list.
            first_mask_only: accept videos without masks after an object's first.
            all_frames: with the frames between annotated ones, where a data set has such.

        Raises:
            InputError: a list, a file or a folder that is missing or cannot be read.
        """

    @abstractmethod
    def splits(self) -> list[str]:
        """Names of the split lists that are there."""


@dataclass(frozen=True, kw_only=True)
class VideoSet(DataSet):
    """A data set of videos."""

    benchmark = "davis"
    kind: ClassVar[type] = Video

    @abstractmethod
    def videos(self, split: str, first_mask_only: bool = False, all_frames: bool = False) -> list[Video]:
        """The videos of a split; arguments and errors as `samples`."""

    def samples(
        self, split: str, first_mask_only: bool = False, all_frames: bool = False
    ) -> Sequence[Sample]:
        """The videos of a split."""
        return self.videos(split, first_mask_only, all_frames)


@dataclass(frozen=True, kw_only=True)
class Davis2017(VideoSet):
    """DAVIS-2017 below `root`, see `load_davis`: several objects a video."""

    year: ClassVar[int] = 2017

    root: Annotated[str, WORD, ASIDE]
    resolution: Annotated[str, WORD] = "480p"

    @property
    def tree(self) -> Path:
        """The public tree."""
        return Path(self.root)

    def videos(self, split: str, first_mask_only: bool = False, all_frames: bool = False) -> list[Video]:
        """The videos of an ImageSets list."""
        return load_davis(self.tree, split, self.year, self.resolution, first_mask_only)

    def splits(self) -> list[str]:
        """The lists of ImageSets/YEAR."""
        return [path.stem for path in (self.tree / "ImageSets" / str(self.year)).glob("*.txt")]


@dataclass(frozen=True, kw_only=True)
class Davis2016(Davis2017):
    """DAVIS-2016 below `root`: one object a video."""

    year = 2016


@dataclass(frozen=True, kw_only=True)
class Davis2016Extended(Davis2016):
    """DAVIS-2016 with the videos of three other data sets added to its train split: 192 with all of them.

    Setting 2 of S2S (Xu et al., ECCV 2018). Videos with a single mask are left out.

    segtrack_root, jumpcut_root, youtube_objects_root: see `single_object`; None leaves the data set out,
    with a line that says so. extended: whether anything is added.
    """

    extended: Annotated[bool, TRUTH] = True
    segtrack_root: Annotated[str | None, or_null(WORD), ASIDE] = None
    jumpcut_root: Annotated[str | None, or_null(WORD), ASIDE] = None
    youtube_objects_root: Annotated[str | None, or_null(WORD), ASIDE] = None

    def videos(self, split: str, first_mask_only: bool = False, all_frames: bool = False) -> list[Video]:
        """The videos of an ImageSets list; in train, those of the other data sets too."""
        roots = {"segtrack_root": self.segtrack_root, "jumpcut_root": self.jumpcut_root}
        roots["youtube_objects_root"] = self.youtube_objects_root
        found = super().videos(split, first_mask_only)
        return found + _added(roots) if split == "train" and self.extended else found


LOADERS: dict[str, Callable[[Path], list[Video]]] = {
    "segtrack_root": load_segtrack,
    "jumpcut_root": load_jumpcut,
    "youtube_objects_root": load_youtube_objects,
}


def _added(roots: dict[str, str | None]) -> list[Video]:
    """The videos of other data sets that can be trained on, by the field that names a data set's folder."""
    found = []
    for key, root in roots.items():
        if root is None:
            _say_left_out(key)
        else:
            found += [video for video in LOADERS[key](Path(root)) if len(video.annotated) > 1]
    return found


@cache
def _say_left_out(field: str) -> None:
    print(f"data.{field} is not set: its videos are left out.", flush=True)


@dataclass(frozen=True, kw_only=True)
class Synthetic(VideoSet):
    """The embedded data set, written below `cache` when first asked for."""

    cache: Annotated[str, WORD, ASIDE]
    spec: SyntheticSpec = field(default_factory=SyntheticSpec)

    def videos(self, split: str, first_mask_only: bool = False, all_frames: bool = False) -> list[Video]:
        """The videos of train, val or test."""
        tree = write_synthetic(Path(self.cache), self.spec)
        return load_davis(tree, split, first_mask_only=first_mask_only)

    def splits(self) -> list[str]:
        """train, val and test."""
        return list(SPLITS)


@dataclass(frozen=True, kw_only=True)
class Synthetic2016(VideoSet):
    """The embedded twin of DAVIS-2016, written below `cache` when first asked for."""

    cache: Annotated[str, WORD, ASIDE]
    spec: SyntheticTreesSpec = field(default_factory=SyntheticTreesSpec)

    @property
    def real(self) -> Davis2016:
        """The data set that reads what was written, as it would read the public trees."""
        tree = write_synthetic_trees(Path(self.cache), self.spec)
        return Davis2016(name=self.name, root=str(tree / "DAVIS"))

    def videos(self, split: str, first_mask_only: bool = False, all_frames: bool = False) -> list[Video]:
        """The videos of train or val."""
        return self.real.videos(split, first_mask_only)

    def splits(self) -> list[str]:
        """train and val."""
        return self.real.splits()


@dataclass(frozen=True, kw_only=True)
class Synthetic192(Synthetic2016):
    """The embedded twin of `Davis2016Extended`."""

    extended: Annotated[bool, TRUTH] = True

    @property
    def real(self) -> Davis2016Extended:
        """See `Synthetic2016.real`."""
        tree = write_synthetic_trees(Path(self.cache), self.spec)
        roots = [str(tree / kind) for kind in ("DAVIS", "SegTrackv2", "JumpCut", "YouTube-Objects")]
        return Davis2016Extended(
            name=self.name,
            root=roots[0],
            extended=self.extended,
            segtrack_root=roots[1],
            jumpcut_root=roots[2],
            youtube_objects_root=roots[3],
        )
