"""Predictions without learning: floors for a trained model that is told as much.

Shapes: T frames of H x W pixels, K classes: background, then the objects.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from PIL import Image as Picture
from scipy.ndimage import gaussian_filter
from scipy.optimize import linear_sum_assignment
from skimage.segmentation import slic

from vos_lightning.data.images import VOID, resize_labels
from vos_lightning.data.instances import Detections, Image
from vos_lightning.data.videos import Given, Video
from vos_lightning.scoring.measures import jaccard

BINS = 32  # Histogram bins per colour channel.
SEGMENTS = 10  # as many as the zero-shot models have slots
ASKED = 12  # at first: SLIC's seeds lie on a grid, so that it makes some more or fewer
COMPACTNESS = 20.0  # SLIC's weight of place beside colour
KEYS = 16  # frames of a video that are divided into segments
SMALL = 96  # height at which frames and images are divided into segments, in pixels


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


def colour_segments(video: Video) -> Iterator[np.ndarray]:
    """Divides a video into at most `SEGMENTS` volumes of even colour and place; yields T masks (H, W) uint8.

    They come from SLIC (Achanta et al. 2012) over `KEYS` frames at once, shrunk to a height of `SMALL`; the
    frames between have the segments of the nearest one. There is no background.
    """
    keys = np.linspace(0, len(video) - 1, min(KEYS, len(video))).round().astype(int)
    small = np.stack([_shrunk(video.frame(int(t))) for t in keys])
    segments, size = _segments(small), video.frame(0).shape[:2]
    for t in range(len(video)):
        yield resize_labels(segments[np.abs(keys - t).argmin()], size)


def matched_segments(video: Video) -> Iterator[np.ndarray]:
    """Names the `colour_segments` of a video by the first masks; yields T masks (H, W) uint8 of ids.

    An object has the segment that the Hungarian method finds by Jaccard in the frame where it starts; it
    keeps it, and later objects choose among those that are left. Frames where objects start keep the given
    masks.
    """
    given, names = video.given(), np.zeros(SEGMENTS + 1, np.uint8)
    for t, segments in enumerate(colour_segments(video)):
        new = np.unique(given[t][given[t] > 0]) if t in given else np.array([], np.uint8)
        free = np.flatnonzero(names == 0)[1:]
        costs = [[1 - jaccard(given[t] == i, segments == segment) for segment in free] for i in new]
        for row, column in zip(*linear_sum_assignment(costs or np.zeros((0, 0))), strict=True):
            names[free[column]] = new[row]
        yield np.where(given[t] > 0, given[t], names[segments]) if t in given else names[segments]


def image_segments(image: Image) -> Iterator[Detections]:
    """Divides an image into at most `SEGMENTS` as `colour_segments` a video; they have no category."""
    frame = image.frame()
    segments = resize_labels(_segments(_shrunk(frame)), frame.shape[:2])
    masks = np.stack([segments == i for i in range(1, segments.max() + 1)])
    yield Detections(masks, np.ones(len(masks)), np.zeros(len(masks), np.int64))


def _segments(pixels: np.ndarray) -> np.ndarray:
    """Segments 1, 2, ... of (..., 3) uint8 RGB: (...) uint8, as many as SLIC makes up to `SEGMENTS`."""
    for asked in range(ASKED, 0, -1):
        found = slic(pixels, asked, COMPACTNESS, channel_axis=-1, start_label=1)
        if found.max() <= SEGMENTS:
            break
    return found.astype(np.uint8)


def _shrunk(frame: np.ndarray) -> np.ndarray:
    image = Picture.fromarray(frame)
    return np.asarray(image.resize((max(1, round(SMALL * image.width / image.height)), SMALL)))


Baseline = Callable[[Any], Iterator[Any]]  # makes of a sample what the rules of its benchmark take


def _of_asked(masks: Callable[[Video], Iterator[np.ndarray]]) -> Baseline:
    """The masks of the frames alone that a data set asks for."""
    return lambda video: (mask for t, mask in enumerate(masks(video)) if t in video.asked)


BASELINES: dict[tuple[type, Given], dict[str, Baseline]] = {
    (Video, Given.MASKS): {
        "first mask copied": _of_asked(copy_first_mask),
        "colour classifier": _of_asked(classify_colours),
    },
    (Video, Given.MATCHED): {"best of up to ten colour segments": _of_asked(matched_segments)},
    (Video, Given.NOTHING): {"up to ten colour segments": _of_asked(colour_segments)},
    (Image, Given.NOTHING): {"up to ten colour segments": image_segments},
}


def baselines_of(kind: type, given: Given) -> Mapping[str, Baseline]:
    """Name -> predictions for a sample of a kind, from what a model is given too.

    A model is set beside these alone.
    """
    return BASELINES.get((kind, given), {})
