"""Training without given masks must find which predicted slot stands for which true object.

Shapes: B batch, O object slots, P predicted slots.
"""

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from vos_lightning.layers.losses import soft_iou_cost


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
    return match_costs(soft_iou_cost(masks[:, :, None], truth[:, None]), weights, valid_only)


def match_costs(costs: Tensor, weights: Tensor, valid_only: bool = False) -> Tensor:
    """Does what `match_slots` does, from costs (B, P, O) of each slot on each object, where P is at most O.

    Returns:
        A tensor (B, P) int64.
    """
    # Matched in main memory, so that a batch waits for its device twice and not at every index.
    pairs = zip(costs.detach().float().cpu(), weights.cpu(), strict=True)
    return torch.stack([_match(c, w, valid_only) for c, w in pairs]).to(costs.device)


def _match(costs: Tensor, weights: Tensor, valid_only: bool) -> Tensor:
    slots = costs.shape[0]
    objects = weights.nonzero().flatten()
    candidates = objects[objects < slots] if valid_only else torch.arange(slots)
    rows, columns = linear_sum_assignment(costs[candidates][:, objects].numpy())
    order = torch.full((slots,), -1, dtype=torch.long)
    order[candidates[rows]] = objects[columns]
    free = order < 0
    order[free] = (weights == 0).nonzero().flatten()[: int(free.sum())]
    return order
