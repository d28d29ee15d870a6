"""Training clips of one object (Xu et al. 2018, section 4.2): as many frames as the sampler asks for.

Shapes: T frames of a clip, H W pixels of the network's input.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vos_lightning.data.clips import Augmentation, Clip, EpochSampler, check_first_masks, clip_name, normalise
from vos_lightning.data.small_frames import FrameCache, read_small
from vos_lightning.data.videos import Video
from vos_lightning.errors import InputError, one_of

TRIES = 20  # draws of a clip until its object is visible in its first frame


class Draw(NamedTuple):
    """Which clip to draw: epoch and number decide the place, length is T, every_frame takes all frames, not
    the annotated ones alone."""

    epoch: int
    number: int
    length: int
    every_frame: bool = False


class ObjectClips(Dataset[Clip]):
    """Clips of one object each, from a place where it is annotated and visible.

    A clip runs over consecutive annotated frames, or over all frames from an annotated one on. Its labels are
    1 in the object; `weights` (T, 1) is 1 where the frame is annotated, and 0 throughout if no draw shows the
    object in the first frame. A video that ends early repeats its last frame.

    Args:
        videos: a mask may be missing after an object's first frame.
        size: (H, W) of the network's input.
        augmentation: None for clips as they are.
        seed: with the `Draw` it decides the object, the place and the augmentation.
        cache: keeps the resized frames; None decodes them every time.
        draw: what a number stands for: an `object`, or a `video`, of whose objects one is drawn at random.
        start: a clip's place: `random`, or `first`, the object's first frames.

    Raises:
        InputError: no object, an object that its first mask lacks, or an unknown `draw` or `start`.
    """

    def __init__(
        self,
        videos: list[Video],
        size: tuple[int, int],
        augmentation: Augmentation | None,
        seed: int,
        cache: FrameCache | None = None,
        draw: str = "object",
        start: str = "random",
    ) -> None:
        one_of("data.draw", draw, ("object", "video"))
        one_of("data.clip_start", start, ("random", "first"))
        self.size, self.augmentation, self.seed, self.cache = size, augmentation, seed, cache
        self.start = start
        check_first_masks(videos, cache)
        if draw == "video":
            self.choices = [(video, video.objects) for video in videos if video.objects]
        else:
            self.choices = [(video, (i,)) for video in videos for i in video.objects]
        if not self.choices:
            raise InputError("There is no object to train on; check the split's masks.")

    def __len__(self) -> int:
        return len(self.choices)

    def __getitem__(self, draw: Draw) -> Clip:
        """The clip of the object or video at `number`, modulo how many there are."""
        video, _, times, frames, labels = self._drawn(draw)
        seen = bool(labels[0].any())  # one that vanishes at this size teaches nothing
        weights = torch.tensor([[float(seen and video.masks[t] is not None)] for t in times])
        return Clip(frames, labels, weights)

    def name(self, draw: Draw) -> str:
        """The video, the frames and the object of a drawn clip."""
        video, ident, times, _, _ = self._drawn(draw)
        return f"{clip_name(video, times)} (object {ident})"

    def _drawn(self, draw: Draw) -> tuple[Video, int, list[int], Tensor, Tensor]:
        """A clip's video, object and frames' numbers, its frames and its labels."""
        video, idents = self.choices[draw.number % len(self.choices)]
        rng = np.random.default_rng((self.seed, draw.epoch, draw.number))
        ident = idents[rng.integers(len(idents))]
        for _ in range(TRIES):
            times = self._times(video, ident, draw, rng)
            planes = np.stack([read_small(video, t, self.size, self.cache) for t in times])
            frames, labels = (
                normalise(planes[:, :3]),
                torch.from_numpy((planes[:, 3] == ident).astype(np.uint8)),
            )
            if self.augmentation is not None:
                frames, labels = self.augmentation(frames, labels, rng)
            if labels[0].any():
                break
        return video, ident, times, frames, labels

    def _times(self, video: Video, ident: int, draw: Draw, rng: np.random.Generator) -> list[int]:
        """Frames of a clip that starts where the object is listed."""
        start = video.starts[ident]
        annotated = [t for t in video.annotated if t >= start]
        frames = list(range(start, len(video))) if draw.every_frame else annotated
        first = start
        if self.start == "random":
            latest = max(0, len(frames) - draw.length)
            first = annotated[rng.integers(sum(t <= frames[latest] for t in annotated))]
            if video.presence is not None and first not in video.presence[ident]:
                first = start
        at = frames.index(first)
        return [frames[min(at + t, len(frames) - 1)] for t in range(draw.length)]


class DrawSampler(EpochSampler):
    """Draws in an order that seed and epoch decide; those of a batch share their length.

    Args:
        samples: how many draws an epoch has.
        batch_size: B.
        lengths: the shortest and the longest T.
        seed: decides the order and the lengths.
        every_frame_at: whether the clips of an epoch run over frames without annotation too; they are then
            of the longest T, or some would end before their second annotated frame.
        start: see `EpochSampler`.
    """

    def __init__(
        self,
        samples: int,
        batch_size: int,
        lengths: tuple[int, int],
        seed: int,
        every_frame_at: Callable[[int], bool] = lambda epoch: False,
        start: tuple[int, int] = (0, 0),
    ) -> None:
        super().__init__(samples, seed, start)
        self.batch_size, self.lengths, self.every_frame_at = batch_size, lengths, every_frame_at

    def keys(self, epoch: int) -> list[Draw]:
        """All draws of an epoch, in order."""
        rng = np.random.default_rng((self.seed, epoch))
        order = rng.permutation(self.length)
        every_frame = self.every_frame_at(epoch)
        low, high = self.lengths
        low = high if every_frame else low
        lengths = rng.integers(low, high + 1, -(-self.length // self.batch_size))
        offset = epoch * self.length  # so that few samples an epoch come to every choice in time
        return [
            Draw(epoch, offset + int(i), int(lengths[n // self.batch_size]), every_frame)
            for n, i in enumerate(order)
        ]
