"""The weights that RVOS's authors released (imatge-upc/rvos): files encoder.pt and decoder.pt."""

from pathlib import Path

from torch import Tensor

from vos_lightning.layers.released import read_released


def released_weights(folder: Path) -> dict[str, Tensor] | None:
    """A state dict of `network.RVOS` from encoder.pt and decoder.pt; None for a folder that has others.

    RSIS has files of the same names, whose decoder classifies. Raises InputError for one that cannot be read.
    """
    found = read_released(folder)
    if found is None or "fc_class.weight" in found.decoder:
        return None
    state = {f"encoder.{key}": value for key, value in found.encoder.items()}
    return state | {f"decoder.{key}": v for key, v in found.decoder.items() if "fc_stop" not in key}
