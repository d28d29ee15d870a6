"""Draws scribbles as the robot of DAVIS interactive (Caelles et al., 2018), with its service's settings.

On each object's missed pixels, and on those wrongly taken from the background, the robot draws a smooth line
along the longest way through the skeleton of every part.

Shapes: H W pixels of a frame, N points of a path. A mask is (H, W) of integer ids.
"""

from collections.abc import Iterable, Iterator

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree
from scipy.special import comb
from skimage.filters import rank
from skimage.morphology import disk, medial_axis

from vos_lightning.data.scribbles import Scribble

KERNEL = 0.2  # diameter of the disk that opens a mask, as a share of the root of the mask's area
MOST_RADIUS = 16.0  # of that disk, in pixels
LEAST_PIXELS = 4  # of a part of a skeleton
CURVE_POINTS = 1000
SEED = 0  # of the order in which pixels of a skeleton that are alike are thinned


def robot_scribbles(truth: np.ndarray, predicted: np.ndarray, objects: Iterable[int]) -> tuple[Scribble, ...]:
    """The scribbles on one frame after a prediction, of the background and then of each object in order.

    There is none where little is wrong: the parts left by `opened` may all be empty or too small.

    Args:
        truth: (H, W) ids; 255, void, has no scribbles.
        predicted: (H, W) ids.
        objects: the ids that get scribbles besides 0.
    """
    height, width = truth.shape
    return tuple(
        Scribble(curve(path) / (width, height), i)
        for i in (0, *objects)
        for path in longest_paths(skeleton((truth == i) & (predicted != i)))
    )


def opened(mask: np.ndarray) -> np.ndarray:
    """A mask (H, W) bool without what no disk fits into; the disk shrinks until one fits somewhere.

    The mask is empty if even the smallest disk, of more than a pixel, does not fit; it stays as it is where
    the first one has a pixel or less.
    """
    radius = min(KERNEL * np.sqrt(np.count_nonzero(mask)) / 2, MOST_RADIUS)
    given = found = mask.astype(np.uint8)
    while radius > 1:
        kernel = disk(radius)
        found = rank.minimum(given, kernel)
        if found.any():
            found = rank.maximum(found, kernel)
            break
        radius *= 0.9
    return found.astype(bool)


def skeleton(mask: np.ndarray) -> np.ndarray:
    """The medial axis of an opened mask, both (H, W) bool; the frame's border bounds the mask."""
    lines = np.zeros_like(mask)
    if mask.any():
        near = tuple(_around(np.flatnonzero(mask.any(axis=axis))) for axis in (1, 0))
        lines[near] = medial_axis(np.pad(opened(mask[near]), 1), rng=SEED)[1:-1, 1:-1]
    return lines


def _around(indices: np.ndarray) -> slice:
    """From the first to the last of ascending indices, with room for the disk; what is beyond is empty."""
    room = int(MOST_RADIUS) + 2
    return slice(max(indices[0] - room, 0), indices[-1] + room + 1)


def longest_paths(lines: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the longest path through each part of a skeleton (H, W) bool, (N, 2) of x and y.

    A part is a graph of pixels and their eight neighbours, from which circles are removed, of each a longest
    edge; so it is a minimum spanning tree. Of trees and of longest paths, the one that comes first row by
    row is taken. Parts of fewer than LEAST_PIXELS are left out.
    """
    points = np.argwhere(lines)
    if len(points) < LEAST_PIXELS:
        return
    tree = minimum_spanning_tree(_edges(lines, len(points)))
    _, part = connected_components(tree, directed=False)
    _, first, sizes = np.unique(part, return_index=True, return_counts=True)
    for start in first[sizes >= LEAST_PIXELS].tolist():
        path = _way_to_farthest(tree, _way_to_farthest(tree, start)[-1])
        yield points[path, ::-1]


def _edges(lines: np.ndarray, count: int) -> coo_array:
    """Edges between neighbours of a skeleton; their weights (1, 2, ...) put straight ones before diagonal."""
    index = np.pad(np.where(lines, np.cumsum(lines).reshape(lines.shape), 0), 1)
    pairs = []
    for dy, dx in ((0, 1), (1, 0), (1, -1), (1, 1)):
        there = index[1 + dy : index.shape[0] - 1 + dy, 1 + dx : index.shape[1] - 1 + dx]
        here = index[1:-1, 1:-1]
        both = (here > 0) & (there > 0)
        pairs.append(np.stack([here[both], there[both]]) - 1)
        pairs[-1] = pairs[-1][:, np.lexsort(pairs[-1][::-1])]
    rows, columns = np.concatenate(pairs, axis=1)
    return coo_array((np.arange(1.0, len(rows) + 1), (rows, columns)), shape=(count, count))


def _way_to_farthest(tree: coo_array, start: int) -> list[int]:
    """The way from one pixel of a tree to the one with most pixels in between."""
    order, before = breadth_first_order(tree, start, directed=False)
    steps = np.zeros(tree.shape[0], dtype=np.int64)
    for node in order[1:].tolist():
        steps[node] = steps[before[node]] + 1
    way = [int(order[steps[order].argmax()])]
    while way[-1] != start:
        way.append(int(before[way[-1]]))
    return way[::-1]


def curve(path: np.ndarray) -> np.ndarray:
    """The Bezier curve of a path (N, 2) at CURVE_POINTS points, from its end; a longer path as it is."""
    if len(path) > CURVE_POINTS:
        return path.astype(np.float64)
    n, i = len(path) - 1, np.arange(len(path))[:, None]
    t = np.linspace(0.0, 1.0, CURVE_POINTS)
    return (comb(n, i) * t ** (n - i) * (1 - t) ** i).T @ path.astype(np.float64)
