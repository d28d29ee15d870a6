"""Online adaptation (Lin et al. 2019, section 2.3): a user's scribbles tune the layer that classifies pixels.

The features of a video are made once; each interaction adds samples, solves for the layer, and classifies
every pixel anew.

Shapes: T frames, C channels, h w cells of the features, H W pixels of the network's input, N samples, K
classes: background, then the objects that were scribbled on.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vos_lightning.data.clips import to_network
from vos_lightning.data.images import resize_labels
from vos_lightning.data.scribbles import Interaction, Scribble, scribbled_ids
from vos_lightning.data.videos import Video
from vos_lightning.devices import upload
from vos_lightning.errors import InputError
from vos_lightning.layers.ridge import ridge
from vos_lightning.models.strnn.fields import ScribblePrediction
from vos_lightning.models.strnn.network import STRNN, States

TOGETHER = 4  # frames that are encoded, or classified, in one batch

Refine = Callable[[Video, dict[int, np.ndarray]], np.ndarray]  # masks of some frames to masks of all


class Samples(NamedTuple):
    """Those of one interaction.

    frame: t. drawn: the pixels of the scribbles (H, W) bool. pixels: those of the samples (H, W) bool, with
    the background that was drawn at random. ids: (N,) int64, in their order. features: of each member (N, C).
    """

    frame: int
    drawn: np.ndarray
    pixels: np.ndarray
    ids: Tensor
    features: list[Tensor]


class ScribbleSession:
    """A session with a user, see `evaluation.rounds.Session`.

    Args:
        network: in eval mode, best as `for_inference` gives it.
        prediction: see `ScribblePrediction`.
        size: (H, W) at which the network runs.
        slots: the highest object id that is accepted.
        device: where the network is.
        video: what is segmented; its masks are not read.
        refine: what takes masks along the video after the last interaction; None leaves them as they are.
    """

    def __init__(
        self,
        network: STRNN,
        prediction: ScribblePrediction,
        size: tuple[int, int],
        slots: int,
        device: torch.device | str,
        video: Video,
        refine: Refine | None = None,
    ) -> None:
        self.network, self.prediction, self.size, self.slots = network, prediction, size, slots
        self.video, self.device, self.refine = video, device, refine
        self.features: list[Tensor] = []  # (T, C, h, w) of each member, made by the first answer
        self.shape = (0, 0)  # of the video's frames
        self.samples: list[Samples] = []  # of each interaction
        self.masks = np.zeros((0, 0, 0), np.uint8)

    @torch.inference_mode()
    def answer(self, interaction: Interaction) -> np.ndarray:
        """See `Session.answer`.

        Raises InputError for a frame that the video lacks or an object without a slot; the session goes on.
        """
        self._check(interaction)
        if not self.features:
            self._read()
        samples = [*self.samples, self._sampled(interaction)]
        masks = self._classified(samples)
        if interaction.last and self.refine is not None and masks.any():
            masks = self.refine(self.video, {s.frame: masks[s.frame] for s in samples})
        self.samples, self.masks = samples, masks
        return masks

    @torch.inference_mode()
    def undo(self) -> np.ndarray:
        """See `Session.undo`."""
        if not self.features:
            self._read()
        self.samples = self.samples[:-1]
        self.masks = self._classified(self.samples)
        return self.masks

    def _check(self, interaction: Interaction) -> None:
        if not 0 <= interaction.frame < len(self.video):
            raise InputError(
                f"Scribbles on frame {interaction.frame}: {self.video.name} has frames 0 to "
                f"{len(self.video) - 1}; choose one of them."
            )
        highest = max((scribble.id for scribble in interaction.scribbles), default=0)
        if highest > self.slots:
            raise InputError(
                f"Scribble of object {highest}: exceeds model.slots={self.slots}; use lower ids."
            )

    def _read(self) -> None:
        first = self.video.frame(0)
        self.shape = (first.shape[0], first.shape[1])
        self.masks = np.zeros((len(self.video), *self.shape), np.uint8)
        frames = (self.video.frame(t) for t in range(len(self.video)))
        done = 0
        features: list[Tensor] = []
        for found in features_of(self.network, frames, self.size, self.device):
            # One block for all frames, since joining them in the end would take twice the memory.
            features = features or [x.new_empty(len(self.video), *x.shape[1:]) for x in found]
            for block, part in zip(features, found, strict=True):
                block[done : done + len(part)] = part
            done += len(found[0])
        self.features = features

    def _sampled(self, interaction: Interaction) -> Samples:
        """The pixels of scribbles, and as many of the background as all samples together then lack."""
        ids = scribbled_ids(interaction.scribbles, self.size).astype(np.int64)
        known = [ids[ids >= 0], *(s.ids.cpu().numpy() for s in self.samples)]
        lacking = sum(int((k > 0).sum()) - int((k == 0).sum()) for k in known)
        drawn = ids >= 0
        taken = drawn | _boxes(interaction.scribbles, self.size, self.prediction.margin)
        for s in self.samples:
            if s.frame == interaction.frame:
                taken |= s.drawn
        before = resize_labels(self.masks[interaction.frame], self.size)
        places = np.flatnonzero((before == 0) & ~taken)
        rng = np.random.default_rng(len(self.samples))
        ids.reshape(-1)[rng.choice(places, min(len(places), max(0, lacking)), replace=False)] = 0
        y, x = np.nonzero(ids >= 0)
        points = torch.from_numpy(np.stack([x, y], 1) + 0.5).float() * 2 / torch.tensor(self.size[::-1]) - 1
        grid = points.to(self.device).view(1, 1, -1, 2)
        t = interaction.frame
        read = [
            F.grid_sample(maps[t : t + 1], grid, "bilinear", "border", align_corners=False)[0, :, 0].mT
            for maps in self.features
        ]
        return Samples(interaction.frame, drawn, ids >= 0, torch.from_numpy(ids[y, x]).to(self.device), read)

    def _classified(self, samples: Sequence[Samples]) -> np.ndarray:
        """The masks (T, h, w) by samples."""
        ids = torch.cat([s.ids for s in samples]) if samples else torch.zeros(0)
        objects = [i for i in torch.unique(ids).tolist() if i]
        if not objects:
            return np.zeros_like(self.masks)
        classes = torch.tensor([0, *objects], device=self.device)
        labels = (ids[:, None] == classes).double()
        roots = _weights(ids > 0).sqrt()[:, None]
        layers = [
            ridge(torch.cat(parts) * roots, labels * roots, self.prediction.penalty).float()
            for parts in zip(*(s.features for s in samples), strict=True)
        ]
        names = np.array([0, *objects], np.uint8)
        found = [names[best.cpu().numpy()] for best in self._best(layers)]
        return np.concatenate(found)

    def _best(self, layers: Sequence[Tensor]) -> Iterator[Tensor]:
        """The class of the highest mean score, (n, h, w), a few frames at a time."""
        for chunks in zip(*(maps.split(TOGETHER) for maps in self.features), strict=True):
            scores = [
                F.interpolate(
                    (layer.mT @ maps.flatten(2)).unflatten(2, maps.shape[2:]),
                    self.shape,
                    mode="bilinear",
                    align_corners=False,
                )
                for maps, layer in zip(chunks, layers, strict=True)
            ]
            yield sum(scores[1:], scores[0]).max(1).indices.to(torch.uint8)  # argmax takes 12 times as long


def _weights(inside: Tensor) -> Tensor:
    """Of samples (N,), which lie inside objects or not: both sorts count as much; (N,) float64."""
    share = inside.double().mean()
    if not 0 < share < 1:
        return torch.ones_like(inside, dtype=torch.float64)
    return torch.where(inside, 0.5 / share, 0.5 / (1 - share))


def features_of(
    network: STRNN, frames: Iterator[np.ndarray], size: tuple[int, int], device: torch.device | str
) -> Iterator[list[Tensor]]:
    """The features of each member along a video, (n, C, h, w) of a few frames at a time."""
    states: States | None = None
    while chunk := list(islice(frames, TOGETHER)):
        clip = upload(to_network(chunk, size)[None], device)
        maps = network.encode(clip)
        if not network.temporal:
            yield [found[0] for found in network(maps, temporal=False)]
            continue
        for t in range(len(chunk)):
            found, states = network.step([m[:, t] for m in maps], states)
            yield found


def _boxes(scribbles: Sequence[Scribble], size: tuple[int, int], margin: float) -> np.ndarray:
    """Which pixels (H, W) lie in the boxes around scribbles, each expanded by `margin` about its middle."""
    inside = np.zeros(size, bool)
    limits = np.array(size[::-1]) - 1
    for scribble in scribbles:
        low, high = scribble.path.min(0) * limits, scribble.path.max(0) * limits
        middle, half = (low + high) / 2, (high - low) / 2 * margin
        left, top = np.floor(middle - half).clip(0).astype(int)
        right, bottom = np.ceil(middle + half).astype(int) + 1
        inside[top:bottom, left:right] = True
    return inside
