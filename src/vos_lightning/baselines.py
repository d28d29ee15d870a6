"""Two ways to carry the first mask through a clip without learning: floors for a trained model.

Shapes: T frames of H x W pixels, K = N + 1 classes: background, then the objects of the first mask.
"""

from collections.abc import Iterator

import numpy as np
from scipy.ndimage import gaussian_filter

from vos_lightning.data.images import VOID
from vos_lightning.data.sequence import Sequence

BINS = 32  # Histogram bins per colour channel.


def copy_first_mask(sequence: Sequence) -> Iterator[np.ndarray]:
    """Yields the first mask for each of the T frames, (H, W) uint8 ids with void as background."""
    first = sequence.mask(0)
    first = np.where(first == VOID, 0, first).astype(np.uint8)
    for _ in range(len(sequence)):
        yield first.copy()


def classify_colours(sequence: Sequence, blur: float = 0.015) -> Iterator[np.ndarray]:
    """Labels each pixel by its colour, as in the first frame; yields T masks (H, W) uint8 ids.

    Each class is a smoothed RGB histogram of its pixels in frame 0 and its share of them; a pixel goes to
    the class with the highest posterior, averaged over a Gaussian neighbourhood. Mask 0 is the given one.

    Args:
        sequence: T frames and a mask for frame 0.
        blur: standard deviation of the neighbourhood as a share of H, >= 0.
    """
    first = next(copy_first_mask(sequence))
    yield first
    ids = np.array([0, *sequence.objects], dtype=np.uint8)
    known = sequence.mask(0) != VOID
    bins = _bin_of(sequence.frame(0))[known]
    counts = np.stack([np.bincount(bins[first[known] == i], minlength=BINS**3) for i in ids])
    joint = gaussian_filter(counts.reshape(-1, BINS, BINS, BINS).astype(float), (0, 1, 1, 1)) + 1e-6
    posterior = (joint / joint.sum(axis=0)).reshape(len(ids), -1)
    for t in range(1, len(sequence)):
        belief = posterior[:, _bin_of(sequence.frame(t))]
        yield ids[gaussian_filter(belief, (0, blur * len(first), blur * len(first))).argmax(axis=0)]


def _bin_of(frame: np.ndarray) -> np.ndarray:
    """Index of each pixel's colour bin, (H, W) in 0..BINS^3 - 1."""
    r, g, b = np.moveaxis(frame.astype(int) * BINS // 256, -1, 0)
    return (r * BINS + g) * BINS + b
