"""All models read frames through one backbone: a torchvision classifier that gives a feature pyramid.

Shapes: N images, C channels, H W pixels. res2, res3, res4, res5 are the features at 1/4, 1/8, 1/16 and 1/32
of the input size, rounded up; the names are those of ResNet's stages, whatever the network. res1 are those at
1/2, with which the first stage begins.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights

from vos_lightning.errors import InputError, one_of
from vos_lightning.layers.norms import replace_batch_norms, run_frames
from vos_lightning.layers.weights import load_strictly, read_checkpoint

LEVELS = ("res2", "res3", "res4", "res5")
_PUBLISHED = {"imagenet": "IMAGENET1K_V1", "coco": "COCO_WITH_VOC_LABELS_V1"}

_RESNET = (("conv1", "bn1", "relu", "maxpool", "layer1"), ("layer2",), ("layer3",), ("layer4",))
_SHUFFLENET = (("conv1", "maxpool"), ("stage2",), ("stage3",), ("stage4",))
# VGG-16's `features`: a pool ends each stage; the first two make res2.
_VGG16 = tuple(tuple(str(i) for i in r) for r in (range(10), range(10, 17), range(17, 24), range(24, 31)))

# name -> (modules of each stage, the last module of res1, channels of res1 and of each stage)
_NETWORKS = {
    "resnet18": (_RESNET, "relu", (64, 64, 128, 256, 512)),
    "resnet34": (_RESNET, "relu", (64, 64, 128, 256, 512)),
    "resnet50": (_RESNET, "relu", (64, 256, 512, 1024, 2048)),
    "resnet101": (_RESNET, "relu", (64, 256, 512, 1024, 2048)),
    "vgg16": (_VGG16, "4", (64, 128, 256, 512, 512)),
    "shufflenet_v2_x0_5": (_SHUFFLENET, "conv1", (24, 24, 48, 96, 192)),
    "shufflenet_v2_x1_0": (_SHUFFLENET, "conv1", (24, 24, 116, 232, 464)),
}


def weights_in_words(weights: str) -> str:
    """What a backbone starts from, see `Backbone`, as a table says it."""
    if weights == "none":
        return "random weights"
    return "imagenet weights" if weights == "imagenet" else weights


class Backbone(nn.Module):
    """A backbone runs a torchvision network without its classifier, in four stages.

    Args:
        name: The network is resnet18, resnet34, resnet50, resnet101, vgg16, or for CPUs shufflenet_v2_x0_5
            or shufflenet_v2_x1_0.
        weights: They come from `imagenet` (torchvision's IMAGENET1K_V1) or from a torchvision state dict,
            whose path is given; `none` leaves them random.
        last: This is the last stage to keep, one of LEVELS.
        in_channels: So many channels the images have; those after the first three get new weights.
        fc6: If true, VGG-16's first fully connected layer follows the last stage as a 7x7 convolution.

    Raises:
        InputError: The name is unknown, the weights cannot be had or do not fit, or fc6 is asked for
            elsewhere than at the end of vgg16.
    """

    def __init__(
        self,
        name: str = "resnet101",
        weights: str = "imagenet",
        last: str = "res5",
        in_channels: int = 3,
        fc6: bool = False,
    ) -> None:
        super().__init__()
        if name not in _NETWORKS:
            raise InputError(f"model.backbone={name}: unknown; choose one of {', '.join(_NETWORKS)}.")
        if last not in LEVELS:
            raise InputError(f"model.level={last}: unknown; choose one of {', '.join(LEVELS)}.")
        if fc6 and (name, last) != ("vgg16", "res5"):
            raise InputError("model.fc6=true: needs model.backbone=vgg16 and model.level=res5.")
        stages, end_of_res1, channels = _NETWORKS[name]
        self._stages = stages[: LEVELS.index(last) + 1]
        self._res1 = stages[0].index(end_of_res1) + 1
        self.channels = dict(zip(("res1", *LEVELS), channels, strict=True))
        network = _with_weights(name, weights)
        self.body: nn.Module = network.get_submodule("features") if name == "vgg16" else network
        self.fc6 = _as_convolution(network.get_submodule("classifier.0")) if fc6 else None
        self.out_channels = self.fc6.out_channels if self.fc6 else self.channels[last]
        used = {module for stage in self._stages for module in stage}
        for child in [n for n, _ in self.body.named_children() if n not in used]:
            delattr(self.body, child)
        for module in self.body.modules():
            if isinstance(module, nn.MaxPool2d):
                module.ceil_mode = name == "vgg16"  # so that every network rounds sizes up
            if isinstance(module, nn.ReLU):
                module.inplace = True
        if in_channels != 3:
            _widen_first(self.body, in_channels)

    def forward(self, images: Tensor, frames: int = 1) -> Tensor:
        """Gives the deepest features of images (N, in_channels, H, W): (N, out_channels, h, w).

        The images are of `frames` frames, see `run_frames`.
        """
        x = images
        for level in range(len(self._stages)):
            x = self.stage(level, x, frames)
        return x if self.fc6 is None else F.relu(self.fc6(x))

    def stage(self, level: int, x: Tensor, frames: int = 1) -> Tensor:
        """Runs stage `level` (0..3, giving LEVELS[level]) on the images or on what the stage before gave.

        They are of `frames` frames, see `run_frames`.
        """
        return self._run(self._stages[level], x, frames)

    def first_stage(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Gives res1 and res2 of images (N, in_channels, H, W)."""
        res1 = self._run(self._stages[0][: self._res1], images, 1)
        return res1, self._run(self._stages[0][self._res1 :], res1, 1)

    def _run(self, names: Iterable[str], x: Tensor, frames: int) -> Tensor:
        for name in names:
            x = run_frames(getattr(self.body, name), x, frames)
        return x


class DeepLab(nn.Module):
    """torchvision's DeepLabV3 without its classification layer, or the dilated backbone of it alone.

    It was trained for semantic segmentation.

    Args:
        name: The network is deeplabv3_resnet50, deeplabv3_resnet101, or for CPUs
            deeplabv3_mobilenet_v3_large.
        weights: They come from `coco` (torchvision's COCO_WITH_VOC_LABELS_V1) or from a state dict, whose
            path is given; `none` leaves them random.
        field: The field of the configuration that names the network.
        head: If true, the features are those that the classification layer reads, behind the pyramid of
            dilated convolutions; if false, those of the backbone.
        frozen: If true, further training leaves it as it is, statistics included (S2S, setting 3).

    Raises:
        InputError: The name is unknown, or the weights cannot be had or do not fit.
    """

    def __init__(
        self,
        name: str,
        weights: str,
        field: str = "model.deeplab_network",
        head: bool = False,
        frozen: bool = True,
    ) -> None:
        super().__init__()
        channels = {"resnet50": 2048, "resnet101": 2048, "mobilenet_v3_large": 960}
        one_of(field, name, [f"deeplabv3_{network}" for network in channels])
        options = {"weights_backbone": None, "aux_loss": weights != "none" or None}
        network = _with_weights(name, weights, "coco", **options)
        self.body = network.get_submodule("backbone")
        self.out_channels = channels[name.removeprefix("deeplabv3_")]
        if head:
            classifier = network.get_submodule("classifier")
            assert isinstance(classifier, nn.Sequential)
            self.head = nn.Sequential(*list(classifier)[:-1])
            self.out_channels = 256  # of every DeepLabV3 of torchvision
        if frozen:
            replace_batch_norms(self, "frozen")
            self.requires_grad_(False)

    def forward(self, images: Tensor, frames: int = 1) -> Tensor:
        """Gives the deepest features of images (N, 3, H, W), at 1/8 or, of MobileNet, 1/16 of their size.

        `frames` is there for what calls backbones of any kind; nothing here depends on it.
        """
        features = self.body(images)["out"]
        return self.head(features) if hasattr(self, "head") else features


def _as_convolution(layer: nn.Module) -> nn.Conv2d:
    """Makes VGG-16's fc6, which reads 512 maps of 7x7, read every place of larger maps."""
    conv = nn.Conv2d(512, 4096, 7, padding=3)
    weight, bias = layer.state_dict().values()
    conv.load_state_dict({"weight": weight.view_as(conv.weight), "bias": bias})
    return conv


def _widen_first(body: nn.Module, in_channels: int) -> None:
    """Gives the first convolution more input channels; what it knows of the first three stays."""
    first = next(m for m in body.modules() if isinstance(m, nn.Conv2d))
    known = first.weight
    first.in_channels = in_channels
    first.weight = nn.Parameter(known.new_empty(len(known), in_channels, *known.shape[2:]))
    nn.init.kaiming_uniform_(first.weight, 5**0.5)  # as a new Conv2d
    with torch.no_grad():
        first.weight[:, :3] = known


def _with_weights(name: str, weights: str, published: str = "imagenet", **options: Any) -> nn.Module:
    """Builds a torchvision network; `published` is the word for the weights that torchvision publishes."""
    if weights == "none":
        return get_model(name, weights=None, **options)
    if weights == published:
        entry = get_model_weights(name)[_PUBLISHED[published]]
        try:
            return get_model(name, weights=entry, **options)
        except (URLError, OSError, RuntimeError) as error:
            folder = Path(torch.hub.get_dir()) / "checkpoints"
            raise InputError(
                f"The weights of {name} cannot be downloaded ({error}); put {entry.url.split('/')[-1]} "
                f"into {folder}, or set their field to a local file or to none."
            ) from error
    network = get_model(name, weights=None, **options)
    load_strictly(network, read_checkpoint(Path(weights)), source=weights)
    return network
