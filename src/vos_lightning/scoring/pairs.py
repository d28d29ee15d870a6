"""Takes the true and the predicted masks of a video in pairs, and checks what every protocol asks of them.

Shapes: T frames of H x W pixels. A mask is (H, W) of integer ids.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from vos_lightning.data.files import File
from vos_lightning.errors import InputError

MaskPair = tuple[str, np.ndarray, np.ndarray | None]  # the frame's name in errors, truth, prediction


def mask_pairs(
    truth_masks: Iterable[np.ndarray],
    predicted_masks: Iterable[np.ndarray | None],
    name: str,
    files: Sequence[File] | None,
) -> Iterator[MaskPair]:
    """The masks of each frame, which is named by its prediction's file if `files` are given.

    Raises ValueError if truth and prediction have different lengths.
    """
    for t, (truth, predicted) in enumerate(zip(truth_masks, predicted_masks, strict=True)):
        yield str(files[t]) if files else f"{name}, frame {t}", truth, predicted


def checked_prediction(where: str, truth: np.ndarray, predicted: np.ndarray | None) -> np.ndarray:
    """The predicted mask as it is. Raises InputError if it is missing or has another size than the truth."""
    if predicted is None:
        raise InputError(f"{where}: no prediction for a frame that is scored; predict every frame.")
    if predicted.shape != truth.shape:
        sizes = " not ".join("x".join(map(str, mask.shape[::-1])) for mask in (truth, predicted))
        raise InputError(f"{where}: the mask must be {sizes} as the truth is; predict at its size.")
    return predicted
