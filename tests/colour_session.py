"""A session that needs no training: each pixel goes to the scribble of the nearest colour, if one is near.

`python -m tests.colour_session VIDEO OUT` serves it with the page of vos-interact.
"""

import sys
import time
from pathlib import Path

import numpy as np

from vos_lightning.apps.interact import video_at
from vos_lightning.apps.interact_server import serve
from vos_lightning.apps.interact_work import Workshop
from vos_lightning.data.scribbles import Interaction, scribbled_ids
from vos_lightning.data.videos import Video

SIZE, FRAMES = (90, 160), 4
FAR = 40.0  # distance in RGB from which on a pixel is background
FAILS = 9  # the object that it fails on


def pictures(frames: int = FRAMES) -> list[np.ndarray]:
    """A red box that moves right, and a blue one that stays, on grey."""
    found = np.full((frames, *SIZE, 3), 128, np.uint8)
    for t, frame in enumerate(found):
        left = 10 + 20 * t // max(1, frames - 1)
        frame[10:40, left : left + 40] = (220, 30, 30)
        frame[60:80, 100:150] = (30, 30, 220)
    return list(found)


class ColourSession:
    """Colours under the scribbles by their ids. It takes `seconds` to answer."""

    def __init__(self, video: Video, seconds: float = 0.0) -> None:
        self.video, self.seconds = video, seconds
        self.heard: list[tuple[np.ndarray, np.ndarray]] = []  # colours (N, 3) and their ids (N,)

    def answer(self, interaction: Interaction) -> np.ndarray:
        time.sleep(self.seconds)
        frame = self.video.frame(interaction.frame)
        ids = scribbled_ids(interaction.scribbles, frame.shape[:2])
        if (ids == FAILS).any():
            raise RuntimeError("no memory left")
        self.heard.append((frame[ids >= 0].astype(float), ids[ids >= 0]))
        return self._masks()

    def undo(self) -> np.ndarray:
        self.heard.pop()
        return self._masks()

    def _masks(self) -> np.ndarray:
        return np.stack([self._mask(self.video.frame(t)) for t in range(len(self.video))])

    def _mask(self, frame: np.ndarray) -> np.ndarray:
        found, nearest = np.zeros(frame.shape[:2], np.uint8), np.full(frame.shape[:2], FAR)
        for colours, ids in self.heard:
            for i in np.unique(ids):
                distance = np.linalg.norm(frame - np.median(colours[ids == i], axis=0), axis=-1)
                found[distance < nearest] = i
                nearest = np.minimum(nearest, distance)
        return found


if __name__ == "__main__":
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    delay = float(sys.argv[3]) if len(sys.argv) > 3 else 0.0
    out.mkdir(parents=True, exist_ok=True)
    video, rate = video_at(source, out / "frames")
    serve(Workshop(video, 9, out, rate, lambda: ColourSession(video, delay)), browser=False)
