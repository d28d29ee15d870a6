"""Two ways to carry the first mask through a clip without learning: floors for a trained model.

Shapes: T frames of H x W pixels, K classes: background, then the objects.
"""

from collections.abc import Callable, Iterator

import numpy as np
from scipy.ndimage import gaussian_filter

from vos_lightning.data.images import VOID
from vos_lightning.data.videos import Given, Video

BINS = 32  # Histogram bins per colour channel.


def copy_first_mask(video: Video) -> Iterator[np.ndarray]:
    """Yields for each of the T frames the first masks of the objects so far, (H, W) uint8 ids.

    An object that starts later is painted over the others.
    """
    mask: np.ndarray | None = None
    given = video.given()
    for t in range(len(video)):
        new = given.get(t)
        if new is not None:
            mask = new if mask is None else np.where(new > 0, new, mask)
        assert mask is not None
        yield mask.copy()


def classify_colours(video: Video, blur: float = 0.015) -> Iterator[np.ndarray]:
    """Labels each pixel by its colour, as in the first frame; yields T masks (H, W) uint8 ids.

    Each class is a smoothed RGB histogram of its pixels in the frame where it starts and its share of them;
    a pixel goes to the class with the highest posterior, averaged over a Gaussian neighbourhood. Frames where
    objects start keep the given masks.

    Args:
        video: T frames and the objects' first masks.
        blur: standard deviation of the neighbourhood as a share of H, >= 0.
    """
    given = video.given()
    ids, counts = np.array([0], dtype=np.uint8), np.zeros((0, BINS**3))
    posterior = np.ones((1, BINS**3))
    for t in range(len(video)):
        bins = _bin_of(video.frame(t))
        belief = gaussian_filter(posterior[:, bins], (0, blur * len(bins), blur * len(bins)))
        mask = ids[belief.argmax(axis=0)]
        if t in given:
            first = given[t]
            known = video.mask(t) != VOID
            new = np.unique(first[first > 0])
            classes = [0, *new] if t == 0 else new
            found = [np.bincount(bins[(first == i) & known], minlength=BINS**3) for i in classes]
            counts = np.concatenate([counts, np.array(found).reshape(-1, BINS**3)])
            ids = np.concatenate([ids, new])
            joint = gaussian_filter(counts.reshape(-1, BINS, BINS, BINS).astype(float), (0, 1, 1, 1)) + 1e-6
            posterior = (joint / joint.sum(axis=0)).reshape(len(ids), -1)
            mask = np.where(first > 0, first, mask)
        yield mask


def _bin_of(frame: np.ndarray) -> np.ndarray:
    """Index of each pixel's colour bin, (H, W) in 0..BINS^3 - 1."""
    r, g, b = np.moveaxis(frame.astype(int) * BINS // 256, -1, 0)
    return (r * BINS + g) * BINS + b


BASELINES: dict[Given, dict[str, Callable[[Video], Iterator[np.ndarray]]]] = {
    Given.MASKS: {"first mask copied": copy_first_mask, "colour classifier": classify_colours}
}


def baselines_of(given: Given) -> dict[str, Callable[[Video], Iterator[np.ndarray]]]:
    """Name -> masks of a video, from what a model is given too; a model is set beside these alone."""
    return BASELINES.get(given, {})
