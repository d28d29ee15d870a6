"""Scores predicted masks by the DAVIS-2017 protocols: J&F of each object and of a data set.

Frames are taken one by one, so that a video need not be in memory. The figures equal those of the DAVIS-2017
evaluation (Pont-Tuset et al. 2017; unsupervised: Caelles et al. 2019).

Shapes: T frames of H x W pixels, O true objects, P proposals. A mask is (H, W) of integer ids, 0 background,
255 void.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice, pairwise

import numpy as np
from scipy.optimize import linear_sum_assignment

from vos_lightning.data.files import File
from vos_lightning.data.images import VOID
from vos_lightning.errors import InputError
from vos_lightning.scoring.measures import (
    Statistics,
    boundary_f,
    boundary_radius,
    figures,
    jaccard,
    mean_over,
    outline,
    outline_agreement,
    statistics,
)
from vos_lightning.scoring.pairs import MaskPair, checked_prediction, mask_pairs

MAX_PROPOSALS = 20
PROTOCOLS = {
    "semi-supervised": "frames 1..N-2, void is background, ids as in the first mask",
    "unsupervised": f"all frames, void left out, best assignment of at most {MAX_PROPOSALS} proposals",
}


@dataclass(frozen=True)
class ObjectScore:
    """Statistics of one true object over the scored frames of its video."""

    video: str
    id: int
    j: Statistics
    f: Statistics

    def to_dict(self) -> dict[str, float]:
        """JF, and mean, recall and decay of each measure: J, JR, JD, F, FR, FD."""
        return figures(self.j, self.f)


@dataclass(frozen=True)
class VideoScore:
    """The scores of the objects of one video, with ids 1, 2, ... in order, under one of PROTOCOLS."""

    name: str
    protocol: str
    objects: tuple[ObjectScore, ...]


@dataclass(frozen=True)
class Scores:
    """A data set's scores: j and f are means over all objects, whichever video they are in."""

    protocol: str
    j: Statistics
    f: Statistics
    objects: tuple[ObjectScore, ...]

    @property
    def jf(self) -> float:
        """J&F, 0..1: the mean of mean J and mean F."""
        return (self.j.mean + self.f.mean) / 2

    def to_dict(self) -> dict:
        """For JSON: protocol, JF, J, JR, JD, F, FR, FD; per_object has the same of each, such as bear_1."""
        rows = {f"{o.video}_{o.id}": o.to_dict() for o in self.objects}
        return {"protocol": f"DAVIS-2017 {self.protocol}", **figures(self.j, self.f), "per_object": rows}


def summarise(videos: Iterable[VideoScore]) -> Scores:
    """Averages over the objects of all videos.

    Raises InputError if there is no object, ValueError if the videos are of different protocols.
    """
    videos = list(videos)
    objects = tuple(o for video in videos for o in video.objects)
    if not objects:
        raise InputError("There is nothing to score: no first mask has an object; check the truth's masks.")
    if len({video.protocol for video in videos}) > 1:
        raise ValueError("videos scored under different protocols have no common mean")
    j, f = mean_over(o.j for o in objects), mean_over(o.f for o in objects)
    return Scores(videos[0].protocol, j, f, objects)


def score_video(
    truth_masks: Iterable[np.ndarray],
    predicted_masks: Iterable[np.ndarray | None],
    protocol: str = "semi-supervised",
    name: str = "video",
    files: Sequence[File] | None = None,
) -> VideoScore:
    """Scores one video, holding two frames at a time.

    The objects are 1 up to the highest id of the first true mask. An id in between that has no pixel is an
    object too: with ids 1 and 3 there are three, of which 2 is empty in the truth. Ids that the truth has
    only later are not scored.

    Args:
        truth_masks: T masks (H, W), in which 255 is void.
        predicted_masks: T masks (H, W); None is accepted for a frame that the protocol does not score.
        protocol: one of PROTOCOLS.
        name: the video's name.
        files: the predicted masks' files, T of them, for error messages.

    Raises:
        InputError: the protocol is unknown or leaves no frame to score, or a prediction is missing, has
            another size than the truth, or an id beyond the objects (semi-supervised) or MAX_PROPOSALS
            (unsupervised).
        ValueError: truth and prediction have different lengths.
    """
    if protocol not in PROTOCOLS:
        raise InputError(f"Protocol {protocol} is unknown; choose one of {', '.join(PROTOCOLS)}.")
    frames = mask_pairs(truth_masks, predicted_masks, name, files)
    measure = _semi_supervised if protocol == "semi-supervised" else _unsupervised
    values = measure(frames)  # (T scored, 2, O)
    if not len(values):
        raise InputError(f"{name}: no frame to score; the {protocol} protocol takes {PROTOCOLS[protocol]}.")
    objects = tuple(
        ObjectScore(name, o + 1, statistics(values[:, 0, o]), statistics(values[:, 1, o]))
        for o in range(values.shape[2])
    )
    return VideoScore(name, protocol, objects)


def _check(where: str, truth: np.ndarray, predicted: np.ndarray | None, highest: int, of: str) -> np.ndarray:
    """The predicted mask, known to fit the truth's size and to have no id above `highest`."""
    mask = checked_prediction(where, truth, predicted)
    if mask.max() > highest:
        raise InputError(f"{where}: id {mask.max()} is beyond the {highest} {of}; remove it.")
    return mask


def _highest_id(mask: np.ndarray) -> int:
    return int(np.max(mask, initial=0, where=mask != VOID))


def _semi_supervised(frames: Iterator[MaskPair]) -> np.ndarray:
    """J and F, (T - 2, 2, O), of all frames but the last and the first, which is given."""
    objects = max((_highest_id(truth) for _, truth, _ in islice(frames, 1)), default=0)
    values = []
    for (where, truth, mask), _ in pairwise(frames):
        predicted = _check(where, truth, mask, objects, "objects of the first true mask")
        pairs = [(truth == i, predicted == i) for i in range(1, objects + 1)]
        values.append([[measure(*pair) for pair in pairs] for measure in (jaccard, boundary_f)])
    return np.array(values)


def _unsupervised(frames: Iterator[MaskPair]) -> np.ndarray:
    """J and F, (T, 2, O), of all frames, each object with its proposal in the assignment of the best J&F."""
    values, objects, proposals = [], 0, 0
    for t, (where, truth, mask) in enumerate(frames):
        predicted = _check(where, truth, mask, MAX_PROPOSALS, "proposals allowed")
        if t == 0:
            objects = _highest_id(truth)
        proposals = max(proposals, objects, int(predicted.max()))
        values.append(_all_pairs(truth, predicted, objects))
    if not values:
        return np.array(values)
    # Ids above the highest predicted one are no proposals, unless objects would be left without one.
    table = np.array(values)[:, :, :proposals]
    rows, columns = linear_sum_assignment(table.mean(axis=(0, 1)), maximize=True)
    return table[:, :, rows[np.argsort(columns)], np.arange(objects)]


def _all_pairs(truth: np.ndarray, predicted: np.ndarray, objects: int) -> np.ndarray:
    """J and F, (2, P, O), of every proposal with every object in one frame, outside of void.

    P is MAX_PROPOSALS, or O if that is more; ids that are not predicted are empty proposals.
    """
    known = truth != VOID
    true_masks = [truth == i for i in range(1, objects + 1)]
    proposals = [(predicted == i) & known for i in range(1, max(MAX_PROPOSALS, objects) + 1)]
    prepare = partial(outline, radius=boundary_radius(truth.shape))
    true_outlines, outlines = list(map(prepare, true_masks)), list(map(prepare, proposals))
    j = [[jaccard(true, proposal) for true in true_masks] for proposal in proposals]
    f = [[outline_agreement(true, proposal) for true in true_outlines] for proposal in outlines]
    return np.array((j, f))
