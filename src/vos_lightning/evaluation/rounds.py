"""A trained network in rounds with a user, who scribbles on a frame, sees all masks, and scribbles again.

Shapes: T frames, h w pixels of the video.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from vos_lightning.data.scribbles import Interaction
from vos_lightning.data.videos import Given, Video
from vos_lightning.errors import InputError
from vos_lightning.evaluation.videos import Timing, WrittenMasks, clear
from vos_lightning.scoring.curves import SampleScore
from vos_lightning.scoring.interactive import Round, Truth, play
from vos_lightning.scoring.robot import robot_scribbles
from vos_lightning.scoring.rules import InteractiveRules, Rules


class Session(Protocol):
    """A model at work with a user on one video."""

    def answer(self, interaction: Interaction) -> np.ndarray:
        """The masks of the whole video after an interaction, (T, h, w) uint8 of object ids."""

    def undo(self) -> np.ndarray:
        """The masks as they were before the last interaction; all background where none is left."""


class RoundsEvaluation(WrittenMasks):
    """Segments videos in rounds, in which the robot of DAVIS interactive is the user.

    Args:
        session: begins to work on a video.
        given: what the user gives.
    """

    def __init__(self, session: Callable[[Video], Session], given: Given) -> None:
        super().__init__()
        self.session, self.given = session, given

    def check(self, videos: Sequence[Video]) -> None:
        """Raises InputError as `Truth`, and as `Truth.starts` for the files of published scribbles."""
        for video in videos:
            truth = Truth(video, self.given is Given.CORRECTED)
            if video.scribbles:
                truth.starts()

    def score(self, videos: Sequence[Video], rules: Rules, folder: Path) -> dict[str, Any]:
        """Plays and scores all samples; the last masks of a video's first sample stay in folder/VIDEO.

        Returns:
            What `rules`, which are `InteractiveRules`, make of the scores of all samples.

        Raises:
            InputError: as `check`, before anything is played.
        """
        assert isinstance(rules, InteractiveRules)
        self.check(videos)
        clear(folder)
        scores = []
        for video in videos:
            truth = Truth(video, rules.corrects)
            for n, first in enumerate(truth.starts()):
                score, masks = self._sample(truth, first, rules)
                scores.append(score)
                if n == 0:
                    for _ in self.written(video, folder, masks):
                        pass
        return rules.summary(scores)

    def _sample(
        self, truth: Truth, first: Interaction, rules: InteractiveRules
    ) -> tuple[SampleScore, np.ndarray]:
        """The score of a sample and its last masks (T, h, w), which are empty if time allowed no round."""
        video, timing = truth.video, Timing(truth.video.name, len(truth.video))
        self.timings.append(timing)
        masks = np.zeros((len(video), *truth.masks[truth.frames[0]].shape), np.uint8)

        def rounds() -> Iterator[Round]:
            nonlocal masks
            for played in play(truth, lambda: self.session(video), first, rules.interactions, rules.seconds):
                masks = played.masks
                timing.seconds += played.seconds
                yield played

        score = rules.score(truth, rounds())
        return score, masks

    def write(self, video: Video, folder: Path) -> Iterator[np.ndarray]:
        """Yields the last masks of the frames asked for and writes them to folder/VIDEO/FRAME.png.

        They are those of `score`; where no frame is annotated but those in which objects start, they follow
        from these frames alone.

        Raises InputError for a video without a mask or an object.
        """
        rules = InteractiveRules(self.given is Given.CORRECTED)
        truth = Truth(video, rules.corrects)
        if set(video.annotated) <= {0, *video.starts.values()}:
            masks = self._from_given(video)
        else:
            _, masks = self._sample(truth, truth.starts()[0], rules)
        yield from self.written(video, folder, masks)

    def _from_given(self, video: Video) -> np.ndarray:
        """The masks (T, h, w) after an interaction for each frame in which objects start."""
        given = {t: new for t, new in video.given().items() if new.any()}
        masks = np.zeros((len(video), *next(iter(given.values())).shape), np.uint8)
        started, session = time.monotonic(), self.session(video)
        for t, new in given.items():
            known = np.where(new > 0, new, masks[t])
            if self.given is Given.CORRECTED:
                interaction = Interaction(t, (), known)
            else:
                interaction = Interaction(t, robot_scribbles(known, masks[t], video.objects))
            masks = session.answer(replace(interaction, last=t == max(given)))
        self.timings.append(Timing(video.name, len(video), time.monotonic() - started))
        return masks

    def submit(self, videos: Sequence[Video], archive: Path) -> Path:
        """Raises InputError: there is no server for rounds."""
        raise InputError(f"{archive}: no server takes masks that were made in rounds; leave out the split.")
