"""Says how a data set's videos or images are scored, whatever made the masks.

Shapes: a video's mask is (h, w) of integer ids at its own size.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, cast

import numpy as np

from vos_lightning.data.instances import Detections, Image
from vos_lightning.data.sets import DataSet
from vos_lightning.data.videos import Given, Video
from vos_lightning.data.youtube_sets import YouTube
from vos_lightning.errors import InputError
from vos_lightning.scoring import curves, davis, instances, youtube_vos
from vos_lightning.scoring.interactive import Round, Truth, sample_score

MATCHED = ", proposals matched to the first masks"


class Rules(Protocol):
    """A benchmark's way to score what a model predicts.

    headline: the figures that stand for all others, by heading, the first of which orders the rows of a
    table.
    """

    headline: ClassVar[Mapping[str, str]]

    @property
    def name(self) -> str:
        """Tells these rules from others, in letters, digits and hyphens."""

    def score(self, sample: Any, predicted: Iterable[Any]) -> Any:
        """The score of a video whose frames asked for have these masks, taken one by one; or of an image."""

    def summary(self, scores: Sequence[Any]) -> dict[str, Any]:
        """The figures of all samples for JSON: protocol, the headline, and what only this one reports."""


NUMBERS = ("count_error",)  # figures that are no shares


def shown_figure(key: str, value: float | None) -> str:
    """A figure of a summary as text: in percent with one digit, or with two if it is no share."""
    if value is None:
        return "-"
    return f"{value:.2f}" if key in NUMBERS else f"{100 * value:.1f}"


JF: Mapping[str, str] = {"J&F": "JF", "J": "J", "F": "F"}


@dataclass(frozen=True)
class DavisRules:
    """Scores DAVIS-2016 and DAVIS-2017 by a protocol of `scoring.davis.PROTOCOLS`.

    matched: whether what is scored was found without masks and only named by them.
    """

    headline: ClassVar[Mapping[str, str]] = JF

    protocol: str = "semi-supervised"
    matched: bool = False

    @property
    def name(self) -> str:
        """davis-PROTOCOL, such as davis-unsupervised."""
        return f"davis-{self.protocol}{'-matched' * self.matched}"

    def score(self, video: Video, masks: Iterable[np.ndarray]) -> davis.VideoScore:
        """See `scoring.davis.score_video`."""
        truth = (video.mask(t) for t in range(len(video)))
        return davis.score_video(truth, masks, self.protocol, video.name)

    def summary(self, scores: Sequence[davis.VideoScore]) -> dict[str, Any]:
        """See `scoring.davis.Scores.to_dict`."""
        return _named(davis.summarise(scores).to_dict(), self.matched)


@dataclass(frozen=True)
class YouTubeRules:
    """Scores YouTube-VOS by a protocol of `scoring.youtube_vos.PROTOCOLS`.

    seen: the categories of the training videos. matched: as that of `DavisRules`.
    """

    headline: ClassVar[Mapping[str, str]] = JF

    seen: Collection[str]
    protocol: str = "without-first"
    matched: bool = False

    @property
    def name(self) -> str:
        """youtube-vos-PROTOCOL and 8 hex digits of the seen categories."""
        return f"youtube-vos-{self.protocol}{'-matched' * self.matched}-{_digits(sorted(self.seen))}"

    def score(self, video: Video, masks: Iterable[np.ndarray]) -> youtube_vos.VideoScore:
        """See `scoring.youtube_vos.score_video`."""
        asked = video.asked
        starts = {i: asked.index(t) for i, t in video.starts.items()}
        truth = (video.mask(t) for t in asked)
        categories = video.categories or {}
        return youtube_vos.score_video(truth, masks, starts, categories, self.protocol, video.name)

    def summary(self, scores: Sequence[youtube_vos.VideoScore]) -> dict[str, Any]:
        """See `scoring.youtube_vos.Scores.to_dict`."""
        found = youtube_vos.summarise(scores, self.seen, self.protocol).to_dict()
        return _named(found, self.matched)


@dataclass(frozen=True)
class InteractiveRules:
    """Scores rounds with a user, as DAVIS interactive; the user is its robot.

    corrects: whether a user gives the true mask of a frame instead of scribbles on it. interactions: of each
    sample, at most. seconds: for each object and interaction, see `scoring.interactive.play`.
    """

    headline: ClassVar[Mapping[str, str]] = {"AUC": "AUC", "J&F@60s": "JF_60s", "J&F": "JF"}

    corrects: bool = False
    interactions: int = 8
    seconds: float = 30.0

    @property
    def name(self) -> str:
        """interactive-scribbles-8x30, or -masks- for corrected masks."""
        given = "masks" if self.corrects else "scribbles"
        return f"interactive-{given}-{self.interactions}x{self.seconds:g}".replace(".", "-")

    def score(self, truth: Truth, rounds: Iterable[Round]) -> curves.SampleScore:
        """See `scoring.interactive.sample_score`."""
        return sample_score(truth, rounds)

    def summary(self, scores: Sequence[curves.SampleScore]) -> dict[str, Any]:
        """AUC, J&F@60s, and J&F, J and F after the last round; J&F after the first (JF_first).

        JF_untouched: J&F after the last round over the frames that no interaction was on; None without such.
        rounds: J&F, J and F after each, with the mean seconds used. curve: its seconds and its J&F.
        per_object: the last round of each, such as bear_1, the mean over the samples of a video.
        """
        return {
            "protocol": self._protocol({score.published for score in scores}),
            **curves.summarise(scores, self.interactions, self.seconds),
        }

    def _protocol(self, published: Collection[bool]) -> str:
        given, first = ("corrected masks", "frames") if self.corrects else ("scribbles", "scribbles")
        origin = " or ".join("as published" if known else "by the robot" for known in sorted(published))
        return (
            f"DAVIS interactive, {self.interactions} rounds of {given}, {self.seconds:g} s an object each, "
            f"first {first} {origin}"
        )


@dataclass(frozen=True)
class InstanceRules:
    """Scores the instances found in images, see `scoring.instances`.

    categories: the names of 1, 2, ... that count; without names, or with one, all instances are alike.
    """

    headline: ClassVar[Mapping[str, str]] = {
        **{"AP": "AP", "AP50": "AP50", "SBD": "SBD", "count error": "count_error"},
    }

    categories: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """instances, and 8 hex digits of the categories if there are several."""
        return f"instances-{_digits(self.categories)}" if len(self.categories) > 1 else "instances"

    def score(self, image: Image, detections: Iterable[Detections]) -> instances.ImageScore:
        """See `scoring.instances.score_image`; `detections` has one element."""
        (found,) = detections
        return instances.score_image(image, found)

    def summary(self, scores: Sequence[instances.ImageScore]) -> dict[str, Any]:
        """See `scoring.instances.summarise`."""
        return instances.summarise(scores, self.categories)


def _digits(words: Iterable[str]) -> str:
    """8 hex digits that tell words from others."""
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:8]


def _named(found: dict[str, Any], matched: bool) -> dict[str, Any]:
    """Figures whose protocol says so where proposals were matched."""
    return found | {"protocol": found["protocol"] + MATCHED * matched}


def _davis(data_set: DataSet, given: Given, classifies: bool) -> Rules:
    if given.in_rounds:
        return InteractiveRules(given is Given.CORRECTED)
    return DavisRules("semi-supervised" if given.has_masks else "unsupervised", given is Given.MATCHED)


def _youtube_vos(data_set: DataSet, given: Given, classifies: bool) -> Rules:
    if given.in_rounds:
        return InteractiveRules(given is Given.CORRECTED)
    data_set = cast(YouTube, data_set)
    if not given.has_masks:
        raise InputError(
            "data.name: YouTube-VOS scores no proposals without first masks; set predict.match_given=true."
        )
    return YouTubeRules(data_set.seen(), data_set.protocol, given is Given.MATCHED)


def _instances(data_set: DataSet, given: Given, classifies: bool) -> Rules:
    return InstanceRules(data_set.categories if classifies else ())


BENCHMARKS: dict[str, Callable[[DataSet, Given, bool], Rules]] = {
    "davis": _davis,
    "youtube_vos": _youtube_vos,
    "instances": _instances,
}


def rules_of(data_set: DataSet, given: Given, classifies: bool = False) -> Rules:
    """How a data set's samples are scored, from a model that was given this.

    classifies: whether the model finds the categories of instances; without, they are scored as all alike.

    Raises InputError for a benchmark that does not score such models, or seen categories that cannot be read.
    """
    return BENCHMARKS[data_set.benchmark](data_set, given, classifies)
