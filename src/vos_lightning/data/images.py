"""Reads and writes the files of frames and masks.

Shapes: H W pixels. A frame is (H, W, 3) uint8 RGB; a mask is (H, W) uint8 of object ids, 0 background.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from vos_lightning.atomic import replacing
from vos_lightning.data.files import File, read_file
from vos_lightning.errors import InputError

VOID = 255
FORMATS = ("JPEG", "PNG", "BMP")  # others have readers in Pillow that start programs or read at length
MOST_PIXELS = 64_000_000  # of an image
DEEP = ("I", "F")  # Pillow's modes of more than 8 bits start with one of these


class Shown(NamedTuple):
    """A picture for a dashboard: its caption, a frame (H, W, 3), and a mask (H, W) laid over it."""

    caption: str
    frame: np.ndarray
    ids: np.ndarray


def voc_palette() -> list[int]:
    """The 256-colour palette of Pascal VOC, which DAVIS and YouTube-VOS use, as 768 numbers.

    The bits of an index, three at a time from the lowest, set the bits of R, G and B from the highest.
    """
    palette = np.zeros((256, 3), dtype=np.uint8)
    index = np.arange(256)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= (((index >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return palette.flatten().tolist()


@contextmanager
def _decoding(path: File) -> Iterator[None]:
    """Turns whatever goes wrong with an image into InputError."""
    try:
        yield
    except InputError:
        raise
    except Image.DecompressionBombError:
        most = MOST_PIXELS // 10**6
        raise InputError(
            f"{path}: more than {most} million pixels, the most that are read; shrink it."
        ) from None
    except Exception as error:  # Pillow raises errors of many kinds on damaged images
        raise InputError(f"{path}: not a readable image ({error}); fetch the file again.") from error


def _open(path: File, content: bytes) -> Image.Image:
    """An image of which the header has been read."""
    with _decoding(path):
        image = Image.open(BytesIO(content), formats=FORMATS)
        if math.prod(image.size) > MOST_PIXELS:
            raise Image.DecompressionBombError
        return image


def _decode(path: File, content: bytes | None, at_least: tuple[int, int] | None = None) -> Image.Image:
    image = _open(path, read_file(path) if content is None else content)
    with _decoding(path):
        if at_least is not None:
            image.draft("RGB", at_least[::-1])
        image.load()
    return image


def image_size(path: File, content: bytes) -> tuple[int, int]:
    """Height and width of an image, from its header. Raises InputError if it has none that can be read."""
    return _open(path, content).size[::-1]


def read_frame(
    path: File, content: bytes | None = None, at_least: tuple[int, int] | None = None
) -> np.ndarray:
    """Reads an image as (H, W, 3) uint8 RGB.

    Args:
        path: the image's file.
        content: what the file holds, if it has been read already.
        at_least: a JPEG is decoded at a half, a quarter or an eighth of its size if that is at least this
            height and width, in a fraction of the time.

    Raises:
        InputError: the file is missing, cut short or no image, or exceeds MOST_PIXELS or 8 bits a channel.
    """
    image = _decode(path, content, at_least)
    if image.mode.startswith(DEEP):
        raise InputError(f"{path}: a frame must have 8 bits a channel, not mode {image.mode}; convert it.")
    with _decoding(path):
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def read_mask(path: File, content: bytes | None = None, luminance: bool = False) -> np.ndarray:
    """Reads the values of a mask as they are stored, (H, W) uint8.

    They are the indices of a palette image (P), the values of a grey one (L), or the grey of one with alpha
    (LA).

    Args:
        path: the mask's file.
        content: what the file holds, if it has been read already.
        luminance: reads the brightness, 0..255, of an image of any mode.

    Raises:
        InputError: the file is missing or cut short, or has more than MOST_PIXELS or another mode.
    """
    image = _decode(path, content)
    if image.mode == "1" or (luminance and not image.mode.startswith(DEEP)):
        image = image.convert("L")
    if image.mode not in ("P", "L", "LA"):
        raise InputError(f"{path}: a mask must be palette, L or LA, not {image.mode}; store object ids.")
    mask = np.asarray(image)
    return mask[..., 0] if mask.ndim == 3 else mask


def write_mask(path: Path, mask: np.ndarray) -> None:
    """Writes object ids (H, W) uint8 as an indexed PNG with the data sets' palette.

    Raises InputError if the file cannot be written; it is whole or not there.
    """
    image = Image.fromarray(mask, mode="P")
    image.putpalette(voc_palette())
    with replacing(path, durable=False) as part:
        image.save(part, "PNG", optimize=False, compress_level=1)


def resize_labels(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes ids (h, w) uint8 to `size` (H, W) by nearest neighbour."""
    if labels.shape == size:
        return labels
    return np.asarray(Image.fromarray(labels).resize(size[::-1], Image.Resampling.NEAREST))
