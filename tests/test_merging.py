"""Slots merged into ids, against a slow reference of the rule that RVOS was released with."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from helpers import SMALL, along
from vos_lightning.errors import InputError
from vos_lightning.evaluation.merging import RULES, Merger
from vos_lightning.fields import read
from vos_lightning.layers.pyramid import Features, State
from vos_lightning.models.rvos.fields import MaskPrediction, RVOSFields
from vos_lightning.models.rvos.network import RVOS, Step


def nearest(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    rows, columns = (
        [int((i + 0.5) * old / new) for i in range(new)] for old, new in zip(mask.shape, size, strict=True)
    )
    return mask[np.ix_(rows, columns)]


def fit(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / (a | b).sum() if (a | b).any() else 1.0


def painted(video: np.ndarray, given: dict[int, np.ndarray], slots: int) -> list[np.ndarray]:
    """Every assignment tried, every object painted in turn; ids are 1 to `slots`."""
    fits: dict[int, float] = {}
    slot_of: dict[int, int] = {}
    frames = []
    for t, masks in enumerate(video):
        if t in given:
            new = [int(i) for i in np.unique(given[t]) if i]
            first = {
                (i, s): fit(given[t] == i, nearest(masks[s] > 0.5, given[t].shape))
                for i in new
                for s in range(slots)
            }
            free = [s for s in range(slots) if s not in slot_of.values()]
            chosen = max(
                itertools.permutations(free, len(new)),
                key=lambda p: sum(first[pair] for pair in zip(new, p, strict=True)),
            )
            slot_of |= dict(zip(new, chosen, strict=True))
            fits |= {i: first[i, slot_of[i]] for i in new}
        canvas = np.zeros(given[0].shape, np.uint8)
        for i in sorted(fits, key=lambda i: fits[i]):
            canvas[nearest(masks[slot_of[i]] > 0.5, canvas.shape)] = i
        frames.append(canvas)
    return frames


@pytest.mark.parametrize("seed", range(10))
def test_the_object_that_fits_its_first_mask_best_lies_on_top(seed: int) -> None:
    rng, size, slots = np.random.default_rng(seed), (32, 48), 4
    video = rng.random((5, slots, 16, 24), dtype=np.float32)
    given = {0: rng.integers(0, 4, size).astype(np.uint8), 2: 4 * rng.integers(0, 2, size).astype(np.uint8)}
    expected = painted(video, given, slots)
    merger = Merger("painter")
    for t, masks in enumerate(torch.from_numpy(video)):
        if t in given:
            merger.start(masks, given[t])
        assert np.array_equal(merger(masks[None], size)[0], expected[t]), t


def test_slots_that_swapped_their_objects_are_painted_as_these() -> None:
    masks = torch.tensor([[[0.0, 0.9]], [[0.9, 0.0]]])
    merged = {}
    for rule, match in itertools.product(RULES, (False, True)):
        merger = Merger(rule, match=match)
        merger.start(masks, np.array([[1, 2]], np.uint8))
        merged[rule, match] = merger(masks[None], (1, 2))[0].tolist()
    by_number = [("painter_by_id", False), ("argmax", False)]
    assert merged == {key: [[2, 1]] if key in by_number else [[1, 2]] for key in merged}


class Noise(RVOS):
    """A zero-shot model whose masks are noise, the same in each video."""

    def step(self, features: Features, slots: int, size: Any, previous: Any, state: State | None) -> Step:
        assert previous is None
        number = torch.zeros(1) if state is None else state[0] + 1
        logits = np.random.default_rng(int(number)).normal(size=(1, slots, *size))
        return Step(torch.from_numpy(logits).float(), (number,), None)


def test_a_zero_shot_models_slots_are_named_by_the_given_masks_that_they_fit() -> None:
    model = Noise(RVOSFields(**SMALL, mask_input=False)).eval()
    rng, size = np.random.default_rng(0), (32, 48)
    frames = np.zeros((4, *size, 3), np.uint8)
    given = {0: rng.integers(0, 4, size).astype(np.uint8), 2: 4 * rng.integers(0, 2, size).astype(np.uint8)}
    named, proposals = (along(model, size, slots=4, match_given=match) for match in (True, False))
    video = np.stack([masks.numpy() for masks in named.probabilities(frames, given)])
    expected, early = painted(video, given, 4), painted(video, {0: given[0]}, 4)
    expected[0], expected[2] = given[0], np.where(given[2], given[2], early[2])  # where objects start
    assert np.array_equal(list(named.masks(frames, given)), expected)
    with_masks, without = (list(proposals.masks(frames, masks)) for masks in (given, {}))
    assert np.array_equal(with_masks, without)
    with pytest.raises(InputError, match="No mask is given"):
        next(named.masks(frames, {}))
    with pytest.raises(InputError, match=r"object id 5 exceeds model\.slots=4"):
        next(named.masks(frames, {0: np.full(size, 5, np.uint8)}))


def test_rules_differ_where_slots_overlap() -> None:
    masks = torch.tensor([[[0.9, 0.6, 0.2, 0.5]], [[0.6, 0.7, 0.3, 0.5]], [[0.1, 0.55, 0.49, 0.2]]])
    expected = {"painter": [2, 3, 0, 0], "painter_by_id": [2, 3, 0, 0], "argmax": [1, 2, 0, 0]}
    for rule, ids in expected.items():
        merger = Merger(rule)
        merger.start_all(3)  # none is surer than another, so the highest id lies on top
        assert merger(masks[None], (1, 4)).tolist() == [[ids]]
        assert merger(masks[None], (2, 8)).shape == (1, 2, 8)
    merger = Merger("painter")
    merger.start(masks, np.array([[1, 0, 0, 0]], np.uint8))
    assert (
        merger(masks[None], (2, 8))[0].tolist() == [[1, 1, 1, 1, 0, 0, 0, 0]] * 2
    )  # the others have not started
    with pytest.raises(InputError, match=r"predict\.merge=best"):
        read(MaskPrediction, "predict", {"merge": "best"})
