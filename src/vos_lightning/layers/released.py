"""The files encoder.pt and decoder.pt that the authors of RVOS and RSIS released (imatge-upc/rvos, /rsis).

Both codes can have ResNets or VGG-16 as a base; only weights with ResNets are read.
"""

from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from vos_lightning.errors import InputError
from vos_lightning.layers.weights import read_checkpoint


class Released(NamedTuple):
    """State dicts by the names of this package: of an encoder of `backbone` and `skips`, and of a decoder.

    What a decoder has besides the parts of `pyramid.PyramidDecoder` keeps its name.
    """

    encoder: dict[str, Tensor]
    decoder: dict[str, Tensor]


def read_released(folder: Path) -> Released | None:
    """The weights in encoder.pt and decoder.pt; None for a folder without encoder.pt.

    An optional `module.` prefix of the keys is dropped. Raises InputError for a file that cannot be read, or
    one with VGG-16.
    """
    if not (folder / "encoder.pt").is_file():
        return None
    encoder, decoder = (_content(folder / file) for file in ("encoder.pt", "decoder.pt"))
    if any(key.startswith("base.features.") for key in encoder):
        raise InputError(f"{folder / 'encoder.pt'}: its base is VGG-16; give weights whose base is a ResNet.")
    classifier = {key for key in encoder if key.startswith("base.fc.")}
    return Released(
        {_encoder_key(key): value for key, value in encoder.items() if key not in classifier},
        {
            key.replace("clstm_list.", "cells.").replace(".Gates.", ".gates."): value
            for key, value in decoder.items()
        },
    )


def _content(path: Path) -> dict[str, Tensor]:
    content = read_checkpoint(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__} in place of weights by name.")
    return {str(key).removeprefix("module."): value for key, value in content.items()}


def _encoder_key(key: str) -> str:
    head, _, rest = key.partition(".")
    if head == "base":
        return f"backbone.body.{rest}"
    if head[:2] in ("sk", "bn"):  # sk5 and bn5 belong to res5
        return f"skips.res{head[2:]}.{'conv' if head[:2] == 'sk' else 'norm'}.{rest}"
    return key
