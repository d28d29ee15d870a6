"""Training clips: non-overlapping windows of a video, resized, augmented and batched.

Shapes: B batch, T frames of a clip, O object slots, H W pixels of the network's input.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from vos_lightning.data.checked import check_each
from vos_lightning.data.small_frames import FrameCache, check_sizes, colour_planes, read_small
from vos_lightning.data.videos import Video
from vos_lightning.errors import InputError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Clip(NamedTuple):
    """A clip, or a batch of them with a leading B.

    frames: (T, 3, H, W) float32, normalised by ImageNet's mean and deviation.
    labels: (T, H, W) uint8 object ids; 0 is background, void has become background.
    weights: (T, O) float32, of slot o (object o + 1) in the loss of frame t: 1, or 0 where it is left out.
    """

    frames: Tensor
    labels: Tensor
    weights: Tensor

    def masks(self, slots: int) -> Tensor:
        """The labels as one mask a slot: (..., T, slots, H, W) float32."""
        ids = torch.arange(1, slots + 1, device=self.labels.device, dtype=self.labels.dtype)
        return (self.labels.unsqueeze(-3) == ids.view(-1, 1, 1)).float()

    def slots_in_use(self) -> int:
        """The highest slot that has a weight anywhere, plus one; at least 1."""
        used = self.weights.flatten(0, -2).amax(0).tolist()
        return max([slot + 1 for slot, weight in enumerate(used) if weight], default=1)


def normalise(planes: np.ndarray) -> Tensor:
    """Colour planes (T, 3, H, W) uint8 as a network's input, float32 by ImageNet's mean and deviation."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return torch.from_numpy(planes).float().div_(255).sub_(mean).div_(std)


def to_network(frames: list[np.ndarray], size: tuple[int, int]) -> Tensor:
    """Frames (h, w, 3) uint8 as a network's input of `size` (H, W): (T, 3, H, W) float32, see `normalise`."""
    return normalise(np.stack([colour_planes(frame, size) for frame in frames]))


class Augmentation(NamedTuple):
    """Ranges of the affine augmentation that a whole clip shares (Ventura et al. 2019, released code).

    flip: probability of a horizontal flip. rotation, shear: degrees, either sign. translation: share of the
    height and width, either sign. zoom: range of the factors, drawn for x and y on their own. image_warp: how
    frames are interpolated, `nearest` as in that code or `bilinear`. border: what comes in from outside, the
    nearest pixel (`border`), or the mean colour and background (`zeros`).
    """

    flip: float = 0.5
    rotation: float = 10.0
    translation: float = 0.1
    shear: float = 0.1
    zoom: tuple[float, float] = (0.7, 1.4)
    image_warp: str = "bilinear"
    border: str = "border"

    def __call__(self, frames: Tensor, labels: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Warps frames (T, 3, H, W), and labels (N, H, W) by nearest, all of them alike."""
        height, width = labels.shape[1:]
        inverse = np.linalg.inv(self._matrix(height, width, rng))
        # grid_sample counts in half sizes from the centre.
        half = np.diag([width / 2, height / 2, 1.0])
        theta = torch.from_numpy((np.linalg.inv(half) @ inverse @ half)[:2]).float()
        grid = F.affine_grid(theta[None], [1, 1, height, width], align_corners=False)
        each = grid.expand(len(frames), -1, -1, -1)
        warped = F.grid_sample(frames, each, self.image_warp, self.border, align_corners=False)
        ids = F.grid_sample(labels[None].float(), grid, "nearest", self.border, align_corners=False)
        return warped, ids[0].to(labels.dtype)

    def _matrix(self, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
        """3x3 map of pixel offsets from the centre, before to after."""
        angle, shear = (math.radians(rng.uniform(-r, r)) for r in (self.rotation, self.shear))
        zoom_x, zoom_y = rng.uniform(*self.zoom, size=2)
        shift = rng.uniform(-self.translation, self.translation, size=2) * (width, height)
        flip = -1.0 if rng.random() < self.flip else 1.0
        rotate = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        linear = rotate @ np.array([[1.0, math.tan(shear)], [0.0, 1.0]]) @ np.diag([zoom_x * flip, zoom_y])
        matrix = np.eye(3)
        matrix[:2, :2], matrix[:2, 2] = linear, shift
        return matrix


class ClipDataset(Dataset[Clip]):
    """The windows of `length` annotated frames of every video, max(1, floor(N / length)) each.

    N counts the frames that have a mask. A video shorter than `length` gives one clip whose last frame
    repeats.

    Args:
        videos: with masks.
        size: (H, W) of the network's input.
        length: T.
        slots: O; an object id above it is an error.
        augmentation: None for clips as they are.
        seed: with the epoch and the clip's index it decides the augmentation.
        cache: keeps the resized frames; None decodes them every time.
        weigh_absent: whether every id that a data set lists for a video (`Video.presence`) counts in all
            its frames, as in the released code, or where it is visible; an id not listed never counts.
            Without lists, an id counts where it is visible.

    Raises:
        InputError: a video with more objects than slots, counted at `size`, or a mask of another size than
            its frame.
    """

    def __init__(
        self,
        videos: list[Video],
        size: tuple[int, int],
        length: int,
        slots: int,
        augmentation: Augmentation | None,
        seed: int,
        cache: FrameCache | None = None,
        weigh_absent: bool = True,
    ) -> None:
        self.size, self.length, self.slots, self.cache = size, length, slots, cache
        self.weigh_absent = weigh_absent
        self.augmentation, self.seed = augmentation, seed
        self.windows = [(video, times) for video in videos for times in _windows(video.annotated, length)]
        for video in videos:
            for i, t in video.starts.items():
                check_slots(video, t, i, slots)

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, key: tuple[int, int]) -> Clip:
        """The clip at (epoch, index)."""
        epoch, index = key
        video, times = self.windows[index]
        planes = np.stack([read_small(video, t, self.size, self.cache) for t in times])
        clip_frames, clip_labels = normalise(planes[:, :3]), torch.from_numpy(planes[:, 3])
        for t, labels in zip(times, planes[:, 3], strict=True):
            check_slots(video, t, int(labels.max()), self.slots)
        if self.augmentation is not None:
            rng = np.random.default_rng((self.seed, epoch, index))
            clip_frames, clip_labels = self.augmentation(clip_frames, clip_labels, rng)
        weights = self._visible(clip_labels.numpy())
        if video.presence is not None:
            listed = torch.isin(torch.arange(1, self.slots + 1), torch.tensor(video.objects))
            weights = (listed.expand_as(weights) if self.weigh_absent else listed * weights).float()
        return Clip(clip_frames, clip_labels, weights)

    def name(self, key: tuple[int, int]) -> str:
        """The video and the frames of the clip at (epoch, index)."""
        return clip_name(*self.windows[key[1]])

    def _visible(self, labels: np.ndarray) -> Tensor:
        """Which ids occur in each frame of labels (T, H, W): (T, O) float32, 0 or 1."""
        visible = torch.zeros(len(labels), self.slots)
        for i in range(1, int(labels.max()) + 1):
            visible[:, i - 1] = torch.from_numpy((labels == i).reshape(len(labels), -1).any(1))
        return visible


def clip_name(video: Video, times: Iterable[int]) -> str:
    """A video and the names of some of its frames, for messages."""
    return f"{video.name} {' '.join(video.frames[t].stem for t in dict.fromkeys(times))}"


def _windows(times: tuple[int, ...], length: int) -> list[tuple[int, ...]]:
    """Cuts times (N,), N >= 1, into windows; see `ClipDataset`."""
    padded = times + times[-1:] * (length - len(times))
    return [padded[i : i + length] for i in range(0, len(padded) - length + 1, length)]


def check_first_masks(
    videos: Iterable[Video], cache: FrameCache | None = None, label: str = "first masks"
) -> None:
    """Reads the masks in which objects start. Raises InputError for an object that its first mask lacks.

    cache, label: see `check_each`.
    """
    check_each(videos, Video.given, "first masks", cache, label)


def check_readable(
    videos: Iterable[Video], slots: int, cache: FrameCache | None = None, label: str = "videos"
) -> None:
    """Reads every frame and mask once, so that a bad file is found before the training that it would end.

    cache, label: see `check_each`.

    Raises InputError as `read_small` and `check_first_masks`, and for an object without a slot.
    """

    def check(video: Video) -> None:
        video.given()
        for i, t in video.starts.items():
            check_slots(video, t, i, slots)
        for t, path in enumerate(video.masks):
            frame = video.frame(t)
            if path is not None:
                check_sizes(path, video.mask(t).shape, frame.shape[:2])

    check_each(videos, check, f"readable, {slots} slots", cache, label)


def check_slots(video: Video, t: int, highest: int, slots: int) -> None:
    """Raises InputError if the highest object id of frame t has no slot."""
    if highest > slots:
        raise InputError(
            f"{video.masks[t]}: object id {highest} of video {video.name} exceeds "
            f"model.slots={slots}; raise it."
        )


class EpochSampler(Sampler[Any]):
    """Keys (epoch, index) of clips in an order that seed and epoch decide: a resumed run sees the same clips.

    Args:
        length: clips an epoch.
        seed: decides the order.
        start: (epoch, clips): the first `clips` clips of this epoch are left out, since the run was trained
            on them before it was interrupted.
    """

    def __init__(self, length: int, seed: int, start: tuple[int, int] = (0, 0)) -> None:
        self.length, self.seed, self.start, self.epoch = length, seed, start, start[0]

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def keys(self, epoch: int) -> list[Any]:
        """All keys of an epoch, in order."""
        order = np.random.default_rng((self.seed, epoch)).permutation(self.length)
        return [(epoch, int(i)) for i in order]

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Any]:
        epoch, done = self.start
        return iter(self.keys(self.epoch)[done if self.epoch == epoch else 0 :])


class FixedSampler(Sampler[tuple[int, int]]):
    """The pairs (0, index) of at most `limit` clips, spread evenly over the data set; 0 takes all."""

    def __init__(self, length: int, limit: int) -> None:
        self.indices = np.linspace(0, length - 1, min(length, limit or length)).round().astype(int).tolist()

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter([(0, i) for i in self.indices])
