"""S2S along whole videos: late objects, windows of the representation, and what is read ahead."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers import S2S_SIZE, along, name_of, noise, ready_s2s, s2s_box
from vos_lightning.data.clips import to_network
from vos_lightning.evaluation.propagation import ENCODED_TOGETHER
from vos_lightning.models.s2s.module import unroll
from vos_lightning.models.s2s.network import S2S

VIDEO = noise(7, S2S_SIZE)


def soft(model: S2S, frames: list[np.ndarray], given: dict[int, np.ndarray]) -> Tensor:
    """The probabilities of a video, (T, O, H, W)."""
    return torch.stack(list(along(model, S2S_SIZE).probabilities(frames, given)))


def as_clip(model: S2S, frames: list[np.ndarray], *masks: np.ndarray) -> Tensor:
    """The same by `unroll`, the given masks first."""
    given = torch.from_numpy(np.stack(masks)).float()
    with torch.no_grad():
        logits = unroll(model, to_network(frames, S2S_SIZE)[None], given[None])
    return torch.cat([given[None], logits[:, 0].sigmoid()])


ALONG: list[dict[str, Any]] = [{}, {"encoder": "previous_mask"}, {"encoder": "merged"}, {"video": "clip"}]


@pytest.mark.parametrize("fields", ALONG, ids=name_of)
def test_a_video_is_one_long_clip(fields: dict) -> None:
    model = ready_s2s(**fields)
    expected = as_clip(model, VIDEO, s2s_box(4), s2s_box(40))
    torch.testing.assert_close(
        soft(model, VIDEO, {0: s2s_box(4) + s2s_box(40, 2)}), expected, rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize("fields", ALONG[:3], ids=name_of)
def test_a_late_object_is_segmented_from_its_frame_as_if_alone(fields: dict) -> None:
    model, late = ready_s2s(**fields), 3
    found = soft(model, VIDEO, {0: s2s_box(4), late: s2s_box(40, 2)})
    torch.testing.assert_close(found[:, 0], soft(model, VIDEO, {0: s2s_box(4)})[:, 0])
    assert not found[:late, 1].any()
    torch.testing.assert_close(found[late:, 1], soft(model, VIDEO[late:], {0: s2s_box(40)})[:, 0])


def test_given_masks_are_kept() -> None:
    given = {0: s2s_box(4), 3: s2s_box(40, 2)}
    masks = list(along(ready_s2s(), S2S_SIZE, merge="argmax").masks(VIDEO, given))
    assert np.array_equal(masks[0], given[0])
    assert np.array_equal(masks[3] == 2, given[3] == 2)
    assert not any((mask == 2).any() for mask in masks[:3])


def test_ids_need_not_be_contiguous() -> None:
    model = ready_s2s()
    found = soft(model, VIDEO, {0: s2s_box(4) + s2s_box(40, 3)})
    torch.testing.assert_close(found[:, [0, 2]], soft(model, VIDEO, {0: s2s_box(4) + s2s_box(40, 2)}))
    assert not found[:, 1].any()


def test_a_first_mask_may_be_empty() -> None:
    model, empty = ready_s2s(), np.zeros(S2S_SIZE, np.uint8)
    found = soft(model, VIDEO, {0: empty, 2: s2s_box(4)})
    torch.testing.assert_close(found, soft(model, VIDEO, {2: s2s_box(4)}))
    assert found[2].any() and not found[:2].any()


@torch.no_grad()
def test_a_window_has_its_own_representation() -> None:
    model, mask = ready_s2s(video="clip", window=3), torch.from_numpy(s2s_box(4)).float()[None, None]
    frames = to_network(VIDEO, S2S_SIZE)[None]
    features = model.encode(frames)
    reads = [read for t in range(0, 7, 3) for read in model.read(features[t : t + 3])]
    state, expected = model.start(frames[:, 0], mask), [mask[0]]
    for read in reads[1:]:
        state = model.advance(read, state, mask)
        expected.append(model.decode(state[1], S2S_SIZE)[0].sigmoid())
    windowed = soft(model, VIDEO, {0: s2s_box(4)})
    torch.testing.assert_close(windowed, torch.stack(expected), rtol=1e-3, atol=1e-5)
    model.window = 0
    assert (soft(model, VIDEO, {0: s2s_box(4)}) - windowed).abs().max() > 1e-3


@pytest.mark.parametrize("fields", [{}, {"video": "clip", "window": 3}], ids=name_of)
def test_an_endless_video_is_read_as_it_is_segmented(fields: dict) -> None:
    read = []

    def endless() -> Iterator[np.ndarray]:
        for t in itertools.count():
            read.append(t)
            yield VIDEO[0]

    window = fields.get("window", 0)
    ahead = ENCODED_TOGETHER + window + ENCODED_TOGETHER * bool(window)  # masks and windows end apart
    masks = along(ready_s2s(**fields), S2S_SIZE, merge="argmax").masks(endless(), {0: s2s_box(4)})
    for t in range(9):
        next(masks)
        assert t < len(read) <= t + ahead
