"""Losses compare predicted masks with the true ones.

Shapes: B batch, O object slots, P predicted slots, H W pixels.
"""

import torch
from torch import Tensor


def soft_iou_cost(masks: Tensor, truth: Tensor) -> Tensor:
    """Takes 1 - sum(p y) / (sum(p + y - p y) + 1e-6) over the pixels (Ventura et al. 2019, section 3.3).

    Args:
        masks: Probabilities p (..., H, W) lie in 0..1.
        truth: Masks y (..., H, W) lie in 0..1 and are broadcast against `masks`.

    Returns:
        The costs (...,) lie in 0..1; an empty truth costs 1 whatever the prediction, with gradient 0.
    """
    intersection = (masks * truth).sum((-2, -1))
    union = (masks + truth).sum((-2, -1)) - intersection
    return 1 - intersection / (union + 1e-6)


def pairwise_soft_iou_cost(masks: Tensor, truth: Tensor) -> Tensor:
    """Takes `soft_iou_cost` of every pair of masks (B, P, H, W) and truth (B, O, H, W): (B, P, O) float32."""
    with torch.autocast(masks.device.type, enabled=False):  # which would take the products in bfloat16
        masks, truth = masks.float().flatten(2), truth.float().flatten(2)
        intersection = masks @ truth.mT
        union = masks.sum(2)[:, :, None] + truth.sum(2)[:, None] - intersection
        return 1 - intersection / (union + 1e-6)


def weighted_mean(costs: Tensor, weights: Tensor) -> Tensor:
    """Takes the mean of those costs (B, O) whose weight (B, O) is 1; it is 0 where no weight is 1."""
    return (costs * weights).sum() / torch.clamp(weights.sum(), min=1)
