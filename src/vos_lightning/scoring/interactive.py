"""Plays the rounds of DAVIS interactive with a model (Caelles et al., 2018).

A sample is a video with a first interaction. After each answer the robot goes on, on the worst frame that it
has not scribbled on, until the interactions or the time of the sample are used up.

Shapes: T frames of h x w pixels, of which A are annotated, O objects. Masks are (T, h, w) uint8 of
object ids; in the truth 255 is void.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np

from vos_lightning.data.scribbles import Interaction, read_scribbles
from vos_lightning.data.videos import Video
from vos_lightning.errors import InputError
from vos_lightning.scoring.curves import SampleScore
from vos_lightning.scoring.measures import (
    Outline,
    boundary_radius,
    jaccard,
    outline,
    outline_agreement,
)
from vos_lightning.scoring.robot import robot_scribbles


class Answering(Protocol):
    """What segments a video in rounds."""

    def answer(self, interaction: Interaction) -> np.ndarray:
        """The masks after an interaction, (T, h, w) uint8."""


@dataclass(frozen=True)
class Round:
    """An interaction, the masks after it (T, h, w) uint8, and their J and F by annotated frame and object.

    seconds: how long the answer took; in a sample's first round with what went before it. j, f: (A, O).
    """

    interaction: Interaction
    masks: np.ndarray
    seconds: float
    j: np.ndarray
    f: np.ndarray


class Truth:
    """The annotated frames of a video, which stay in memory with the outlines of the objects.

    Args:
        video: at least one frame is annotated.
        corrects: whether an interaction gives the frame's true mask instead of scribbles.

    Attributes:
        frames: the A annotated frames.
        objects: the O ids that are scored: those that the data set lists, or 1 to the highest of the first
            mask, be they there or not.

    Raises:
        InputError: no frame is annotated, or there is no object.
    """

    def __init__(self, video: Video, corrects: bool = False) -> None:
        if not video.annotated:
            raise InputError(f"{video.name}: no mask is there; rounds need annotated frames.")
        self.video, self.corrects, self.frames = video, corrects, video.annotated
        listed = video.objects
        self.objects = listed if video.presence is not None else tuple(range(1, max(listed, default=0) + 1))
        if not self.objects:
            raise InputError(f"{video.mask_file(0)}: shows no object; rounds need at least one.")

    @cached_property
    def masks(self) -> dict[int, np.ndarray]:
        """The mask of each annotated frame, (h, w) uint8."""
        return {t: self.video.mask(t) for t in self.frames}

    @cached_property
    def outlines(self) -> dict[tuple[int, int], Outline]:
        """The outline of each object in each annotated frame."""
        return {
            (t, i): outline(mask == i, boundary_radius(mask.shape))
            for t, mask in self.masks.items()
            for i in self.objects
        }

    def measure(self, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """J and F of masks (T, h, w), each (A, O). Raises ValueError for masks of another size."""
        shape = (len(self.video), *self.masks[self.frames[0]].shape)
        if masks.shape != shape:
            raise ValueError(f"{self.video.name}: masks must have the shape {shape}, not {masks.shape}")
        values = [[self._measure(t, i, masks[t] == i) for i in self.objects] for t in self.frames]
        j, f = np.moveaxis(np.array(values), 2, 0)
        return j, f

    def _measure(self, t: int, i: int, predicted: np.ndarray) -> tuple[float, float]:
        true = self.outlines[t, i]
        found = outline_agreement(true, outline(predicted, true.radius))
        return jaccard(self.masks[t] == i, predicted), found

    def starts(self) -> list[Interaction]:
        """The first interaction of each sample: of each published file of scribbles, or else the robot's.

        The robot answers an empty prediction on the frame whose objects have the largest area.

        Raises InputError for a file that `read_scribbles` refuses, or that is of another video, of several
        frames or of objects that are not there.
        """
        if self.video.scribbles:
            return [self._published(number) for number in range(len(self.video.scribbles))]
        areas = {t: np.count_nonzero(np.isin(mask, self.objects)) for t, mask in self.masks.items()}
        t = max(areas, key=areas.__getitem__)
        return [self.interaction(t, np.zeros_like(self.masks[t]))]

    def _published(self, number: int) -> Interaction:
        path = self.video.scribbles[number]
        drawn = read_scribbles(path, len(self.video))
        if drawn.video != self.video.name or len(drawn.frames) > 1:
            raise InputError(f"{path}: must have scribbles on one frame of {self.video.name}; correct it.")
        (t,) = drawn.frames
        if strange := {s.id for s in drawn.scribbles[t]} - {0, *self.objects}:
            raise InputError(f"{path}: object {min(strange)} is none of {self.video.name}; correct the ids.")
        return self._with_mask(Interaction(t, drawn.scribbles[t]))

    def interaction(self, t: int, predicted: np.ndarray) -> Interaction:
        """What is said of frame t after a prediction (h, w) for it."""
        if self.corrects:
            return self._with_mask(Interaction(t, ()))
        return Interaction(t, robot_scribbles(self.masks[t], predicted, self.objects))

    def _with_mask(self, interaction: Interaction) -> Interaction:
        if not self.corrects:
            return interaction
        mask = self.video.mask(interaction.frame)
        return Interaction(interaction.frame, (), np.where(np.isin(mask, self.objects), mask, 0))

    def worst(self, played: Round, used: Collection[int]) -> int:
        """The frame of the worst mean of J and F over the objects, the first one of equals.

        Frames that are used are left out, until all are.
        """
        quality = dict(zip(self.frames, (0.5 * played.j + 0.5 * played.f).mean(axis=1), strict=True))
        free = [t for t in self.frames if t not in used]
        return min(free or self.frames, key=quality.__getitem__)


def play(
    truth: Truth,
    begin: Callable[[], Answering],
    first: Interaction,
    interactions: int = 8,
    seconds: float | None = 30.0,
) -> Iterator[Round]:
    """Plays a sample and yields its rounds.

    Args:
        truth: the video's.
        begin: begins to work on the video; the first round's time includes it.
        first: one of `truth.starts()`.
        interactions: how many there are, if time suffices.
        seconds: for each object and interaction. A sample ends with the first round that is late for all of
            them together; this one does not count. None sets no limit.
    """
    limit = np.inf if seconds is None else seconds * interactions * len(truth.objects)
    session: Answering | None = None
    used: list[int] = []
    interaction, total = first, 0.0
    for n in range(1, interactions + 1):
        started = time.monotonic()
        session = begin() if session is None else session
        masks = session.answer(replace(interaction, last=n == interactions))
        taken = time.monotonic() - started
        total += taken
        if total > limit:
            return
        played = Round(interaction, masks, taken, *truth.measure(masks))
        yield played
        if n < interactions:
            t = truth.worst(played, used)
            used.append(t)
            interaction = truth.interaction(t, masks[t])


def sample_score(truth: Truth, rounds: Iterable[Round]) -> SampleScore:
    """The score of a sample's rounds, which are taken one by one: means over the annotated frames."""
    values: list[tuple[float, np.ndarray, np.ndarray]] = []
    others, untouched = set(truth.frames), None
    for r in rounds:
        values.append((r.seconds, r.j.mean(axis=0), r.f.mean(axis=0)))
        others.discard(r.interaction.frame)
        rows = [n for n, t in enumerate(truth.frames) if t in others]
        untouched = (0.5 * r.j + 0.5 * r.f)[rows].mean(axis=0) if rows else None
    seconds, j, f = zip(*values, strict=True) if values else ((), (), ())
    shape = (len(values), len(truth.objects))
    return SampleScore(
        truth.video.name,
        truth.objects,
        bool(truth.video.scribbles),
        np.array(seconds),
        np.reshape(j, shape),
        np.reshape(f, shape),
        untouched,
    )
