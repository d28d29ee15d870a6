"""A trained network on whole videos: masks on disk, their scores, and the zip that a server takes.

Shapes: a mask is (h, w) uint8 at the video's own size.
"""

import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vos_lightning.data.images import Shown, read_mask, write_mask
from vos_lightning.data.videos import Given, Video
from vos_lightning.evaluation.propagation import Propagation
from vos_lightning.scoring.rules import Rules
from vos_lightning.scoring.submission import server_layout, zip_masks


@dataclass
class Timing:
    """What one video or image cost: its frames, seconds of segmenting it and, before, of online learning."""

    video: str
    frames: int = 0
    seconds: float = 0.0
    online_seconds: float = 0.0


class WrittenMasks:
    """What evaluations of videos share: masks in folder/VIDEO/FRAME.png.

    Attributes:
        timings: what each video segmented so far has cost.
    """

    def __init__(self) -> None:
        self.timings: list[Timing] = []

    def check(self, videos: Sequence[Video]) -> None:
        """Raises InputError for videos that cannot be scored, beyond what a training's examples refuse."""

    def written(self, video: Video, folder: Path, masks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Writes those of the masks of all frames that are asked for, and yields them."""
        (folder / video.name).mkdir(parents=True, exist_ok=True)
        for t, mask in enumerate(masks):
            if t in video.asked:
                write_mask(folder / video.name / f"{video.frames[t].stem}.png", mask)
                yield mask

    def shown(self, video: Video, folder: Path) -> list[Shown]:
        """The masks at a quarter, a half and the end of a video."""
        times = [video.asked[len(video.asked) * quarters // 4] for quarters in (1, 2)] + [video.asked[-1]]
        files = {t: folder / video.name / f"{video.frames[t].stem}.png" for t in times}
        return [Shown(f"{video.name}, frame {t}", video.frame(t), read_mask(files[t])) for t in times]


class VideoEvaluation(WrittenMasks):
    """Segments videos with a network that is ready to go along them."""

    def __init__(self, propagation: Propagation) -> None:
        super().__init__()
        self.propagation = propagation

    @property
    def given(self) -> Given:
        """What the network is told of a video."""
        return self.propagation.given

    def masks(self, video: Video) -> Iterator[np.ndarray]:
        """Yields the mask of every frame, (h, w) uint8, from the objects' first masks."""
        timing, started = Timing(video.name), time.monotonic()
        self.timings.append(timing)
        given = video.given() if self.given.has_masks else {}
        along = self.propagation
        if along.adapts and video.objects:
            t = min(video.starts.values())
            along = along.adapted(video.frame(t), given[t])
            timing.online_seconds = time.monotonic() - started
        frames = (video.frame(t) for t in range(len(video)))
        started = time.monotonic()
        for mask in along.masks(frames, given):
            timing.seconds += time.monotonic() - started
            timing.frames += 1
            yield mask
            started = time.monotonic()

    def write(self, video: Video, folder: Path) -> Iterator[np.ndarray]:
        """Yields the masks of the frames asked for and writes them to folder/VIDEO/FRAME.png."""
        yield from self.written(video, folder, self.masks(video))

    def score(self, videos: Sequence[Video], rules: Rules, folder: Path) -> dict[str, Any]:
        """Segments and scores videos; the masks stay in folder/VIDEO/FRAME.png.

        Returns:
            What `rules` makes of the scores of all videos.
        """
        clear(folder)
        return rules.summary([rules.score(video, self.write(video, folder)) for video in videos])

    def submit(self, videos: Sequence[Video], archive: Path) -> Path:
        """Segments videos that have first masks only and zips the masks for their server, see `zip_masks`."""
        folder = archive.with_suffix("")
        clear(folder)
        for video in videos:
            for _ in self.write(video, folder):
                pass
        return zip_masks(folder, archive, videos, server_layout(videos, self.given.has_masks))


def clear(folder: Path) -> None:
    """Removes a folder with all that is in it, if it is there."""
    if folder.is_symlink():
        folder.unlink()
    shutil.rmtree(folder, ignore_errors=True)
