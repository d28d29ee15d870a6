"""The one shared backbone: a torchvision classifier read as a feature pyramid.

Shapes: N images, C channels, H W pixels. res2, res3, res4, res5 are the features at 1/4, 1/8, 1/16 and 1/32
of the input size, rounded up; the names are those of ResNet's stages, whatever the network.
"""

from collections.abc import Sequence
from pathlib import Path
from urllib.error import URLError

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights

from vos_lightning.checkpoints import load_strictly, read_checkpoint
from vos_lightning.errors import InputError

LEVELS = ("res2", "res3", "res4", "res5")

_RESNET = (("conv1", "bn1", "relu", "maxpool", "layer1"), ("layer2",), ("layer3",), ("layer4",))
_SHUFFLENET = (("conv1", "maxpool"), ("stage2",), ("stage3",), ("stage4",))
# VGG-16's `features`: a pool ends each stage; the first two make res2.
_VGG16 = tuple(tuple(str(i) for i in r) for r in (range(10), range(10, 17), range(17, 24), range(24, 31)))

# name -> (modules of each stage, channels of each stage)
_NETWORKS = {
    "resnet18": (_RESNET, (64, 128, 256, 512)),
    "resnet34": (_RESNET, (64, 128, 256, 512)),
    "resnet50": (_RESNET, (256, 512, 1024, 2048)),
    "resnet101": (_RESNET, (256, 512, 1024, 2048)),
    "vgg16": (_VGG16, (128, 256, 512, 512)),
    "shufflenet_v2_x0_5": (_SHUFFLENET, (24, 48, 96, 192)),
    "shufflenet_v2_x1_0": (_SHUFFLENET, (24, 116, 232, 464)),
}


class Backbone(nn.Module):
    """A torchvision network without its classifier, in four stages.

    Args:
        name: resnet18, resnet34, resnet50, resnet101, vgg16, or for CPUs shufflenet_v2_x0_5, _x1_0.
        weights: `imagenet` (torchvision's IMAGENET1K_V1), `none`, or the path of a torchvision state dict.

    Raises:
        InputError: an unknown name, or weights that cannot be had or do not fit.
    """

    def __init__(self, name: str = "resnet101", weights: str = "imagenet") -> None:
        super().__init__()
        if name not in _NETWORKS:
            raise InputError(f"model.backbone={name}: unknown; choose one of {', '.join(_NETWORKS)}.")
        self._stages, channels = _NETWORKS[name]
        self.channels = dict(zip(LEVELS, channels, strict=True))
        network = _with_weights(name, weights)
        self.body: nn.Module = network.get_submodule("features") if name == "vgg16" else network
        used = {module for stage in self._stages for module in stage}
        for child in [n for n, _ in self.body.named_children() if n not in used]:
            delattr(self.body, child)
        for module in self.body.modules():
            if isinstance(module, nn.MaxPool2d):
                module.ceil_mode = name == "vgg16"  # so that every network rounds sizes up
            if isinstance(module, nn.ReLU):
                module.inplace = True

    def stage(self, level: int, x: Tensor) -> Tensor:
        """Runs stage `level` (0..3, giving LEVELS[level]) on the images or on the stage before."""
        for name in self._stages[level]:
            x = getattr(self.body, name)(x)
        return x


def _with_weights(name: str, weights: str) -> nn.Module:
    if weights == "none":
        return get_model(name, weights=None)
    if weights == "imagenet":
        entry = get_model_weights(name)["IMAGENET1K_V1"]
        try:
            return get_model(name, weights=entry)
        except (URLError, OSError, RuntimeError) as error:
            folder = Path(torch.hub.get_dir()) / "checkpoints"
            raise InputError(
                f"ImageNet weights of {name} cannot be downloaded ({error}); put {entry.url.split('/')[-1]} "
                f"into {folder}, or set model.weights to a local file or to none."
            ) from error
    network = get_model(name, weights=None)
    load_strictly(network, read_checkpoint(Path(weights)), source=weights)
    return network


class FrameBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm with live statistics per frame: the batch is `frames` equal chunks, each its own batch.

    This is what the official RVOS code does by running its encoder frame by frame; the convolutions around
    it still see the whole clip at once.
    """

    frames: int = 1

    def forward(self, x: Tensor) -> Tensor:
        """Normalises x (frames * B, C, H, W), frame-major."""
        if not self.training or self.frames == 1:
            return super().forward(x)
        return torch.cat([super(FrameBatchNorm2d, self).forward(chunk) for chunk in x.chunk(self.frames)])


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm that keeps its running statistics in training; scale and shift are still learnt."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalises x (N, C, H, W) by the running statistics."""
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
        )


def set_batch_norm(module: nn.Module, mode: str) -> None:
    """Gives every BatchNorm2d inside `module` the statistics of `mode`.

    Args:
        module: changed in place; parameters and buffers stay as they are.
        mode: `clip` (one batch of all frames), `frame` (as the official RVOS code) or `frozen`.
    """
    kinds = {"clip": nn.BatchNorm2d, "frame": FrameBatchNorm2d, "frozen": FrozenBatchNorm2d}
    if mode not in kinds:
        raise InputError(f"model.bn={mode}: unknown; choose clip, frame or frozen.")
    for norm in batch_norms(module):
        norm.__class__ = kinds[mode]


def batch_norms(module: nn.Module) -> Sequence[nn.BatchNorm2d]:
    """Every BatchNorm2d inside `module`."""
    return [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
