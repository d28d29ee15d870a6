"""S2S along a video: each object is a state that goes from frame to frame.

Shapes: O object slots, H W pixels of the network's input, h w pixels of the video.
"""

from collections.abc import Iterator, Mapping
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from vos_lightning.devices import upload
from vos_lightning.evaluation.propagation import ENCODED_TOGETHER, Propagation
from vos_lightning.models.s2s.fields import ObjectPrediction
from vos_lightning.models.s2s.network import S2S, State
from vos_lightning.models.s2s.online import tune


class StatePropagation(Propagation):
    """See `Propagation`; `seed` is that of the pairs of online learning."""

    network: S2S
    prediction: ObjectPrediction

    def __init__(
        self,
        network: S2S,
        prediction: ObjectPrediction,
        size: tuple[int, int],
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(network, prediction, size, device)
        self.seed = seed

    @property
    def adapts(self) -> bool:
        """Whether the network learns from each first frame."""
        return self.prediction.online.enabled

    def adapted(self, frame: np.ndarray, ids: np.ndarray) -> "StatePropagation":
        """See `Propagation.adapted` and `tune`."""
        tuned = tune(self.network, frame, ids, self.size, self.prediction.online, self.seed, self.device)
        return StatePropagation(tuned, self.prediction, self.size, self.seed, self.device)

    def soft_masks(
        self, frames: Iterator[np.ndarray], labels: Mapping[int, np.ndarray], slots: int
    ) -> Iterator[Tensor]:
        """See `Propagation.soft_masks`.

        An object is given as its state after the frame, and has an empty mask before.
        """
        labels = {t: ids for t, ids in labels.items() if ids.any()}
        started = torch.zeros(0, dtype=torch.long, device=self.device)  # slots, in the order of the states
        state: State | None = None
        previous = torch.zeros(1, slots, *self.size, device=self.device)
        for t, (frame, read) in enumerate(self._read(frames, set(labels))):
            masks = torch.zeros_like(previous)
            if state is not None:
                state = self.network.advance(read, state, previous.index_select(1, started))
                soft = torch.sigmoid(self.network.decode(state[1], self.size).float())
                masks = masks.index_copy(1, started, soft)
            if t in labels:
                given, starts = self.slot_masks(labels[t], slots)
                new = upload(torch.tensor([i - 1 for i in np.unique(labels[t]).tolist() if i]), self.device)
                masks = torch.where(starts, given, masks)
                assert frame is not None
                state = _joined(state, self.network.start(frame, given.index_select(1, new)))
                started = torch.cat([started, new])
            previous = masks
            yield masks[0]

    def _read(self, frames: Iterator[np.ndarray], wanted: set[int]) -> Iterator[tuple[Tensor | None, Tensor]]:
        """Each frame, only the `wanted` ones kept, with what the ConvLSTM reads of it.

        A video representation takes the features of its window at once, or of the whole video.
        """
        together = (self.network.window or None) if self.network.video is not None else ENCODED_TOGETHER
        kept = (
            (frame if t in wanted else None, features)
            for t, (frame, features) in enumerate(self.encoded(frames))
        )
        while chunk := list(islice(kept, together)):
            inputs, features = zip(*chunk, strict=True)
            yield from zip(inputs, self.network.read(list(features)), strict=True)


def _joined(state: State | None, begun: State) -> State:
    """The states of the objects so far and of those that begin."""
    if state is None:
        return begun
    return torch.cat([state[0], begun[0]]), torch.cat([state[1], begun[1]])
