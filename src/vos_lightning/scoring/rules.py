"""Says how a data set's videos are scored, whatever made the masks.

Shapes: a mask is (h, w) of integer ids at the video's own size.
"""

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from vos_lightning.data.sets import DataSet, YouTube
from vos_lightning.data.videos import Given, Video
from vos_lightning.errors import InputError
from vos_lightning.scoring import davis, youtube_vos


class Rules(Protocol):
    """A benchmark's way to score masks."""

    @property
    def name(self) -> str:
        """Tells these rules from others, in letters, digits and hyphens."""

    def score(self, video: Video, masks: Iterable[np.ndarray]) -> Any:
        """The score of a video whose frames asked for have these masks, taken one by one."""

    def summary(self, scores: Sequence[Any]) -> dict[str, Any]:
        """The figures of all videos for JSON: protocol, JF, J, F in 0..1, and what only this one reports."""


@dataclass(frozen=True)
class DavisRules:
    """Scores DAVIS-2016 and DAVIS-2017 by a protocol of `scoring.davis.PROTOCOLS`."""

    protocol: str = "semi-supervised"

    @property
    def name(self) -> str:
        """davis-PROTOCOL, such as davis-unsupervised."""
        return f"davis-{self.protocol}"

    def score(self, video: Video, masks: Iterable[np.ndarray]) -> davis.VideoScore:
        """See `scoring.davis.score_video`."""
        truth = (video.mask(t) for t in range(len(video)))
        return davis.score_video(truth, masks, self.protocol, video.name)

    def summary(self, scores: Sequence[davis.VideoScore]) -> dict[str, Any]:
        """See `scoring.davis.Scores.to_dict`."""
        return davis.summarise(scores).to_dict()


@dataclass(frozen=True)
class YouTubeRules:
    """Scores YouTube-VOS by a protocol of `scoring.youtube_vos.PROTOCOLS`.

    seen: the categories of the training videos.
    """

    seen: Collection[str]
    protocol: str = "without-first"

    @property
    def name(self) -> str:
        """youtube-vos-PROTOCOL and 8 hex digits of the seen categories."""
        seen = hashlib.sha256("\n".join(sorted(self.seen)).encode()).hexdigest()[:8]
        return f"youtube-vos-{self.protocol}-{seen}"

    def score(self, video: Video, masks: Iterable[np.ndarray]) -> youtube_vos.VideoScore:
        """See `scoring.youtube_vos.score_video`."""
        asked = video.asked
        starts = {i: asked.index(t) for i, t in video.starts.items()}
        truth = (video.mask(t) for t in asked)
        categories = video.categories or {}
        return youtube_vos.score_video(truth, masks, starts, categories, self.protocol, video.name)

    def summary(self, scores: Sequence[youtube_vos.VideoScore]) -> dict[str, Any]:
        """See `scoring.youtube_vos.Scores.to_dict`."""
        return youtube_vos.summarise(scores, self.seen, self.protocol).to_dict()


def rules_of(data_set: DataSet, given: Given) -> Rules:
    """How a data set's videos are scored, from a model that was given this.

    Raises InputError for a benchmark that does not score such models, or seen categories that cannot be read.
    """
    if isinstance(data_set, YouTube):
        if given is not Given.MASKS:
            raise InputError("data.name: YouTube-VOS is scored one-shot; set predict.match_given=true.")
        return YouTubeRules(data_set.seen(), data_set.protocol)
    return DavisRules("semi-supervised" if given is Given.MASKS else "unsupervised")
