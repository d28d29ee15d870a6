"""RVOS and STESA-GRU along a video: the masks of each frame are read with the next one.

Shapes: O object slots, H W pixels of the network's input, h w pixels of the video.
"""

from collections.abc import Iterator, Mapping
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from vos_lightning.data.videos import Given
from vos_lightning.errors import InputError
from vos_lightning.evaluation.merging import Merger
from vos_lightning.evaluation.propagation import Propagation
from vos_lightning.models.rvos.fields import MaskPrediction
from vos_lightning.models.rvos.network import RVOS


def given_to(mask_input: bool, prediction: MaskPrediction) -> Given:
    """Masks; a zero-shot network has slots that are named by the first masks, or are proposals."""
    if mask_input:
        return Given.MASKS
    return Given.MATCHED if prediction.match_given else Given.NOTHING


class MaskPropagation(Propagation):
    """See `Propagation`; a zero-shot network has `proposals` slots, whatever is given."""

    network: RVOS
    prediction: MaskPrediction

    def __init__(
        self,
        network: RVOS,
        prediction: MaskPrediction,
        size: tuple[int, int],
        proposals: int,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(network, prediction, size, device)
        self.proposals = proposals
        self.given = given_to(network.mask_input, prediction)
        self.keeps_given, self.segments_start = prediction.paste_given, not prediction.paste_given

    def slots(self, labels: Mapping[int, np.ndarray]) -> int:
        """See `Propagation.slots`."""
        highest = super().slots(labels)
        if self.network.mask_input:
            return highest
        if highest > self.proposals:
            raise InputError(
                f"Given masks: object id {highest} exceeds model.slots={self.proposals}; use lower ids."
            )
        return self.proposals

    def merger(self) -> Merger:
        """See `Propagation.merger`; the slots of a zero-shot network are matched, or all are proposals."""
        prediction = self.prediction
        merger = Merger(prediction.merge, prediction.background, match=not self.network.mask_input)
        if self.given is Given.NOTHING:
            merger.start_all(self.proposals)
        return merger

    def soft_masks(
        self, frames: Iterator[np.ndarray], labels: Mapping[int, np.ndarray], slots: int
    ) -> Iterator[Tensor]:
        """See `Propagation.soft_masks`.

        An object is given as its slot's previous mask, and its hidden state stays as it is. Before that, a
        slot has what the network makes of it.
        """
        reads_masks = self.network.mask_input
        labels = labels if reads_masks else {}
        empty = torch.zeros(1, slots, *self.size, device=self.device)
        first, previous, started, state = empty, empty, empty[..., :1, :1] > 0, None
        start = min(labels, default=0) if self.prediction.start_at_given else 0
        for _ in islice(frames, start):
            yield empty[0]
        for t, (_, features) in enumerate(self.encoded(frames), start):
            if t in labels:
                new, starts = self.slot_masks(labels[t], slots)
                first, previous = torch.where(starts, new, first), torch.where(starts, new, previous)
                started = started | starts
            if t < start + self.prediction.given_frames:
                previous = first
            step = self.network.step(features, slots, self.size, previous if reads_masks else None, state)
            state, previous = step.state, torch.sigmoid(step.logits.float())
            yield previous[0]
            if reads_masks and not self.network.feeds_unstarted:
                previous = previous * started
