"""Decodes the masks of COCO's format: polygons, and runs as numbers or as text.

Shapes: a mask is (h, w) bool. Runs alternate between background and mask, down one column after the other.

pycocotools draws the polygons. It writes behind its memory where runs do not add up to the mask, so that runs
from strangers are read here.
"""

import math
from typing import Any

import numpy as np
from pycocotools import mask as rle

from vos_lightning.errors import InputError

ROUNDING = 1.0  # pixels by which a polygon may leave its image
FARTHEST = 1e9  # from the origin that a point of a polygon may be, in pixels
MOST_OUTLINE = 10**6  # pixels around the polygons of one annotation, as drawing takes memory for each
MOST_LETTERS = 10**7  # of runs as text
LETTER_BITS, LETTERS_A_RUN = 5, 7
ZERO = ord("0")  # the letter of 0


def decode_region(segmentation: Any, size: tuple[int, int], where: str) -> np.ndarray:
    """The mask of an annotation's `segmentation` as JSON has it.

    Args:
        segmentation: a list of polygons [x, y, x, y, ...], or {"size": [h, w], "counts": runs}.
        size: (h, w) of the image.
        where: names the file and the annotation in error messages.

    Raises:
        InputError: neither of the two, a polygon of less than three points or more than `ROUNDING` pixels
            outside the image, runs for another size or that do not fill it, or too much of anything.
    """
    if isinstance(segmentation, list) and segmentation:
        return _polygons(segmentation, size, where)
    if isinstance(segmentation, dict):
        return _runs(segmentation, size, where)
    raise InputError(f'{where}: "segmentation" is neither polygons nor runs; leave the annotation out.')


def _polygons(polygons: list[Any], size: tuple[int, int], where: str) -> np.ndarray:
    outline = 0.0
    for polygon in polygons:
        fits = isinstance(polygon, list) and len(polygon) >= 6 and len(polygon) % 2 == 0
        if not fits or not all(type(v) in (int, float) and abs(v) < FARTHEST for v in polygon):
            raise InputError(f"{where}: a polygon must be numbers x, y, x, y, ... of three points or more.")
        points = np.array(polygon, float).reshape(-1, 2)
        beyond = ((points < -ROUNDING) | (points > np.array(size[::-1]) + ROUNDING)).any(1)
        if beyond.any():
            x, y = points[beyond][0]
            raise InputError(
                f"{where}: point {x:.6g}, {y:.6g} of a polygon lies outside the image of {size[1]}x{size[0]} "
                "pixels; correct it."
            )
        outline += np.abs(points - np.roll(points, 1, axis=0)).max(1).sum()
    if outline > MOST_OUTLINE:
        raise InputError(f"{where}: polygons of more than {MOST_OUTLINE} pixels around; simplify them.")
    return rle.decode(rle.merge(rle.frPyObjects(polygons, *size))).astype(bool)


def _runs(region: dict[str, Any], size: tuple[int, int], where: str) -> np.ndarray:
    found, counts, pixels = region.get("size"), region.get("counts"), math.prod(size)
    if found != list(size):
        raise InputError(
            f"{where}: runs of size {ascii(found)[:40]} for an image of [{size[0]}, {size[1]}], height and "
            "width; they must agree."
        )
    runs = _numbers(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(type(n) is int and 0 <= n <= pixels for n in runs):
        raise InputError(f'{where}: "counts" are no runs; encode the mask again.')
    if sum(runs) != pixels:
        raise InputError(
            f"{where}: runs of {sum(runs)} pixels for an image of {pixels}; encode the mask again."
        )
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(size[::-1]).T


def _numbers(text: str) -> list[int] | None:
    """The runs that a text stands for, or None.

    A letter has LETTER_BITS of a number, the lowest first, and a bit that says whether another one follows.
    Numbers are signed; from the fourth on, each is a difference to the one before the last.
    """
    runs: list[int] = []
    number = place = 0
    for letter in text if len(text) <= MOST_LETTERS else "":
        value = ord(letter) - ZERO
        if not 0 <= value < 64 or place == LETTERS_A_RUN:
            return None
        number |= (value & 31) << LETTER_BITS * place
        place += 1
        if value & 32:
            continue
        if value & 16:
            number -= 1 << LETTER_BITS * place
        runs.append(number + (runs[-2] if len(runs) > 2 else 0))
        number = place = 0
    return None if place else runs
