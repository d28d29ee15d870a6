"""Scores rounds with a user by the curve of J&F over time, as DAVIS interactive (Caelles et al., 2018).

Shapes: O objects of a video, R rounds of a sample: a video with a first interaction. J, F and J&F are 0..1.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vos_lightning.errors import InputError

THRESHOLD = 60.0  # seconds at which a curve is read off


@dataclass(frozen=True)
class SampleScore:
    """What the rounds of a sample were worth: its R rounds' seconds (R,), and J and F of objects, (R, O).

    published: whether its first scribbles were. untouched: J&F after the last round, (O,), over the frames
    that no interaction was on; None if there is no such frame.
    """

    video: str
    objects: tuple[int, ...]
    published: bool
    seconds: np.ndarray
    j: np.ndarray
    f: np.ndarray
    untouched: np.ndarray | None = None

    def filled(self, interactions: int) -> "SampleScore":
        """The same with the last round repeated, in no time, for those that are missing; of none, zeros."""
        missing = interactions - len(self.seconds)
        nothing = np.zeros((1, len(self.objects)))
        return replace(
            self,
            seconds=np.append(self.seconds, np.zeros(missing)),
            j=np.vstack([self.j, *[self.j[-1:] if len(self.j) else nothing] * missing]),
            f=np.vstack([self.f, *[self.f[-1:] if len(self.f) else nothing] * missing]),
        )


@dataclass(frozen=True)
class Curve:
    """J&F over time, from (0, 0): the mean seconds used after each interaction and the mean J&F then.

    The last point is the end of the time there is, with the last J&F.
    """

    seconds: np.ndarray
    jf: np.ndarray

    @property
    def area(self) -> float:
        """AUC: the area below the curve as a share of its time, 0..1; 0 if no time was used."""
        longest = self.seconds.max()
        return float(np.trapezoid(self.jf, self.seconds) / longest) if longest else 0.0

    def at(self, seconds: float) -> float:
        """J&F at a time, between points along a line."""
        return float(np.interp(seconds, self.seconds, self.jf))


def curve(samples: Sequence[SampleScore], interactions: int, seconds: float | None) -> Curve:
    """The curve of samples, whose J&F is the mean over the objects of all samples.

    It ends at the mean number of objects of a video times interactions times seconds, or without limit at
    interactions times the longest round.
    """
    filled = [sample.filled(interactions) for sample in samples]
    jf = np.mean([row for s in filled for row in (0.5 * s.j + 0.5 * s.f).T], axis=0)
    times = np.cumsum(np.mean([s.seconds for s in filled], axis=0))
    if seconds is None:
        end = interactions * max(np.max(s.seconds, initial=0.0) for s in samples)
    else:
        end = interactions * seconds * np.mean(list({s.video: len(s.objects) for s in samples}.values()))
    return Curve(np.array([0.0, *times, end]), np.array([0.0, *jf, jf[-1]]))


def summarise(samples: Sequence[SampleScore], interactions: int, seconds: float | None) -> dict[str, Any]:
    """The figures of samples for JSON, see `rules.InteractiveRules.summary`; arguments as `curve`.

    Raises InputError if there is no sample.
    """
    if not samples:
        raise InputError("There is nothing to score: no video has rounds; check the split list.")
    along = curve(samples, interactions, seconds)
    filled = [sample.filled(interactions) for sample in samples]
    j, f = (np.hstack(m).mean(axis=1).tolist() for m in ([s.j for s in filled], [s.f for s in filled]))
    jf = along.jf[1:-1].tolist()
    untouched = [s.untouched for s in samples if s.untouched is not None]
    rounds = [
        dict(zip(("JF", "J", "F", "seconds"), row, strict=True))
        for row in zip(jf, j, f, along.seconds[1:-1].tolist(), strict=True)
    ]
    return {
        "AUC": along.area,
        "JF_60s": along.at(THRESHOLD),
        "JF": jf[-1],
        "J": j[-1],
        "F": f[-1],
        "JF_first": jf[0],
        "JF_untouched": float(np.mean(np.hstack(untouched))) if untouched else None,
        "rounds": rounds,
        "curve": {"seconds": along.seconds.tolist(), "JF": along.jf.tolist()},
        "per_object": _per_object(filled),
    }


def _per_object(samples: Sequence[SampleScore]) -> dict[str, dict[str, float]]:
    """J&F, J and F of each object after the last round, the mean over the samples of its video."""
    found: dict[str, list[tuple[float, float]]] = {}
    for sample in samples:
        for o, i in enumerate(sample.objects):
            found.setdefault(f"{sample.video}_{i}", []).append((sample.j[-1, o], sample.f[-1, o]))
    means = {name: np.mean(values, axis=0).tolist() for name, values in found.items()}
    return {name: {"JF": (j + f) / 2, "J": j, "F": f} for name, (j, f) in means.items()}
