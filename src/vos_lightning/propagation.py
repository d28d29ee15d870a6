"""A model along a whole video, frame by frame, with memory that does not grow with its length.

Shapes: O object slots, H W pixels of the network's input, h w pixels of the video.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vos_lightning.data.clips import to_network
from vos_lightning.data.images import VOID, resize_labels
from vos_lightning.errors import InputError
from vos_lightning.models.rvos import RVOS, Features

ENCODED_TOGETHER = 4  # frames; weights are then read once for all of them, memory stays small


@dataclass(frozen=True)
class Protocol:
    """How a network's outputs become a video's masks.

    size: (H, W) at which the network runs.
    given_frames: how many frames from the start read the given mask as previous mask. The released RVOS
        code takes 2, its training 1.
    merge: `painter`, as that code: each slot's mask where it exceeds 0.5 at network size, a later slot over
        an earlier one; or `argmax`: the most probable slot at the video's size, background at 0.5.
    proposals: slots of a zero-shot model.
    """

    size: tuple[int, int]
    given_frames: int = 2
    merge: str = "painter"
    proposals: int = 10

    def __post_init__(self) -> None:
        if self.merge not in ("painter", "argmax"):
            raise InputError(f"predict.merge={self.merge}: unknown; choose painter or argmax.")
        if self.given_frames < 1:
            raise InputError(f"predict.given_frames={self.given_frames}: must be 1 or more.")


@torch.inference_mode()
def propagate(
    model: RVOS,
    frames: Iterable[np.ndarray],
    given: Mapping[int, np.ndarray],
    protocol: Protocol,
    device: torch.device | str = "cpu",
) -> Iterator[np.ndarray]:
    """Segments a video; yields one mask (h, w) uint8 of object ids for each frame.

    One-shot, frame 0 is the given mask itself. Arguments and errors as `probabilities`.
    """
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        return
    size = first.shape[:2]
    for t, masks in enumerate(probabilities(model, chain([first], frames), given, protocol, device)):
        if t == 0 and model.mask_input:
            yield _first_masks(given).get(0, np.zeros(size, np.uint8))
        else:
            yield merge(masks, size, protocol.merge)


@torch.inference_mode()
def probabilities(
    model: RVOS,
    frames: Iterable[np.ndarray],
    given: Mapping[int, np.ndarray],
    protocol: Protocol,
    device: torch.device | str = "cpu",
) -> Iterator[Tensor]:
    """The soft masks of a video; yields (O, H, W) float32 in 0..1 for each frame.

    An object that starts later is first in `given` at its frame: there its mask overwrites the slot's
    previous mask, and the hidden state stays as it is.

    Args:
        model: in eval mode, best as `for_inference` gives it; one that reads no masks ignores `given` and
            gives proposals.
        frames: (h, w, 3) uint8 RGB, all of one size.
        given: frame -> ids (h, w) uint8; a slot has an empty mask until its object is given.
        protocol: see `Protocol`.
        device: where the model is.

    Raises:
        InputError: a one-shot model without any given mask, one of another size than its frame, or frames
            of different sizes.
    """
    one_shot = model.mask_input
    labels = _first_masks(given)
    if one_shot and not labels:
        raise InputError("No mask is given; a one-shot model needs the first mask of each object.")
    slots = max(int(mask.max()) for mask in labels.values()) if one_shot else protocol.proposals
    empty = torch.zeros(1, slots, *protocol.size, device=device)
    first, previous, started, state = empty, empty, empty[..., :1, :1] > 0, None
    frames = _checked(frames, labels if one_shot else {})
    if slots == 0:
        yield from (empty[0] for _ in frames)
        return
    for t, features in enumerate(_encoded(model, frames, protocol.size, device)):
        if one_shot and t in labels:
            new, starts = _slot_masks(labels[t], slots, protocol.size, device)
            first, previous = torch.where(starts, new, first), torch.where(starts, new, previous)
            started = started | starts
        if t < protocol.given_frames:
            previous = first
        step = model.step(features, slots, protocol.size, previous if one_shot else None, state)
        state, previous = step.state, torch.sigmoid(step.logits.float())
        if one_shot:
            previous = previous * started
        yield previous[0]


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


def _encoded(
    model: RVOS, frames: Iterator[np.ndarray], size: tuple[int, int], device: torch.device | str
) -> Iterator[Features]:
    """The features of each frame, encoded a few frames at a time."""
    while chunk := list(islice(frames, ENCODED_TOGETHER)):
        yield from model.encode(to_network(chunk, size)[None].to(device))


def _first_masks(given: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
    """Each object's first mask only: frame -> ids (h, w) uint8, void and objects given before left out."""
    known, first = {0, VOID}, {}
    for t in sorted(given):
        new = [i for i in np.unique(given[t]).tolist() if i not in known]
        known.update(new)
        if new or t == 0:
            first[t] = np.where(np.isin(given[t], new), given[t], 0).astype(np.uint8)
    return first


def merge(masks: Tensor, size: tuple[int, ...], rule: str) -> np.ndarray:
    """Merges slot probabilities (O, H, W) into ids `size` = (h, w) uint8 by a rule of `Protocol.merge`."""
    if not len(masks):
        return np.zeros(size, np.uint8)
    if rule == "argmax":
        masks = F.interpolate(masks[None], size=size, mode="bilinear", align_corners=False)[0]
        scores = torch.cat([torch.full_like(masks[:1], 0.5), masks])
        return scores.argmax(0).to(torch.uint8).cpu().numpy()
    ids = torch.arange(1, len(masks) + 1, device=masks.device).view(-1, 1, 1)
    painted = ((masks > 0.5) * ids).amax(0).to(torch.uint8).cpu().numpy()
    return resize_labels(painted, (size[0], size[1]))


def _slot_masks(
    labels: np.ndarray, slots: int, size: tuple[int, int], device: torch.device | str
) -> tuple[Tensor, Tensor]:
    """Ids (h, w) as masks (1, O, H, W) float32, and which slots occur in them, (1, O, 1, 1) bool."""
    small = torch.from_numpy(np.array(resize_labels(labels, size))).to(device)
    ids = torch.arange(1, slots + 1, device=device, dtype=torch.uint8).view(1, -1, 1, 1)
    present = torch.isin(ids, torch.from_numpy(np.unique(labels)).to(device))
    return (small == ids).float(), present
