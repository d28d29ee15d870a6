"""The non-local block lets every position of a feature map attend to every other.

Shapes: N images, C channels, h w feature cells.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from vos_lightning.errors import InputError
from vos_lightning.layers.norms import run_frames

AFFINITIES = ("embedded_gaussian", "gaussian", "dot")


class NonLocalBlock(nn.Module):
    """The block gives x + BN(W(softmax(theta(x)^T phi(x)) g(x))) (Wang et al. 2018, eq. 6).

    At first this is x itself.

    The 1x1 convolutions have no bias: that of phi cancels in the softmax, those of g and W in the BatchNorm.

    Args:
        channels: The maps have C channels; theta, phi and g map them to C / 2.
        affinity: `embedded_gaussian` weighs positions as above, `gaussian` by softmax(x^T x), and `dot` by
            theta^T phi / (h w).

    Raises:
        InputError: The affinity is unknown.
    """

    def __init__(self, channels: int, affinity: str = "embedded_gaussian") -> None:
        super().__init__()
        if affinity not in AFFINITIES:
            raise InputError(f"model.affinity={affinity}: unknown; choose one of {', '.join(AFFINITIES)}.")
        inner = channels // 2
        self.affinity = affinity
        if affinity != "gaussian":
            self.theta = nn.Conv2d(channels, inner, 1, bias=False)
            self.phi = nn.Conv2d(channels, inner, 1, bias=False)
        self.g = nn.Conv2d(channels, inner, 1, bias=False)
        self.out = nn.Conv2d(inner, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: Tensor, frames: int = 1) -> Tensor:
        """Maps x (N, C, h, w), which is of `frames` frames (see `run_frames`), to the same shape."""
        query = _points(x if self.affinity == "gaussian" else self.theta(x))
        key = _points(x if self.affinity == "gaussian" else self.phi(x))
        value = _points(self.g(x))
        if self.affinity == "dot":
            attended = query @ (key.mT @ value) / key.shape[2]
        else:
            attended = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        attended = attended.squeeze(1).mT.unflatten(2, x.shape[2:])
        return x + run_frames(self.norm, self.out(attended), frames)


def _points(x: Tensor) -> Tensor:
    """Brings a map (N, C, h, w) into the form (N, 1, hw, C): one head, channels last in memory.

    Only in this form does the attention do without the matrix of all pairs.
    """
    return x.flatten(2).mT.contiguous().unsqueeze(1)
