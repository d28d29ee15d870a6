"""Ridge regression in closed form (Lin et al. 2019, eq. 3).

Shapes: N samples, F features, K outputs.
"""

import torch
from torch import Tensor

from vos_lightning.errors import InputError

STEP = 10.0  # factor by which the penalty grows until the system can be solved


def ridge(x: Tensor, y: Tensor, penalty: float) -> Tensor:
    """The W that minimises ||x W - y||^2 + penalty ||W||^2, by Cholesky in float64.

    The smaller of the Gram matrices x^T x (F, F) and x x^T (N, N) is factored. Where rounding leaves it
    without a factor, the penalty is raised until it has one, so that W is always finite.

    Args:
        x: (N, F) samples; N may be 0, which gives W = 0.
        y: (N, K) what W should give for them.
        penalty: lambda, >= 0.

    Returns:
        W (F, K) float64.

    Raises:
        InputError: a sample is no number.
    """
    x, y = x.double(), y.double()
    samples, features = x.shape
    if samples == 0:
        return x.new_zeros(features, y.shape[1])
    wide = samples < features
    gram = x @ x.mT if wide else x.mT @ x
    if not gram.isfinite().all():
        raise InputError("The features of a frame are no numbers; train again, or take another checkpoint.")
    floor = torch.finfo(x.dtype).eps * float(gram.diagonal().mean()) or 1.0
    while True:
        factor, failed = torch.linalg.cholesky_ex(gram + penalty * torch.eye(len(gram)).to(gram))
        if not failed:
            break
        penalty = max(floor, STEP * penalty)
    if wide:
        return x.mT @ torch.cholesky_solve(y, factor)
    return torch.cholesky_solve(x.mT @ y, factor)
