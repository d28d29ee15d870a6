"""Draws masks over pictures, in the colours of the data sets.

Shapes: h w pixels, N masks. A picture is (h, w, 3) uint8 RGB, a mask (h, w) bool.
"""

from collections.abc import Iterable, Sequence
from math import ceil

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vos_lightning.data.images import voc_palette
from vos_lightning.scoring.measures import outline_map

MASK_WEIGHT = 0.45
WIDTH = 480  # pixels that a labelled picture has at least
FONT_SIZE, PADDING = 13, 2
PALETTE = np.array(voc_palette(), np.uint8).reshape(256, 3)


def tinted(picture: np.ndarray, masks: Iterable[np.ndarray], colours: Iterable[int]) -> np.ndarray:
    """The picture with its masks tinted, one after the other, and their outlines white.

    Args:
        picture: (h, w, 3) uint8 or float in 0..255.
        masks: where they overlap the colours mix.
        colours: as many places in the palette.
    """
    found, outlines = picture.astype(float), np.zeros(picture.shape[:2], bool)
    for mask, colour in zip(masks, colours, strict=True):
        found[mask] = (1 - MASK_WEIGHT) * found[mask] + MASK_WEIGHT * PALETTE[colour]
        outlines |= outline_map(mask)
    found[outlines] = 255
    return found.round().astype(np.uint8)


def labelled(picture: np.ndarray, masks: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """The picture with its masks (N, h, w) tinted and outlined, and a label on each.

    A small picture is enlarged by a whole number, so that its longer side has at least `WIDTH` pixels.
    """
    times = ceil(WIDTH / max(picture.shape[:2]))
    masks = masks.repeat(times, 1).repeat(times, 2)
    image = Image.fromarray(picture)
    image = image.resize((image.width * times, image.height * times), Image.Resampling.BICUBIC)
    colours = [1 + n % (len(PALETTE) - 2) for n in range(len(masks))]
    large_first = sorted(range(len(masks)), key=lambda n: -np.count_nonzero(masks[n]))
    drawn = tinted(np.asarray(image), masks[large_first], [colours[n] for n in large_first])
    image = Image.fromarray(drawn)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(FONT_SIZE)
    for n in large_first:
        if masks[n].any():
            _label(draw, font, labels[n], _middle(masks[n]), PALETTE[colours[n]])
    return np.asarray(image)


def _middle(mask: np.ndarray) -> np.ndarray:
    """The pixel (x, y) of a mask that is nearest to its centre of mass."""
    points = np.argwhere(mask)[:, ::-1]
    return points[np.square(points - points.mean(0)).sum(1).argmin()]


def _label(
    draw: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    text: str,
    middle: np.ndarray,
    colour: np.ndarray,
) -> None:
    """Writes a label on its colour around a pixel (x, y), moved so that all of it is in the picture."""
    left, top, right, bottom = draw.textbbox((0, 0), text, font)
    size = np.array([right - left, bottom - top]) + 2 * PADDING
    x, y = np.clip(middle - size / 2, 0, np.maximum(np.array(draw.im.size) - size - 1, 0)).round()
    draw.rectangle((x, y, x + size[0], y + size[1]), tuple(colour.tolist()), "white")
    dark = colour @ (0.299, 0.587, 0.114) < 140
    draw.text((x + PADDING - left, y + PADDING - top), text, "white" if dark else "black", font)
