"""The weights that RSIS's authors released (imatge-upc/rsis): files encoder.pt and decoder.pt."""

from pathlib import Path

import torch
from torch import Tensor

from vos_lightning.layers.released import read_released

HEADS = {"fc_class": "class_head", "fc_stop": "stop_head"}


def released_weights(folder: Path) -> dict[str, Tensor] | None:
    """A state dict of `network.RSIS` from encoder.pt and decoder.pt; None for a folder that has others.

    RVOS has files of the same names, whose decoder does not classify. The files are from before PyTorch
    counted the batches of a norm. Raises InputError for one that cannot be read.
    """
    found = read_released(folder)
    if found is None or "fc_class.weight" not in found.decoder:
        return None
    state = {f"encoder.{key}": value for key, value in found.encoder.items()}
    for key, value in found.decoder.items():
        head, _, rest = key.partition(".")
        state[f"{HEADS[head]}.{rest}" if head in HEADS else f"decoder.{key}"] = value
    for norm in [key.removesuffix("running_mean") for key in state if key.endswith(".running_mean")]:
        state.setdefault(f"{norm}num_batches_tracked", torch.tensor(0))
    return state
