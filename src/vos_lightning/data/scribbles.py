"""Scribbles: lines that a user draws on frames of a video to say what is an object and what is not.

Shapes: T frames of H x W pixels, N points of a path. Object ids are 1, 2, ...; 0 is background.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Scribble:
    """A line on one frame.

    path: (N, 2) float64 of x and y in 0..1, shares of W - 1 and H - 1. id: the object that all of it lies on;
    0 is background. start, end: when it was drawn, in seconds of a clock of the file's own.
    """

    path: np.ndarray
    id: int
    start: float = 0.0
    end: float = 0.0


@dataclass(frozen=True)
class Interaction:
    """What a user says at once, of one frame.

    frame: t. scribbles: those that are new. mask: for models that take masks, the corrected one (H, W) uint8;
    for others None. last: whether no other interaction follows.
    """

    frame: int
    scribbles: tuple[Scribble, ...]
    mask: np.ndarray | None = None
    last: bool = False
