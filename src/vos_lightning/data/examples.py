"""What a training step is made of: how clips are drawn from the videos of a split, or images from it.

Shapes: B batch, T frames of a clip, O object slots, H W pixels of the network's input.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Protocol

from vos_lightning.data.clips import Augmentation, ClipDataset, EpochSampler, FixedSampler, check_readable
from vos_lightning.data.object_clips import Draw, DrawSampler, ObjectClips
from vos_lightning.data.small_frames import FrameCache
from vos_lightning.data.videos import Video
from vos_lightning.errors import InputError
from vos_lightning.fields import SIZE, TRUTH, Where, choice, pair_or, whole


class NamedExamples(Protocol):
    """A torch data set whose examples have names for messages."""

    def __len__(self) -> int: ...

    def name(self, key: Any) -> str:
        """The video and the frames of an example."""


@dataclass(frozen=True, kw_only=True)
class Examples(ABC):
    """How training draws from a split; a model chooses a subclass, whose fields stand in the node `data`.

    size: (H, W). batch_size: B. augment: whether training examples are flipped and warped. val_clips:
    validation examples an epoch, at most, spread evenly; 0 takes all.

    kind: of the samples that it draws from, see `DataSet.kind`.
    """

    kind: ClassVar[type]

    size: Annotated[tuple[int, int], SIZE]
    batch_size: Annotated[int, whole(1, 4096)]
    augment: Annotated[bool, TRUTH]
    val_clips: Annotated[int, whole(0)]

    @property
    def frames(self) -> int:
        """Of an example, at most."""
        return 1

    @property
    def summary(self) -> str:
        """What a batch is, in a few words."""
        return f"{'x'.join(map(str, self.size))}, batch {self.batch_size}"

    @property
    def epoch_note(self) -> str:
        """What is said of an epoch's length where that is not all of a data set."""
        return ""

    @abstractmethod
    def usable(self, samples: Sequence[Any], split: str) -> Sequence[Any]:
        """Those of a split's samples that can be learnt from. Raises InputError if none has an object."""

    @abstractmethod
    def check(self, samples: Sequence[Any], slots: int, cache: FrameCache | None, split: str) -> None:
        """Reads the samples that will be predicted, once, so that a bad file costs no training.

        Raises InputError for one that cannot be used.
        """

    @abstractmethod
    def training(self, samples: Any, slots: int, seed: int, cache: FrameCache | None) -> Any:
        """The torch data set that training draws from, see `NamedExamples`.

        Args:
            samples: with masks.
            slots: O, the highest object id that is accepted.
            seed: with the epoch it decides what is drawn and how it is warped.
            cache: keeps the resized frames; None decodes them every time.
        """

    @abstractmethod
    def order(
        self, count: int, seed: int, start: tuple[int, int], every_frame: Callable[[int], bool]
    ) -> EpochSampler:
        """The keys of an epoch's examples.

        Args:
            count: examples of the data set.
            seed: decides the order.
            start: epoch and examples at which training goes on, see `EpochSampler`.
            every_frame: whether the clips of an epoch run over frames without annotation too.
        """

    @abstractmethod
    def validation(self, samples: Any, slots: int, seed: int, cache: FrameCache | None) -> tuple[Any, Any]:
        """The torch data set of validation, without augmentation, and the keys that it is asked for."""


@dataclass(frozen=True, kw_only=True)
class Clips(Examples):
    """Clips of videos.

    clip_length: T, or the shortest and the longest T. image_warp: how warped frames are interpolated.
    """

    kind = Video

    clip_length: Annotated[Any, pair_or(whole(2, 200), alone=True, ordered=True)]
    image_warp: Annotated[str, choice("nearest", "bilinear"), Where("augment", True)]

    def usable(self, samples: Sequence[Video], split: str) -> Sequence[Video]:
        """All of them, if one has an object."""
        if not any(video.objects for video in samples):
            raise InputError(
                f"Data split {split}: none of its {len(samples)} videos has an object; check its masks."
            )
        return samples

    def check(self, samples: Sequence[Video], slots: int, cache: FrameCache | None, split: str) -> None:
        """See `check_readable`."""
        check_readable(samples, slots, cache, split)

    @property
    def lengths(self) -> tuple[int, int]:
        """The shortest and the longest T."""
        length = self.clip_length
        return (length, length) if isinstance(length, int) else length

    @property
    def frames(self) -> int:
        """See `Examples.frames`."""
        return self.lengths[1]

    @property
    def summary(self) -> str:
        """See `Examples.summary`."""
        return f"{super().summary}, clips of {' to '.join(map(str, dict.fromkeys(self.lengths)))}"

    @property
    def augmentation(self) -> Augmentation | None:
        """What warps training clips; None leaves them as they are."""
        return Augmentation(image_warp=self.image_warp) if self.augment else None


@dataclass(frozen=True, kw_only=True)
class Windows(Clips):
    """Windows of a video with all of its objects, each frame in one window at most."""

    @property
    def weighs_absent(self) -> bool:
        """See `weigh_absent` of `ClipDataset`."""
        return True

    def training(self, samples: list[Video], slots: int, seed: int, cache: FrameCache | None) -> ClipDataset:
        """The windows, augmented."""
        return self._windows(samples, slots, self.augmentation, seed, cache)

    def order(
        self, count: int, seed: int, start: tuple[int, int], every_frame: Callable[[int], bool]
    ) -> EpochSampler:
        """All windows in random order."""
        return EpochSampler(count, seed, start)

    def validation(
        self, samples: list[Video], slots: int, seed: int, cache: FrameCache | None
    ) -> tuple[ClipDataset, FixedSampler]:
        """The windows as they are."""
        windows = self._windows(samples, slots, None, seed, cache)
        return windows, FixedSampler(len(windows), self.val_clips)

    def _windows(
        self,
        videos: list[Video],
        slots: int,
        augmentation: Augmentation | None,
        seed: int,
        cache: FrameCache | None,
    ) -> ClipDataset:
        length = self.frames
        return ClipDataset(videos, self.size, length, slots, augmentation, seed, cache, self.weighs_absent)


@dataclass(frozen=True, kw_only=True)
class WeighedWindows(Windows):
    """Windows for losses with a weight for each object and frame; `ClipDataset` explains the field."""

    weigh_absent: Annotated[bool, TRUTH] = True

    @property
    def weighs_absent(self) -> bool:
        """See `ClipDataset`."""
        return self.weigh_absent


@dataclass(frozen=True, kw_only=True)
class SingleObjects(Clips):
    """Clips of one object each, see `ObjectClips`.

    samples: how many clips an epoch has; 0 takes as many as `draw` has objects or videos. draw, clip_start:
    see `ObjectClips`.
    """

    samples: Annotated[int, whole(0)] = 0
    draw: Annotated[str, choice("object", "video")] = "video"
    clip_start: Annotated[str, choice("random", "first")] = "random"

    @property
    def epoch_note(self) -> str:
        """See `Examples.epoch_note`."""
        return f" of {self.samples} clips" if self.samples else ""

    def training(self, samples: list[Video], slots: int, seed: int, cache: FrameCache | None) -> ObjectClips:
        """The objects or videos to draw from, augmented."""
        return ObjectClips(samples, self.size, self.augmentation, seed, cache, self.draw, self.clip_start)

    def order(
        self, count: int, seed: int, start: tuple[int, int], every_frame: Callable[[int], bool]
    ) -> DrawSampler:
        """Draws whose lengths are anew for each batch."""
        return DrawSampler(self.samples or count, self.batch_size, self.lengths, seed, every_frame, start)

    def validation(
        self, samples: list[Video], slots: int, seed: int, cache: FrameCache | None
    ) -> tuple[ObjectClips, list[Draw]]:
        """A clip of the shortest length for each object."""
        clips = ObjectClips(samples, self.size, None, seed, cache, "object", self.clip_start)
        keys = FixedSampler(len(clips), self.val_clips)
        return clips, [Draw(0, index, self.lengths[0]) for _, index in keys]


def no_epoch(_: int) -> bool:
    """Says of every epoch that its clips run over annotated frames alone."""
    return False
