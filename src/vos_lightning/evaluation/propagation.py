"""A model along a whole video, frame by frame, with memory that does not grow with its length.

Shapes: O object slots, H W pixels of the network's input, h w pixels of the video.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vos_lightning.data.clips import to_network
from vos_lightning.data.images import VOID, resize_labels
from vos_lightning.devices import upload
from vos_lightning.errors import InputError, one_of
from vos_lightning.evaluation.merging import RULES, Merger
from vos_lightning.models.rvos.network import RVOS
from vos_lightning.models.s2s.network import S2S, State

# Frames; weights are read once for all of them, their masks leave the device at once, memory stays small.
ENCODED_TOGETHER = 4


@dataclass(frozen=True)
class Protocol:
    """How a network's outputs become a video's masks.

    size: (H, W) at which the network runs.
    given_frames: how many frames from the start read the given mask as previous mask, of RVOS. The released
        code takes 2, its training 1.
    start_at_given: whether RVOS starts at the first frame with a given mask, as its released code, and leaves
        out those before; or at frame 0, with empty masks.
    paste_given: whether RVOS's masks keep a given mask where an object starts, as its released code; or show
        what the network makes of it. In frame 0 they keep it always.
    match_given: whether the slots of a zero-shot model are named by the objects of the given masks that they
        fit best, as its released code; or are proposals, which read nothing that is given.
    merge, background: rule and background of `Merger`.
    proposals: slots of a zero-shot model.
    """

    size: tuple[int, int]
    given_frames: int = 2
    start_at_given: bool = True
    paste_given: bool = True
    match_given: bool = True
    merge: str = "painter"
    proposals: int = 10
    background: float = 0.5

    def __post_init__(self) -> None:
        one_of("predict.merge", self.merge, RULES)
        if self.given_frames < 1:
            raise InputError(f"predict.given_frames={self.given_frames}: must be 1 or more.")
        if not 0 < self.background < 1:
            raise InputError(f"predict.background={self.background}: must lie between 0 and 1.")

    def takes_given(self, model: RVOS | S2S) -> bool:
        """Whether the model's masks follow from given ones, as it reads them or its slots are matched."""
        return model.mask_input or self.match_given


@torch.inference_mode()
def propagate(
    model: RVOS | S2S,
    frames: Iterable[np.ndarray],
    given: Mapping[int, np.ndarray],
    protocol: Protocol,
    device: torch.device | str = "cpu",
) -> Iterator[np.ndarray]:
    """Segments a video; yields one mask (h, w) uint8 of object ids for each frame.

    One-shot, frame 0 is the given mask itself, and given masks of later frames stand in theirs, see
    `Protocol.paste_given`. Arguments and errors as `probabilities`.
    """
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        return
    size, takes_given = first.shape[:2], protocol.takes_given(model)
    labels = _first_masks(given) if takes_given else {}
    merger = Merger(protocol.merge, protocol.background, match=not model.mask_input)
    if not takes_given:
        merger.start_all(protocol.proposals)
    own = isinstance(model, S2S) or not protocol.paste_given  # masks also where objects start
    keeps = isinstance(model, S2S) or protocol.paste_given
    waiting: list[Tensor] = []
    for t, masks in enumerate(probabilities(model, chain([first], frames), given, protocol, device)):
        new = labels.get(t)
        if new is None:
            waiting.append(masks)
        else:
            yield from _merged(merger, waiting, size)
            merged = merger(masks[None], size)[0]
            merger.start(masks, new)
            if t > 0 and own:
                merged = merger(masks[None], size)[0]
            yield np.where(new > 0, new, merged) if t == 0 or keeps else merged
        if (t + 1) % ENCODED_TOGETHER == 0:
            yield from _merged(merger, waiting, size)
    yield from _merged(merger, waiting, size)


def _merged(merger: Merger, waiting: list[Tensor], size: tuple[int, int]) -> Iterator[np.ndarray]:
    """The masks of the frames that wait, of which none does afterwards."""
    if waiting:
        yield from merger(torch.stack(waiting), size)
        waiting.clear()


@torch.inference_mode()
def probabilities(
    model: RVOS | S2S,
    frames: Iterable[np.ndarray],
    given: Mapping[int, np.ndarray],
    protocol: Protocol,
    device: torch.device | str = "cpu",
) -> Iterator[Tensor]:
    """The soft masks of a video; yields (O, H, W) float32 in 0..1 for each frame.

    An object that starts later is first in `given` at its frame.

    Args:
        model: in eval mode, best as `for_inference` gives it; one that reads no masks gives proposals, and
            what is given has to fit them.
        frames: (h, w, 3) uint8 RGB, all of one size.
        given: frame -> ids (h, w) uint8. Before its object is given, a slot of S2S has an empty mask, and one
            of RVOS what the network makes of it.
        protocol: see `Protocol`.
        device: where the model is.

    Raises:
        InputError: no mask is given to a model that takes them, one has another size than its frame or an id
            above `proposals` of a zero-shot model, or frames have different sizes.
    """
    takes_given = protocol.takes_given(model)
    labels = _first_masks(given) if takes_given else {}
    if takes_given and not labels:
        raise InputError("No mask is given; this model needs the first mask of each object.")
    slots = highest = max((int(mask.max()) for mask in labels.values()), default=0)
    if not model.mask_input:
        slots = protocol.proposals
        if highest > slots:
            raise InputError(f"Given masks: object id {highest} exceeds model.slots={slots}; use lower ids.")
    frames = _checked(frames, labels)
    if slots == 0:
        yield from (torch.zeros(0, *protocol.size, device=device) for _ in frames)
    elif isinstance(model, S2S):
        yield from _through_states(model, frames, labels, slots, protocol.size, device)
    else:
        yield from _through_masks(model, frames, labels if model.mask_input else {}, slots, protocol, device)


def _through_masks(
    model: RVOS,
    frames: Iterator[np.ndarray],
    labels: Mapping[int, np.ndarray],
    slots: int,
    protocol: Protocol,
    device: torch.device | str,
) -> Iterator[Tensor]:
    """RVOS: an object is given as its slot's previous mask, and its hidden state stays as it is."""
    empty = torch.zeros(1, slots, *protocol.size, device=device)
    first, previous, started, state = empty, empty, empty[..., :1, :1] > 0, None
    start = min(labels, default=0) if protocol.start_at_given else 0
    for _ in islice(frames, start):
        yield empty[0]
    for t, (_, features) in enumerate(_encoded(model, frames, protocol.size, device), start):
        if t in labels:
            new, starts = _slot_masks(labels[t], slots, protocol.size, device)
            first, previous = torch.where(starts, new, first), torch.where(starts, new, previous)
            started = started | starts
        if t < start + protocol.given_frames:
            previous = first
        step = model.step(features, slots, protocol.size, previous if model.mask_input else None, state)
        state, previous = step.state, torch.sigmoid(step.logits.float())
        yield previous[0]
        if model.mask_input and not model.feeds_unstarted:
            previous = previous * started


def _through_states(
    model: S2S,
    frames: Iterator[np.ndarray],
    labels: Mapping[int, np.ndarray],
    slots: int,
    size: tuple[int, int],
    device: torch.device | str,
) -> Iterator[Tensor]:
    """S2S: an object is given as its state after the frame, and not segmented before."""
    labels = {t: ids for t, ids in labels.items() if ids.any()}
    started = torch.zeros(0, dtype=torch.long, device=device)  # slots, in the order of the states
    state: State | None = None
    previous = torch.zeros(1, slots, *size, device=device)
    for t, (frame, read) in enumerate(_read(model, frames, set(labels), size, device)):
        masks = torch.zeros_like(previous)
        if state is not None:
            state = model.advance(read, state, previous.index_select(1, started))
            masks = masks.index_copy(1, started, torch.sigmoid(model.decode(state[1], size).float()))
        if t in labels:
            given, starts = _slot_masks(labels[t], slots, size, device)
            new = upload(torch.tensor([i - 1 for i in np.unique(labels[t]).tolist() if i]), device)
            masks = torch.where(starts, given, masks)
            assert frame is not None
            begun = model.start(frame, given.index_select(1, new))
            state = (
                begun if state is None else (torch.cat([state[0], begun[0]]), torch.cat([state[1], begun[1]]))
            )
            started = torch.cat([started, new])
        previous = masks
        yield masks[0]


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
    model: RVOS | S2S, frames: Iterator[np.ndarray], size: tuple[int, int], device: torch.device | str
) -> Iterator[tuple[Tensor, Any]]:
    """Each frame as the network's input (1, 3, H, W) with its features, encoded a few frames at a time."""
    while chunk := list(islice(frames, ENCODED_TOGETHER)):
        clip = upload(to_network(chunk, size)[None], device)
        yield from zip(clip.unbind(1), model.encode(clip), strict=True)


def _read(
    model: S2S,
    frames: Iterator[np.ndarray],
    wanted: set[int],
    size: tuple[int, int],
    device: torch.device | str,
) -> Iterator[tuple[Tensor | None, Tensor]]:
    """Each frame, only the `wanted` ones kept, with what the ConvLSTM reads of it.

    A video representation takes the features of its window at once, or of the whole video.
    """
    together = (model.window or None) if model.video is not None else ENCODED_TOGETHER
    kept = (
        (frame if t in wanted else None, features)
        for t, (frame, features) in enumerate(_encoded(model, frames, size, device))
    )
    while chunk := list(islice(kept, together)):
        inputs, features = zip(*chunk, strict=True)
        yield from zip(inputs, model.read(list(features)), strict=True)


def _first_masks(given: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
    """Each object's first mask only: frame -> ids (h, w) uint8, void and objects given before left out."""
    known, first = {0, VOID}, {}
    for t in sorted(given):
        new = [i for i in np.unique(given[t]).tolist() if i not in known]
        known.update(new)
        if new or t == 0:
            first[t] = np.where(np.isin(given[t], new), given[t], 0).astype(np.uint8)
    return first


def _slot_masks(
    labels: np.ndarray, slots: int, size: tuple[int, int], device: torch.device | str
) -> tuple[Tensor, Tensor]:
    """Ids (h, w) as masks (1, O, H, W) float32, and which slots occur in them, (1, O, 1, 1) bool."""
    small = upload(torch.from_numpy(np.array(resize_labels(labels, size))), device)
    ids = torch.arange(1, slots + 1, device=device, dtype=torch.uint8).view(1, -1, 1, 1)
    present = torch.isin(ids, upload(torch.from_numpy(np.unique(labels)), device))
    return (small == ids).float(), present
