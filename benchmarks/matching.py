"""Times the matching of slots and objects: ours against another of SciPy's algorithms, and with all pairs."""

from functools import partial

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from benchmarks.measure import Row, Setup, Work, alternate
from vos_lightning.layers.losses import soft_iou_cost
from vos_lightning.layers.matching import match_costs, match_slots

SLOTS = 10


def from_costs(ours: bool, batch: int) -> Work:
    """Work that assigns SLOTS slots to as many objects and returns the total costs of each image."""
    costs = torch.rand(batch, SLOTS, SLOTS, generator=torch.Generator().manual_seed(0))
    weights = torch.ones(batch, SLOTS)

    def work() -> np.ndarray:
        order = match_costs(costs, weights) if ours else _by_sparse(costs)
        return costs.gather(2, order[:, :, None]).sum((1, 2)).numpy()

    return work


def from_masks(ours: bool, batch: int, size: tuple[int, int]) -> Work:
    """Work that matches soft masks and true ones, and returns the matching."""
    masks, truth = torch.rand(2, batch, SLOTS, *size, generator=torch.Generator().manual_seed(0))
    truth, weights = (truth > 0.7).float(), torch.ones(batch, SLOTS)

    def work() -> np.ndarray:
        if ours:
            return match_slots(masks, truth, weights).numpy()
        return _by_sparse(soft_iou_cost(masks[:, :, None], truth[:, None])).numpy()

    return work


def _by_sparse(costs: torch.Tensor) -> torch.Tensor:
    found = [min_weight_full_bipartite_matching(csr_array(image)) for image in costs.numpy() + 1.0]
    return torch.from_numpy(np.stack([columns for _, columns in found]).astype(np.int64))


def rows(
    batch: int = 4, size: tuple[int, int] = (256, 448), repeats: int = 20, processes: bool = True
) -> list[Row]:
    """Two rows. Raises AssertionError if total costs or matchings differ."""
    found = []
    of_costs: dict[str, Setup] = {k: partial(from_costs, k == "ours", batch) for k in ("ours", "plain")}
    times = alternate(of_costs, repeats, warmups=3, processes=processes)
    assert np.allclose(times["ours"].result, times["plain"].result)
    case = f"matching {SLOTS} slots and {SLOTS} objects, batch {batch}"
    found.append(Row(f"{case}, costs given", times["ours"], times["plain"], "1; 1 ms", "costs equal"))
    of_masks: dict[str, Setup] = {k: partial(from_masks, k == "ours", batch, size) for k in ("ours", "plain")}
    times = alternate(of_masks, repeats, warmups=3, processes=processes)
    assert np.array_equal(times["ours"].result, times["plain"].result)
    where = f"{size[0]}x{size[1]}"
    found.append(Row(f"{case}, masks of {where}", times["ours"], times["plain"], "1", "matchings equal"))
    return found
