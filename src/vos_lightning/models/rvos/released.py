"""The weights that RVOS's authors released (imatge-upc/rvos): files encoder.pt and decoder.pt."""

from pathlib import Path

from torch import Tensor

from vos_lightning.errors import InputError
from vos_lightning.layers.weights import read_checkpoint


def released_weights(folder: Path) -> dict[str, Tensor] | None:
    """A state dict of `network.RVOS` from encoder.pt and decoder.pt; None for a folder without encoder.pt.

    An optional `module.` prefix of the keys is dropped. Raises InputError for a file that cannot be read.
    """
    if not (folder / "encoder.pt").is_file():
        return None
    state = {}
    for file, rename in (("encoder.pt", _encoder_key), ("decoder.pt", _decoder_key)):
        content = read_checkpoint(folder / file)
        if not isinstance(content, dict):
            raise InputError(
                f"{folder / file}: holds a {type(content).__name__} in place of weights by name."
            )
        for key, value in content.items():
            name = rename(str(key).removeprefix("module."))
            if name is not None:
                state[name] = value
    return state


def _encoder_key(key: str) -> str | None:
    head, _, rest = key.partition(".")
    if head == "base":
        return None if rest.startswith("fc.") else f"encoder.backbone.body.{rest}"
    if head[:2] in ("sk", "bn"):  # sk5 and bn5 belong to res5
        return f"encoder.skips.res{head[2:]}.{'conv' if head[:2] == 'sk' else 'norm'}.{rest}"
    return f"encoder.{key}"


def _decoder_key(key: str) -> str | None:
    if "fc_stop" in key:
        return None
    return "decoder." + key.replace("clstm_list.", "cells.").replace(".Gates.", ".gates.")
