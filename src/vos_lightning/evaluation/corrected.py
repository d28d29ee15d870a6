"""Models that take masks, in rounds with a user who corrects the mask of one frame at a time.

From each corrected frame its mask is propagated forwards and backwards; every other frame takes its mask from
the nearest corrected frame, the earlier one of two that are as near.

Shapes: T frames, h w pixels of the video. A mask is (h, w) uint8 of object ids.
"""

from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np

from vos_lightning.data.scribbles import Interaction
from vos_lightning.data.videos import Given, Video
from vos_lightning.errors import InputError
from vos_lightning.evaluation.propagation import Propagation, VideoPrediction
from vos_lightning.evaluation.rounds import RoundsEvaluation
from vos_lightning.evaluation.videos import VideoEvaluation


def given_in(prediction: VideoPrediction, given: Given) -> Given:
    """What a user gives: `given`, or with `predict.rounds` corrected masks.

    Raises InputError for rounds with a network that is not given masks.
    """
    if not prediction.rounds:
        return given
    if given is not Given.MASKS:
        raise InputError("predict.rounds=true: the network reads no mask that could be corrected; set false.")
    return Given.CORRECTED


def evaluation_along(propagation: Propagation) -> VideoEvaluation | RoundsEvaluation:
    """What evaluates a network that is ready to go along videos: at once, or with `predict.rounds` in rounds.

    Raises InputError as `given_in`.
    """
    given = given_in(propagation.prediction, propagation.given)
    if given is Given.CORRECTED:
        return RoundsEvaluation(lambda video: CorrectedSession(propagation, video), given)
    return VideoEvaluation(propagation)


class CorrectedSession:
    """A `rounds.Session` whose interactions have masks.

    It propagates again only what a correction changes, and keeps what it has for `undo`.
    """

    def __init__(self, propagation: Propagation, video: Video) -> None:
        self.stretches = Stretches(propagation, video)
        self.corrected: list[tuple[int, np.ndarray]] = []

    def answer(self, interaction: Interaction) -> np.ndarray:
        """See `rounds.Session.answer`. Raises ValueError for an interaction without a mask."""
        if interaction.mask is None:
            raise ValueError("a model that takes masks is asked without one")
        self.corrected.append((interaction.frame, interaction.mask.astype(np.uint8)))
        return self.stretches.masks(dict(self.corrected))

    def undo(self) -> np.ndarray:
        """See `rounds.Session.undo`."""
        del self.corrected[-1:]
        return self.stretches.masks(dict(self.corrected))


def between(propagation: Propagation, video: Video, given: Mapping[int, np.ndarray]) -> np.ndarray:
    """The masks of all frames (T, h, w) uint8 from the whole masks of some, frame -> (h, w) uint8 ids."""
    return Stretches(propagation, video).masks(given)


class Stretches:
    """Propagates along one video from masks of some frames, and remembers each stretch that it went."""

    def __init__(self, propagation: Propagation, video: Video) -> None:
        self.propagation, self.video = propagation, video
        self.known: dict[tuple[int, bytes, int], list[np.ndarray]] = {}  # by start, its mask, and direction
        self.ready: dict[tuple[int, bytes], Propagation] = {}  # after learning from a frame and its mask

    def masks(self, given: Mapping[int, np.ndarray]) -> np.ndarray:
        """As `between`; all background where nothing is given."""
        found = np.zeros((len(self.video), *self.video.frame(0).shape[:2]), np.uint8)
        starts = sorted(given)
        # Frames from a limit up to the next one are nearest to the start between them.
        limits = [0, *((a + b) // 2 + 1 for a, b in pairwise(starts)), len(self.video)]
        for t, (first, end) in zip(starts, pairwise(limits), strict=False):
            for step, length in ((1, end - t), (-1, t - first + 1)):
                for n, mask in enumerate(self._stretch(t, given[t], step, length)):
                    found[t + n * step] = mask
        return found

    def _stretch(self, start: int, mask: np.ndarray, step: int, length: int) -> list[np.ndarray]:
        """The masks of so many frames from `start` on, forwards (1) or backwards (-1)."""
        key = start, mask.tobytes()
        known = self.known.get((*key, step), [mask])
        if len(known) < length:
            along = self._ready(key, start, mask)
            known = list(along.masks(self._frames(start, step, length), {0: mask}))
            self.known[*key, step] = known
        return known[:length]

    def _ready(self, key: tuple[int, bytes], start: int, mask: np.ndarray) -> Propagation:
        """The network after learning from the frame, if it does."""
        if not self.propagation.adapts or not mask.any():
            return self.propagation
        if key not in self.ready:
            self.ready[key] = self.propagation.adapted(self.video.frame(start), mask)
        return self.ready[key]

    def _frames(self, start: int, step: int, length: int) -> Iterator[np.ndarray]:
        return (self.video.frame(start + n * step) for n in range(length))
