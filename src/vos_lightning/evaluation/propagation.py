"""A network along a whole video, frame by frame, with memory that does not grow with the video's length.

Shapes: O object slots, H W pixels of the network's input, h w pixels of the video.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from typing import Annotated, Any, Self

import numpy as np
import torch
from torch import Tensor

from vos_lightning.data.clips import to_network
from vos_lightning.data.images import VOID, resize_labels
from vos_lightning.data.videos import Given
from vos_lightning.devices import upload
from vos_lightning.errors import InputError
from vos_lightning.evaluation.merging import RULES, Merger
from vos_lightning.fields import TRUTH, Where, choice, real

# Frames that are encoded in one batch: weights are read once for all of them, and memory stays small.
ENCODED_TOGETHER = 4


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """How a trained network is used; a model's own subclass adds its fields.

    all_frames: whether frames between the annotated ones are segmented too, where a data set has such. tf32:
    see `devices.choose_arithmetic`. precision: see `for_inference`.
    """

    all_frames: Annotated[bool, TRUTH] = False
    tf32: Annotated[bool, TRUTH] = False
    precision: Annotated[str, choice("fp32", "bf16")] = "fp32"

    @property
    def partner(self) -> tuple[str, ...] | None:
        """Overrides of another run whose trained network helps this one's; None where none does."""
        return None


@dataclass(frozen=True, kw_only=True)
class VideoPrediction(Prediction):
    """How soft masks along a video become one mask a frame; `Merger` explains `merge` and `background`.

    rounds: whether masks are made in rounds with a user who corrects one frame at a time, see
    `CorrectedSession`.
    """

    merge: Annotated[str, choice(*RULES)] = "painter"
    background: Annotated[float, real(0, 1), Where("merge", "argmax")] = 0.5
    rounds: Annotated[bool, TRUTH] = False

    def __post_init__(self) -> None:
        if not 0 < self.background < 1:
            raise InputError(f"predict.background={self.background}: must lie between 0 and 1.")


class Propagation(ABC):
    """A network that is ready to go along videos; a model says in a subclass how it does.

    Args:
        network: in eval mode, best as `for_inference` gives it.
        prediction: see `VideoPrediction`.
        size: (H, W) at which the network runs.
        device: where the network is.

    Attributes:
        given: what the network is told of a video.
        keeps_given: whether a given mask stays as it is in the frame where its object starts. In frame 0 it
            always does.
        segments_start: whether the network segments an object already in the frame where it starts.
    """

    given: Given = Given.MASKS
    keeps_given: bool = True
    segments_start: bool = True

    def __init__(
        self,
        network: Any,
        prediction: VideoPrediction,
        size: tuple[int, int],
        device: torch.device | str = "cpu",
    ) -> None:
        self.network, self.prediction, self.size, self.device = network, prediction, size, device

    @abstractmethod
    def soft_masks(
        self, frames: Iterator[np.ndarray], labels: Mapping[int, np.ndarray], slots: int
    ) -> Iterator[Tensor]:
        """Yields the soft masks (O, H, W) float32 in 0..1 of each frame (h, w, 3) uint8 RGB.

        Args:
            frames: the frames of a video, all of one size.
            labels: frame -> ids (h, w) uint8 of the objects that start there.
            slots: O.
        """

    def slots(self, labels: Mapping[int, np.ndarray]) -> int:
        """O for a video with these labels: the highest id. Raises InputError for more than there can be."""
        return max((int(mask.max()) for mask in labels.values()), default=0)

    def merger(self) -> Merger:
        """What merges the soft masks of a video."""
        return Merger(self.prediction.merge, self.prediction.background)

    def adapted(self, frame: np.ndarray, ids: np.ndarray) -> Self:
        """The same for one video, after learning from a frame (h, w, 3) uint8 and its ids (h, w) uint8."""
        return self

    @property
    def adapts(self) -> bool:
        """Whether `adapted` learns anything."""
        return False

    @torch.inference_mode()
    def masks(self, frames: Iterable[np.ndarray], given: Mapping[int, np.ndarray]) -> Iterator[np.ndarray]:
        """Segments a video; yields one mask (h, w) uint8 of object ids for each frame.

        Arguments and errors as `probabilities`.
        """
        frames = iter(frames)
        first = next(frames, None)
        if first is None:
            return
        size, labels, merger = first.shape[:2], self._labels(given), self.merger()
        waiting: list[Tensor] = []
        for t, masks in enumerate(self.probabilities(chain([first], frames), given)):
            new = labels.get(t)
            if new is None:
                waiting.append(masks)
            else:
                yield from _merged(merger, waiting, size)
                merged = merger(masks[None], size)[0]
                merger.start(masks, new)
                if t > 0 and self.segments_start:
                    merged = merger(masks[None], size)[0]
                yield np.where(new > 0, new, merged) if t == 0 or self.keeps_given else merged
            if (t + 1) % ENCODED_TOGETHER == 0:
                yield from _merged(merger, waiting, size)
        yield from _merged(merger, waiting, size)

    @torch.inference_mode()
    def probabilities(
        self, frames: Iterable[np.ndarray], given: Mapping[int, np.ndarray]
    ) -> Iterator[Tensor]:
        """The soft masks of a video; yields (O, H, W) float32 in 0..1 for each frame.

        An object that starts later is first in `given` at its frame.

        Args:
            frames: (h, w, 3) uint8 RGB, all of one size.
            given: frame -> ids (h, w) uint8; nothing of it is read unless `Propagation.given` has masks.

        Raises:
            InputError: no mask is given to a network that takes them, one has another size than its frame or
                an id without a slot, or frames have different sizes.
        """
        labels = self._labels(given)
        if self.given.has_masks and not labels:
            raise InputError("No mask is given; this model needs the first mask of each object.")
        slots, frames = self.slots(labels), _checked(frames, labels)
        if slots == 0:
            yield from (torch.zeros(0, *self.size, device=self.device) for _ in frames)
        else:
            yield from self.soft_masks(frames, labels, slots)

    def _labels(self, given: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        return first_masks(given) if self.given.has_masks else {}

    def encoded(self, frames: Iterator[np.ndarray]) -> Iterator[tuple[Tensor, Any]]:
        """Each frame as the network's input (1, 3, H, W) with its features, encoded a few at a time."""
        while chunk := list(islice(frames, ENCODED_TOGETHER)):
            clip = upload(to_network(chunk, self.size)[None], self.device)
            yield from zip(clip.unbind(1), self.network.encode(clip), strict=True)

    def slot_masks(self, labels: np.ndarray, slots: int) -> tuple[Tensor, Tensor]:
        """Ids (h, w) as masks (1, O, H, W) float32, and which slots occur in them, (1, O, 1, 1) bool."""
        small = upload(torch.from_numpy(np.array(resize_labels(labels, self.size))), self.device)
        ids = torch.arange(1, slots + 1, device=self.device, dtype=torch.uint8).view(1, -1, 1, 1)
        present = torch.isin(ids, upload(torch.from_numpy(np.unique(labels)), self.device))
        return (small == ids).float(), present


def _merged(merger: Merger, waiting: list[Tensor], size: tuple[int, int]) -> Iterator[np.ndarray]:
    """The masks of the frames that wait, of which none does afterwards."""
    if waiting:
        yield from merger(torch.stack(waiting), size)
        waiting.clear()


def _checked(frames: Iterable[np.ndarray], labels: Mapping[int, np.ndarray]) -> Iterator[np.ndarray]:
    """The frames, all of one size, which the given masks have too."""
    size = None
    for t, frame in enumerate(frames):
        size = size or frame.shape[:2]
        if frame.shape[:2] != size:
            raise InputError(f"Frame {t}: it must have the size of frame 0, {size}.")
        if t in labels and labels[t].shape != size:
            raise InputError(f"Frame {t}: the given mask must have the frame's size, {size}.")
        yield frame


def first_masks(given: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
    """Each object's first mask only: frame -> ids (h, w) uint8, void and objects given before left out."""
    known, first = {0, VOID}, {}
    for t in sorted(given):
        new = [i for i in np.unique(given[t]).tolist() if i not in known]
        known.update(new)
        if new or t == 0:
            first[t] = np.where(np.isin(given[t], new), given[t], 0).astype(np.uint8)
    return first
