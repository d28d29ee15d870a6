"""Measures J and F of one object in one frame, and takes their statistics over the frames of a video.

J is the overlap of two masks, F the agreement of their outlines (Perazzi et al. 2016), with the numbers and
the edge rules of the DAVIS-2017 evaluation (Pont-Tuset et al. 2017). Nothing here knows a protocol or a file.

Shapes: H W pixels of a frame, N outline pixels, T frames. A mask is (H, W) bool. J and F lie in 0..1.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, hypot, isqrt
from typing import NamedTuple

import numpy as np


def jaccard(truth: np.ndarray, predicted: np.ndarray) -> float:
    """J: intersection over union of two masks (H, W) bool, 0..1; 1 if both are empty."""
    union = np.count_nonzero(truth | predicted)
    return np.count_nonzero(truth & predicted) / union if union else 1.0


def boundary_radius(shape: tuple[int, ...]) -> int:
    """How many pixels apart outlines of a frame (H, W) may be to match: 0.008 of its diagonal, rounded up."""
    return ceil(0.008 * hypot(*shape))


def outline_map(mask: np.ndarray) -> np.ndarray:
    """Marks the pixels that differ from their east, south or south-east neighbour, (H, W) bool.

    A neighbour outside the frame does not count, so a mask of the whole frame has no outline.
    """
    differs = np.zeros(mask.shape, dtype=bool)
    differs[:, :-1] = mask[:, :-1] != mask[:, 1:]
    differs[:-1] |= mask[:-1] != mask[1:]
    differs[:-1, :-1] |= mask[:-1, :-1] != mask[1:, 1:]
    return differs


@dataclass(frozen=True)
class Outline:
    """A mask's outline, prepared to be asked which pixels lie within `radius` of it.

    points: (N, 2) int, row and column. counts: for each row of the outline's bounding box with a margin of
    2 radius, the number of outline pixels left of each column. origin: (2,) int, where that box starts.
    """

    points: np.ndarray
    counts: np.ndarray
    origin: np.ndarray
    radius: int

    def near(self, points: np.ndarray) -> int:
        """Counts the `points` (M, 2) with an outline pixel at a Euclidean distance of at most the radius.

        The disk is searched row by row from its middle; a row of it holds an outline pixel if the counts at
        its two ends differ. Points that are settled leave the search.
        """
        radius, (height, width) = self.radius, self.counts.shape
        local = points - self.origin
        in_reach = ((local >= radius) & (local < (height - radius, width - radius - 1))).all(axis=1)
        candidates = local[in_reach] @ (width, 1)
        counts, unmatched = self.counts.ravel(), candidates
        for dy in sorted(range(-radius, radius + 1), key=abs):
            middle, half = unmatched + dy * width, isqrt(radius**2 - dy**2)
            unmatched = unmatched[counts[middle - half] == counts[middle + half + 1]]
            if not unmatched.size:
                break
        return len(candidates) - len(unmatched)


def outline(mask: np.ndarray, radius: int) -> Outline:
    """Takes the outline of a mask (H, W) bool for matches within `radius` pixels."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        nothing = np.zeros((0, 2), dtype=np.intp)
        return Outline(nothing, np.zeros((0, 0), dtype=np.int32), np.zeros(2, dtype=np.intp), radius)
    start = np.maximum((rows[0] - 1, columns[0] - 1), 0)
    box = mask[start[0] : rows[-1] + 2, start[1] : columns[-1] + 2]
    # np.argwhere gives the same, and takes six times as long in two dimensions.
    local = np.stack(np.divmod(np.flatnonzero(outline_map(box)), box.shape[1]), axis=1)
    margin = 2 * radius
    # There is one column more than in the box, since the count left of column x stands at x.
    counts = np.zeros((box.shape[0] + 2 * margin, box.shape[1] + 2 * margin + 1), dtype=np.int32)
    counts[local[:, 0] + margin, local[:, 1] + margin + 1] = 1
    np.cumsum(counts, axis=1, out=counts)
    return Outline(local + start, counts, start - margin, radius)


def outline_agreement(truth: Outline, predicted: Outline) -> float:
    """F of two outlines, 0..1: the harmonic mean of the matched shares of the prediction and of the truth.

    It is 1 if neither has a pixel, and 0 if only one has.
    """
    if not len(truth.points) or not len(predicted.points):
        return float(len(truth.points) == len(predicted.points))
    precision = truth.near(predicted.points) / len(predicted.points)
    recall = predicted.near(truth.points) / len(truth.points)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary_f(truth: np.ndarray, predicted: np.ndarray) -> float:
    """F of two masks (H, W) bool of a whole frame, 0..1, matched within `boundary_radius` of the frame."""
    radius = boundary_radius(truth.shape)
    return outline_agreement(outline(truth, radius), outline(predicted, radius))


class Statistics(NamedTuple):
    """A measure over the frames of one object, or the mean of that over objects.

    mean: 0..1. recall: share of frames above 0.5, 0..1. decay: mean of the first quarter of the frames less
    that of the last, -1..1.
    """

    mean: float
    recall: float
    decay: float


def statistics(values: np.ndarray) -> Statistics:
    """Mean, recall and decay (Perazzi et al. 2016) of a measure over frames, (T,) in 0..1.

    A value of exactly 0.5 does not count for recall. Neighbouring quarters share a frame, as in the DAVIS
    evaluation. Raises ValueError if there is no frame.
    """
    if len(values) == 0:
        raise ValueError("statistics need at least one frame")
    limits = np.round(np.linspace(1, len(values), 5) + 1e-10).astype(int) - 1
    first, last = values[: limits[1] + 1], values[limits[3] :]
    return Statistics(float(np.mean(values)), float(np.mean(values > 0.5)), float(first.mean() - last.mean()))


def mean_over(objects: Iterable[Statistics]) -> Statistics:
    """The mean of the statistics of one measure over at least one object."""
    return Statistics(*np.mean(list(objects), axis=0).tolist())


def figures(j: Statistics, f: Statistics) -> dict[str, float]:
    """JF, the mean of mean J and mean F, and mean, recall and decay of each: J, JR, JD, F, FR, FD."""
    return {
        "JF": (j.mean + f.mean) / 2,
        **dict(zip(("J", "JR", "JD"), j, strict=True)),
        **dict(zip(("F", "FR", "FD"), f, strict=True)),
    }
