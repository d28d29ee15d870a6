"""Training without given masks must find which predicted slot stands for which true object.

Shapes: B batch, O object slots, P predicted slots.
"""

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from vos_lightning.layers.losses import pairwise_soft_iou_cost


def match_slots(masks: Tensor, truth: Tensor, weights: Tensor, valid_only: bool = False) -> Tensor:
    """Assigns true objects to slots by the Hungarian method on the soft IoU cost (Ventura et al. 2019, 3.3).

    Args:
        masks: Predictions (B, O, H, W) in 0..1 are those on the clip's first frame.
        truth: True masks (B, O, H, W) have as many slots.
        weights: The objects' weights (B, O) in the loss are 0 or 1.
        valid_only: If true, only slots at the objects' own indices match, as in the released code, else any.

    Returns:
        A tensor (B, O) int64 says for each slot on which true object it is trained. Slots that match none
        share out the objects of weight 0.
    """
    return match_costs(pairwise_soft_iou_cost(masks.detach(), truth), weights, valid_only)


def match_costs(costs: Tensor, weights: Tensor, valid_only: bool = False) -> Tensor:
    """Does what `match_slots` does, from costs (B, P, O) of each slot on each object, where P is at most O.

    Returns:
        A tensor (B, P) int64.
    """
    # Matched in main memory, so that a batch waits for its device twice and not at every index, and by NumPy,
    # as a call of torch takes longer than such a small matching. NaN is told elsewhere.
    known = np.nan_to_num(costs.detach().float().cpu().numpy(), nan=1.0)
    pairs = zip(known, weights.cpu().numpy(), strict=True)
    return torch.from_numpy(np.stack([_match(c, w, valid_only) for c, w in pairs])).to(costs.device)


def _match(costs: np.ndarray, weights: np.ndarray, valid_only: bool) -> np.ndarray:
    slots, objects = len(costs), np.flatnonzero(weights)
    candidates = objects[objects < slots] if valid_only else np.arange(slots)
    rows, columns = linear_sum_assignment(costs[candidates][:, objects])
    order = np.full(slots, -1)
    order[candidates[rows]] = objects[columns]
    free = order < 0
    order[free] = np.flatnonzero(weights == 0)[: free.sum()]
    return order
