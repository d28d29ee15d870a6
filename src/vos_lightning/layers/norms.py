"""Batches are normalised by the statistics of a whole clip, of each of its frames, or of earlier training.

Shapes: N images, C channels, H W pixels. A batch of T frames is frame-major: T equal chunks of B images each.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.models.shufflenetv2 import InvertedResidual, channel_shuffle

from vos_lightning.errors import one_of


class FrameBatchNorm2d(nn.BatchNorm2d):
    """In training, this BatchNorm normalises each frame by the statistics of that frame alone.

    This is what the official RVOS code does by running its encoder frame by frame; the convolutions around
    it still see the whole clip at once.
    """

    def forward(self, x: Tensor, frames: int) -> Tensor:  # type: ignore[override]
        """Normalises x (T * B, C, H, W), where T is `frames`."""
        if not self.training or frames == 1:
            return super().forward(x)
        return torch.cat([super(FrameBatchNorm2d, self).forward(chunk) for chunk in x.chunk(frames)])


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """This BatchNorm keeps its running statistics in training; scale and shift are still learnt."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalises x (N, C, H, W) by the running statistics."""
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
        )


_KINDS: dict[str, type[nn.BatchNorm2d]] = {
    "clip": nn.BatchNorm2d,
    "frame": FrameBatchNorm2d,
    "frozen": FrozenBatchNorm2d,
}


def replace_batch_norms(module: nn.Module, mode: str) -> None:
    """Puts a norm with the statistics of `mode` in the place of every plain BatchNorm2d inside `module`.

    Weights and statistics are copied, and so are the names under which a state dict holds them. A norm that
    an earlier call has put there stays.

    Args:
        module: It is changed in place, and may not be a norm itself.
        mode: `clip` takes statistics over all frames, `frame` over each alone, as in the official RVOS code,
            and `frozen` over none.

    Raises:
        InputError: The mode is unknown.
    """
    one_of("model.bn", mode, _KINDS)
    for parent in list(module.modules()):
        for name, norm in parent.named_children():
            if type(norm) is nn.BatchNorm2d:
                new = _KINDS[mode](norm.num_features, norm.eps, norm.momentum)
                new.load_state_dict(norm.state_dict())
                setattr(parent, name, new)


def batch_norms(module: nn.Module) -> Sequence[nn.BatchNorm2d]:
    """Lists every BatchNorm2d inside `module`, of whatever kind."""
    return [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]


def run_frames(module: nn.Module, x: Tensor, frames: int) -> Tensor:
    """Runs a module on x (T * B, ...) and tells every FrameBatchNorm2d inside it that T is `frames`.

    It walks through the containers and torchvision's blocks that this package's backbones are made of,
    which by themselves hand on nothing but the images; all other modules are called.
    """
    if isinstance(module, FrameBatchNorm2d):
        return module(x, frames)
    if isinstance(module, nn.Sequential):
        for part in module:
            x = run_frames(part, x, frames)
        return x
    if isinstance(module, BasicBlock | Bottleneck):
        return _run_residual(module, x, frames)
    if isinstance(module, InvertedResidual):
        return _run_shuffled(module, x, frames)
    return module(x)


def _run_residual(block: BasicBlock | Bottleneck, x: Tensor, frames: int) -> Tensor:
    """Does what a block of torchvision's ResNets does."""
    parts = [block.conv1, block.bn1, block.relu, block.conv2, block.bn2]
    if isinstance(block, Bottleneck):
        parts += [block.relu, block.conv3, block.bn3]
    residual = x
    for part in parts:
        residual = run_frames(part, residual, frames)
    shortcut = x if block.downsample is None else run_frames(block.downsample, x, frames)
    residual += shortcut
    return block.relu(residual)


def _run_shuffled(block: InvertedResidual, x: Tensor, frames: int) -> Tensor:
    """Does what a block of torchvision's ShuffleNetV2 does."""
    if block.stride == 1:
        left, right = x.chunk(2, dim=1)
    else:
        left, right = run_frames(block.branch1, x, frames), x
    return channel_shuffle(torch.cat([left, run_frames(block.branch2, right, frames)], 1), 2)
