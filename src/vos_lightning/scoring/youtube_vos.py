"""Scores predicted masks by the YouTube-VOS protocol (Xu et al. 2018): seen and unseen categories apart.

J and F are means over an object's scored frames, then over objects; G is the mean of J and F of both groups.
An object is scored to the end of its video, also where it has gone out of sight. Whether its first frame and
the video's last one count is not published, so PROTOCOLS has three choices.

Shapes: T annotated frames of H x W pixels. A mask is (H, W) of integer ids, 0 background. J and F lie in
0..1.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from vos_lightning.data.files import File
from vos_lightning.errors import InputError
from vos_lightning.scoring.measures import (
    Statistics,
    boundary_f,
    figures,
    jaccard,
    mean_over,
    statistics,
)
from vos_lightning.scoring.pairs import checked_prediction, mask_pairs

GROUPS = ("seen", "unseen")
MEASURES = ("J", "JR", "JD", "F", "FR", "FD")
POSITION_BINS = 10
MOST_INSTANCES = 5


class FrameRule(NamedTuple):
    """How many annotated frames are left out: of an object from its first on, and at the end of its video."""

    skip_first: int
    skip_last: int
    description: str


PROTOCOLS = {
    "all": FrameRule(0, 0, "from their first frame to the end"),
    "without-first": FrameRule(1, 0, "from the frame after their first to the end"),
    "without-first-and-last": FrameRule(1, 1, "from the frame after their first to the last but one"),
}


def frame_rule(protocol: str) -> FrameRule:
    """The rule of one of PROTOCOLS. Raises InputError if it is none of them."""
    if protocol not in PROTOCOLS:
        raise InputError(f"Protocol {protocol} is unknown; choose one of {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[protocol]


@dataclass(frozen=True)
class ObjectScore:
    """J and F of one object in its scored frames.

    positions: where each frame is in the video: the first annotated frame is at 0, the last at 1.
    """

    video: str
    id: int
    category: str
    positions: tuple[float, ...]
    j_values: tuple[float, ...]
    f_values: tuple[float, ...]

    @cached_property
    def j(self) -> Statistics:
        """The statistics of J over the frames."""
        return statistics(np.array(self.j_values))

    @cached_property
    def f(self) -> Statistics:
        """The statistics of F over the frames."""
        return statistics(np.array(self.f_values))


@dataclass(frozen=True)
class VideoScore:
    """The scores of one video's objects, ids ascending. left_out: ids of those without a frame to score."""

    name: str
    objects: tuple[ObjectScore, ...]
    left_out: tuple[int, ...]


@dataclass(frozen=True)
class Scores:
    """A data set's scores. seen: the categories of the training set."""

    protocol: str
    seen: frozenset[str]
    videos: tuple[VideoScore, ...]

    @cached_property
    def groups(self) -> dict[str, list[ObjectScore]]:
        """The scores of the objects of seen and of unseen categories."""
        objects = [o for video in self.videos for o in video.objects]
        return {g: [o for o in objects if (o.category in self.seen) == (g == "seen")] for g in GROUPS}

    @cached_property
    def means(self) -> dict[str, dict[str, float]]:
        """`figures` of each group that has objects."""
        return {
            group: figures(mean_over(o.j for o in objects), mean_over(o.f for o in objects))
            for group, objects in self.groups.items()
            if objects
        }

    @property
    def overall(self) -> dict[str, float]:
        """J, F and JF (which is G): means over the groups that have objects."""
        return {key: float(np.mean([row[key] for row in self.means.values()])) for key in ("JF", "J", "F")}

    @property
    def description(self) -> str:
        """Says which frames count, how many categories are seen and unseen, and what G is made of."""
        seen, unseen = (str(len({o.category for o in self.groups[g]}) or "none") for g in GROUPS)
        (group, *others) = self.means
        made_of = "" if others else f", G is the mean of J_{group} and F_{group}"
        rule = f"objects {PROTOCOLS[self.protocol].description} ({self.protocol})"
        return f"YouTube-VOS, {rule}, seen categories: {seen}, unseen: {unseen}{made_of}"

    def to_dict(self) -> dict:
        """For JSON: protocol, G, the MEASURES of each group, and what they are made of.

        J_seen, JR_seen, ... are None in a group without objects. JF is G; J and F are means over groups.
        per_object holds `figures`, category and group of each object, such as 003234408d_1. left_out is the
        number of objects without a frame to score. position is the mean J of the frames in each tenth of
        their video, over all objects of a group, or None where there are no frames (S2S, Figure 3). instances
        is the mean J and F of the objects in videos of 1, 2, ..., 5 or more objects (RVOS, Table 3).
        """
        groups = {f"{m}_{g}": self.means[g][m] if g in self.means else None for g in GROUPS for m in MEASURES}
        objects = {
            f"{o.video}_{o.id}": {**figures(o.j, o.f), "category": o.category, "group": group}
            for group in GROUPS
            for o in self.groups[group]
        }
        return {
            "protocol": self.description,
            "G": self.overall["JF"],
            **groups,
            **self.overall,
            "left_out": sum(len(video.left_out) for video in self.videos),
            "per_object": objects,
            "position": self._by_position(),
            "instances": self._by_instances(),
        }

    def _by_position(self) -> dict[str, list[float | None]]:
        curves: dict[str, list[float | None]] = {
            "limits": [b / POSITION_BINS for b in range(POSITION_BINS + 1)]
        }
        for group, objects in self.groups.items():
            bins: list[list[float]] = [[] for _ in range(POSITION_BINS)]
            for o in objects:
                for position, j in zip(o.positions, o.j_values, strict=True):
                    bins[min(int(position * POSITION_BINS), POSITION_BINS - 1)].append(j)
            curves[f"J_{group}"] = [float(np.mean(values)) if values else None for values in bins]
        return curves

    def _by_instances(self) -> dict[str, dict[str, float]]:
        by_count: dict[int, list[ObjectScore]] = {}
        for video in self.videos:
            count = len(video.objects) + len(video.left_out)
            by_count.setdefault(min(count, MOST_INSTANCES), []).extend(video.objects)
        return {
            f"{count}+" if count == MOST_INSTANCES else str(count): {
                "J": float(np.mean([o.j.mean for o in objects])),
                "F": float(np.mean([o.f.mean for o in objects])),
                "objects": len(objects),
            }
            for count, objects in sorted(by_count.items())
            if objects
        }


def summarise(videos: Iterable[VideoScore], seen: Collection[str], protocol: str) -> Scores:
    """Averages over the objects of all videos.

    Args:
        videos: all scored under `protocol`.
        seen: categories of the training set; all others are unseen.
        protocol: one of PROTOCOLS.

    Raises InputError if there is no object with a frame to score.
    """
    videos = tuple(videos)
    if not any(video.objects for video in videos):
        raise InputError(f"There is nothing to score: {protocol} leaves no object a frame; check the truth.")
    return Scores(protocol, frozenset(seen), videos)


def score_video(
    truth_masks: Iterable[np.ndarray],
    predicted_masks: Iterable[np.ndarray | None],
    starts: Mapping[int, int],
    categories: Mapping[int, str],
    protocol: str = "without-first",
    name: str = "video",
    files: Sequence[File] | None = None,
) -> VideoScore:
    """Scores one video, holding two frames at a time.

    A prediction may hold any id of the video at any time; an object is not scored before it starts.

    Args:
        truth_masks: T masks (H, W), the annotated frames.
        predicted_masks: T masks (H, W); None is accepted for a frame in which no object is scored.
        starts: the annotated frame in which each object first occurs, 0..T-1, by its id.
        categories: the category of each object by its id, for the same ids.
        protocol: one of PROTOCOLS.
        name: the video's name.
        files: the predicted masks' files, T of them, for error messages.

    Raises:
        InputError: the protocol is unknown, or a prediction is missing, has another size than the truth or an
            id that the video does not have.
        ValueError: truth and prediction have different lengths.
    """
    skip_first, skip_last, _ = frame_rule(protocol)
    frames = mask_pairs(truth_masks, predicted_masks, name, files)
    if skip_last:
        frames = (frame for frame, _ in pairwise(frames))
    values: dict[int, list[tuple[int, float, float]]] = {i: [] for i in sorted(starts)}
    last = 0
    for t, (where, truth, mask) in enumerate(frames):
        last = t + skip_last
        scored = [i for i, start in starts.items() if t >= start + skip_first]
        if scored:
            predicted = checked_prediction(where, truth, mask)
            _check_ids(where, predicted, starts)
        for i in scored:
            pair = truth == i, predicted == i
            values[i].append((t, jaccard(*pair), boundary_f(*pair)))
    objects = tuple(_object(name, i, categories[i], rows, last) for i, rows in values.items() if rows)
    return VideoScore(name, objects, tuple(i for i, rows in values.items() if not rows))


def _check_ids(where: str, predicted: np.ndarray, ids: Collection[int]) -> None:
    # Counting the pixels takes a tenth of the time of listing the ids.
    if np.count_nonzero(predicted) > sum(np.count_nonzero(predicted == i) for i in ids):
        extra = set(np.unique(predicted).tolist()) - {0, *ids}
        known = ", ".join(map(str, sorted(ids)))
        raise InputError(f"{where}: id {min(extra)} is not one of the video's objects ({known}); remove it.")


def _object(
    video: str, number: int, category: str, rows: list[tuple[int, float, float]], last: int
) -> ObjectScore:
    times, j, f = zip(*rows, strict=True)
    return ObjectScore(video, number, category, tuple(t / max(last, 1) for t in times), j, f)
