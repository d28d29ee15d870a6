"""How the soft masks of object slots become one mask of object ids.

Shapes: O object slots, H W pixels of the network's output, h w pixels of the video.
"""

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from vos_lightning.data.images import resize_labels
from vos_lightning.scoring.measures import jaccard

RULES = ("painter", "painter_by_id", "argmax")


class Merger:
    """Merges slots frame by frame; only objects that have started take part.

    Args:
        rule: `painter`, as RVOS's released submission code: each mask where it exceeds 0.5 at network size,
            the object whose first frame fits its given mask best on top. `painter_by_id`: the highest id on
            top. `argmax`: the most probable object at the video's size.
        background: its probability in `argmax`, 0..1.
        match: whether the slot of an object is the one that the Hungarian method finds in its first frame, as
            it always is with `painter`; else slot o is object o + 1.
    """

    def __init__(self, rule: str, background: float = 0.5, match: bool = False) -> None:
        self.rule, self.background = rule, background
        self.match = match or rule == "painter"
        self.slots: dict[int, int] = {}  # of the objects that have started
        self.costs: dict[int, float] = {}  # 1 - Jaccard of their first frames

    def start_all(self, slots: int) -> None:
        """Starts objects 1 to `slots`, each in its own slot and as sure as the others."""
        self.slots = {i + 1: i for i in range(slots)}
        self.costs = dict.fromkeys(self.slots, 0.0)

    def start(self, masks: Tensor, given: np.ndarray) -> None:
        """Starts the objects in `given`, ids (h, w) uint8, whose frame has the soft masks (O, H, W)."""
        new = [i for i in np.unique(given).tolist() if i]
        if not self.match:
            self.slots |= {i: i - 1 for i in new}
            return
        predicted = [resize_labels(m, given.shape) for m in (masks > 0.5).to(torch.uint8).cpu().numpy()]
        costs = np.ones((len(masks), len(masks)))  # of object i in row i - 1
        for i, slot in self.slots.items():
            costs[i - 1, slot] = 0  # stays where it is
        for i in new:
            costs[i - 1] = [1 - jaccard(given == i, mask > 0) for mask in predicted]
        slots = linear_sum_assignment(costs)[1].tolist()
        self.slots = {i: slots[i - 1] for i in (*self.slots, *new)}
        self.costs |= {i: costs[i - 1, self.slots[i]] for i in new}

    def __call__(self, masks: Tensor, size: tuple[int, int]) -> np.ndarray:
        """Soft masks (T, O, H, W) in 0..1 of T frames as ids (T, h, w) uint8, where `size` is (h, w)."""
        objects = sorted(self.slots)
        if not objects:
            return np.zeros((len(masks), *size), np.uint8)
        if self.rule == "painter":
            objects.sort(key=lambda i: -self.costs[i])
        slots = [self.slots[i] for i in objects]
        # One wait for the device for all frames.
        layers = torch.stack([self._layers(frame, slots, size) for frame in masks]).cpu().numpy()
        ids = np.array([0, *objects], np.uint8)[layers]
        return np.stack([resize_labels(frame, size) for frame in ids])

    def _layers(self, masks: Tensor, slots: list[int], size: tuple[int, int]) -> Tensor:
        """Which of `slots` is seen, counted from 1, 0 for none: uint8, at a size of the rule's choice."""
        masks = torch.stack([masks[slot] for slot in slots])
        if self.rule == "argmax":
            masks = F.interpolate(masks[None], size=size, mode="bilinear", align_corners=False)[0]
            return torch.cat([torch.full_like(masks[:1], self.background), masks]).argmax(0).to(torch.uint8)
        numbers = torch.arange(1, len(masks) + 1, dtype=torch.uint8, device=masks.device)
        return ((masks > 0.5) * numbers.view(-1, 1, 1)).amax(0)
