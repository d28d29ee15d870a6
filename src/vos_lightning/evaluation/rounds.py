"""A trained network in rounds with a user, who scribbles on a frame, sees all masks, and scribbles again.

Shapes: T frames, h w pixels of the video.
"""

from typing import Protocol

import numpy as np

from vos_lightning.data.scribbles import Interaction


class Session(Protocol):
    """A model at work with a user on one video."""

    def answer(self, interaction: Interaction) -> np.ndarray:
        """The masks of the whole video after an interaction, (T, h, w) uint8 of object ids."""

    def undo(self) -> np.ndarray:
        """The masks as they were before the last interaction; all background where none is left."""
