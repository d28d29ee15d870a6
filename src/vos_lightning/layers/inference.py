"""Here a trained model is made ready to segment videos: it does the same in fewer operations."""

import copy
from itertools import pairwise
from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils import fuse_conv_bn_eval

from vos_lightning.errors import InputError

Model = TypeVar("Model", bound=nn.Module)
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def for_inference(model: Model, precision: str = "fp32") -> Model:
    """Gives a copy in eval mode with every BatchNorm folded into its convolution; it cannot be trained.

    Args:
        model: It stays as it is.
        precision: With `fp32` the masks are the model's but for rounding. With `bf16` the encoder runs in
            bfloat16; the recurrence, where rounding would feed back on itself, stays in float32.

    Raises:
        InputError: The precision is unknown, or it is bf16 and the model has no part named encoder.
    """
    if precision not in PRECISIONS:
        raise InputError(f"predict.precision={precision}: unknown; choose {' or '.join(PRECISIONS)}.")
    ready = copy.deepcopy(model).eval()
    fold_batch_norms(ready)
    if precision != "fp32":
        if not hasattr(ready, "encoder"):
            raise InputError(f"predict.precision={precision}: this model has no encoder; use fp32.")
        ready.get_submodule("encoder").to(PRECISIONS[precision])
    return ready.to(memory_format=torch.channels_last)


def fold_batch_norms(module: nn.Module) -> None:
    """Folds each BatchNorm2d into the convolution that its parent module holds just before it, in place.

    In the networks of this package a BatchNorm always follows that convolution.
    """
    for parent in list(module.modules()):
        for (name, conv), (norm_name, norm) in pairwise(list(parent.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, name, fuse_conv_bn_eval(conv, norm))
                setattr(parent, norm_name, nn.Identity())
