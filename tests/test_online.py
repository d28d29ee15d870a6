"""Online learning: frames made from the first one, and what is learnt from them."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from helpers import S2S_SIZE, along, noise, ready_s2s, s2s_box, written
from vos_lightning.data.clips import to_network
from vos_lightning.data.videos import Video
from vos_lightning.errors import InputError
from vos_lightning.evaluation.videos import VideoEvaluation
from vos_lightning.fields import read
from vos_lightning.models.s2s.fields import OnlineFields
from vos_lightning.models.s2s.module import unroll
from vos_lightning.models.s2s.network import S2S
from vos_lightning.models.s2s.online import fill, possible_frame, tune

SIZE = S2S_SIZE
SETTINGS = OnlineFields(enabled=True, steps=15, lr=5e-3, pairs=2)


def scene() -> tuple[np.ndarray, np.ndarray]:
    """A grey gradient with a red and a blue box, (H, W, 3), and their ids 1 and 3, (H, W)."""
    mask = s2s_box(6) + s2s_box(38, 3)
    frame = np.broadcast_to(np.linspace(60, 120, SIZE[1])[None, :, None], (*SIZE, 3)).astype(np.uint8)
    colours = {1: (255, 0, 0), 3: (0, 0, 255)}
    for i, colour in colours.items():
        frame = np.where((mask == i)[..., None], np.array(colour, np.uint8), frame)
    return frame, mask


# --- made frames -----------------------------------------------------------------------------------------


def test_a_filled_hole_has_the_colours_around_it() -> None:
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(64.0), indexing="ij")
    scene = torch.stack([x, y, x + y])
    hole = (y - 14) ** 2 + (x - 30) ** 2 < 10**2
    filled = fill(torch.where(hole, torch.tensor(1e4), scene), hole)
    assert torch.equal(filled[:, ~hole], scene[:, ~hole])
    assert torch.equal(filled, fill(torch.where(hole, torch.tensor(-1e4), scene), hole))
    rim = F.max_pool2d(hole.float()[None], 7, 1, 3)[0].bool() & ~hole
    for colour, source in zip(filled[:, hole], scene[:, rim], strict=True):
        assert source.min() <= colour.min() and colour.max() <= source.max()
    assert (filled - scene)[:, hole].abs().mean() < 6  # of the 20 pixels across


def test_made_frames_hold_the_objects_as_their_masks_say() -> None:
    frame, mask = scene()
    first, objects = to_network([frame], SIZE)[0], torch.stack([torch.from_numpy(mask == i) for i in (1, 3)])
    background, rng = fill(first, objects.any(0)), np.random.default_rng(0)
    red, grey, blue = (
        to_network([np.full((*SIZE, 3), c, np.uint8)], SIZE)[0, :, 0, 0]
        for c in ((255, 0, 0), (90, 90, 90), (0, 0, 255))
    )
    seen = []
    for _ in range(20):
        later, masks = possible_frame(first, objects, background, rng)
        assert masks.sum(0).max() <= 1
        distances = torch.stack([(later - c[:, None, None]).norm(dim=0) for c in (grey, red, blue)])
        shown = distances.argmin(0)
        expected = torch.where(masks[0], 1, torch.where(masks[1], 2, 0))
        assert (shown == expected).float().mean() > 0.95  # but for the rims, which are mixed
        seen.append(masks)
    moved = torch.stack(seen)
    assert (moved != objects).any((1, 2, 3)).all()
    assert all((moved[i] != moved[0]).any() for i in range(1, 20))
    assert 0.6 < moved.float().mean() / objects.float().mean() < 1.4


# --- tuning ----------------------------------------------------------------------------------------------


def loss_on_fresh_pairs(model: S2S) -> float:
    frame, mask = scene()
    first, objects = to_network([frame], SIZE)[0], torch.stack([torch.from_numpy(mask == i) for i in (1, 3)])
    rng = np.random.default_rng(99)
    made = [possible_frame(first, objects, fill(first, objects.any(0)), rng) for _ in range(8)]
    clips = torch.stack([torch.stack([first, later]) for later, _ in made])
    with torch.no_grad():
        logits = unroll(model, clips, objects.float().expand(8, -1, -1, -1))[0]
    truth = torch.stack([masks for _, masks in made]).float()
    return F.binary_cross_entropy_with_logits(logits, truth).item()


def differing(a: S2S, b: S2S) -> set[str]:
    """The parts of two networks in which some weight differs."""
    pairs = zip(a.state_dict().items(), b.state_dict().values(), strict=True)
    return {name.split(".")[0] for (name, x), y in pairs if not torch.equal(x, y)}


@pytest.mark.parametrize(
    ("fields", "learning"),
    [
        ({}, {"initializer", "encoder", "decoder"}),
        ({"video": "clip"}, {"initializer", "encoder", "decoder"}),
        ({"encoder": "merged"}, {"initializer", "encoder", "decoder"}),
        ({"initializer": False}, {"encoder", "decoder"}),
    ],
)
def test_tuning_teaches_all_but_the_recurrence(fields: dict, learning: set[str]) -> None:
    model, (frame, mask) = ready_s2s(**fields), scene()
    before = copy.deepcopy(model)
    tuned = tune(model, frame, mask, SIZE, SETTINGS)
    assert differing(model, before) == set()
    assert differing(tuned, model) == learning
    assert loss_on_fresh_pairs(tuned) < 0.8 * loss_on_fresh_pairs(model)
    assert differing(tuned, tune(model, frame, mask, SIZE, SETTINGS)) == set()


def test_a_mask_without_objects_teaches_nothing() -> None:
    model = ready_s2s()
    assert tune(model, scene()[0], np.zeros(SIZE, np.uint8), SIZE, SETTINGS) is model
    with pytest.raises(InputError, match=r"predict\.online\.steps=0"):
        read(OnlineFields, "predict.online", {"steps": 0})


def test_videos_do_not_learn_from_each_other(tmp_path: Path) -> None:
    frame, mask = scene()
    first = written(tmp_path / "first", noise(3, SIZE), {0: s2s_box(20)})
    second = written(tmp_path / "second", [frame] * 3, {0: mask})
    model = ready_s2s()

    def masks(online: OnlineFields, *videos: Video) -> np.ndarray:
        # A low background shows faint objects.
        evaluation = VideoEvaluation(along(model, SIZE, merge="argmax", background=0.1, online=online))
        return np.stack([list(evaluation.masks(s)) for s in videos][-1])

    alone = masks(SETTINGS, second)
    assert np.array_equal(masks(SETTINGS, first, second), alone)
    assert len(np.unique(alone[1])) == 3
    assert not np.array_equal(masks(OnlineFields(), second), alone)


def test_a_video_may_start_without_objects(tmp_path: Path) -> None:
    frame, mask = scene()
    late = written(tmp_path / "late", [frame] * 4, {2: mask})
    evaluation = VideoEvaluation(along(ready_s2s(), SIZE, merge="argmax", online=SETTINGS))
    masks = list(evaluation.masks(late))
    assert evaluation.timings[0].online_seconds > 0
    assert not masks[0].any() and not masks[1].any()
    assert np.array_equal(masks[2], mask)
