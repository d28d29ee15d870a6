"""Frames and masks on disk.

Shapes: H W pixels. A frame is (H, W, 3) uint8 RGB; a mask is (H, W) uint8 of object ids, 0 background.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from vos_lightning.errors import InputError

VOID = 255


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


def _open(path: Path) -> Image.Image:
    try:
        image = Image.open(path)
        image.load()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the data root and the split list.") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: not a readable image ({error}); fetch the file again.") from error
    return image


def read_frame(path: Path) -> np.ndarray:
    """Reads an image as (H, W, 3) uint8 RGB. Raises InputError if it is missing, truncated or no image."""
    return np.asarray(_open(path).convert("RGB"))


def read_mask(path: Path) -> np.ndarray:
    """Reads a mask as stored, (H, W) uint8: palette indices, grey values, or the grey of grey-alpha (LA).

    Raises InputError if the file is missing, truncated, or of another mode.
    """
    image = _open(path)
    if image.mode == "1":
        image = image.convert("L")
    if image.mode not in ("P", "L", "LA"):
        raise InputError(f"{path}: a mask must be palette, L or LA, not {image.mode}; store object ids.")
    mask = np.asarray(image)
    return mask[..., 0] if mask.ndim == 3 else mask


def write_mask(path: Path, mask: np.ndarray) -> None:
    """Writes object ids (H, W) uint8 as an indexed PNG with the data sets' palette."""
    image = Image.fromarray(mask, mode="P")
    image.putpalette(voc_palette())
    image.save(path, optimize=False, compress_level=1)
