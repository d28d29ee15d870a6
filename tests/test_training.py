"""Losses, matching, augmentation, propagation and whole training runs."""

import csv
import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from scipy.optimize import linear_sum_assignment
from torch import nn

from helpers import along, small_rvos, task
from vos_lightning.configuration import compose_train
from vos_lightning.data.clips import Augmentation, Clip
from vos_lightning.data.synthetic import SyntheticSpec, write_synthetic
from vos_lightning.errors import InputError
from vos_lightning.evaluation.propagation import ENCODED_TOGETHER
from vos_lightning.layers.losses import pairwise_soft_iou_cost, soft_iou_cost, weighted_mean
from vos_lightning.layers.matching import match_costs, match_slots
from vos_lightning.models.rvos.fields import MaskStage
from vos_lightning.models.rvos.network import RVOS
from vos_lightning.models.training import Optimisation
from vos_lightning.runs.load import build_network, load_run
from vos_lightning.runs.settings import read_settings
from vos_lightning.runs.train import train

# --- losses and matching ---------------------------------------------------------------------------------


def slow_cost(mask: np.ndarray, truth: np.ndarray) -> float:
    above = below = 0.0
    for p, y in zip(mask.flat, truth.flat, strict=True):
        above += p * y
        below += p + y - p * y
    return 1 - above / (below + 1e-6)


def test_soft_iou_is_the_sum_over_pixels() -> None:
    rng = np.random.default_rng(0)
    masks, truth = rng.random((3, 2, 6, 7)), (rng.random((3, 2, 6, 7)) < 0.4).astype(float)
    costs = soft_iou_cost(torch.from_numpy(masks), torch.from_numpy(truth))
    for index in np.ndindex(3, 2):
        assert costs[index].item() == pytest.approx(slow_cost(masks[index], truth[index]))
    weight = torch.tensor([[1, 0], [1, 1], [0, 0]])
    expected = (costs[0, 0] + costs[1, 0] + costs[1, 1]) / 3
    torch.testing.assert_close(weighted_mean(costs, weight), expected)
    assert weighted_mean(costs, weight * 0) == 0


def test_costs_of_all_pairs_are_those_of_each_pair() -> None:
    masks, truth = torch.rand(2, 3, 4, 6), (torch.rand(2, 5, 4, 6) < 0.4).float()
    truth[1, 2] = 0
    expected = torch.stack([soft_iou_cost(masks, truth[:, o, None]) for o in range(5)], 2)
    torch.testing.assert_close(pairwise_soft_iou_cost(masks, truth), expected)


def test_an_empty_truth_costs_1_and_teaches_nothing() -> None:
    masks = torch.rand(2, 5, 5, requires_grad=True)
    costs = soft_iou_cost(masks, torch.zeros(2, 5, 5))
    costs.sum().backward()
    assert costs.tolist() == [1, 1]
    assert masks.grad is not None and not masks.grad.any()


def test_fewer_slots_than_objects_take_the_objects_that_they_fit_best() -> None:
    rng = np.random.default_rng(2)
    costs = torch.from_numpy(rng.random((8, 2, 4)))
    for count in range(5):
        weights = (torch.arange(4) < count).float().expand(8, 4)
        slots = min(count, 2)
        for cost, order in zip(costs, match_costs(costs, weights, valid_only=True).tolist(), strict=True):
            best = min(
                itertools.permutations(range(count), slots),
                key=lambda taken, cost=cost: sum(cost[s, o].item() for s, o in enumerate(taken)),
            )
            assert tuple(order[:slots]) == best and len(set(order)) == 2


@pytest.mark.parametrize("valid_only", [False, True])
def test_matching_is_the_best_of_all(valid_only: bool) -> None:
    rng = np.random.default_rng(1)
    masks, truth = rng.random((6, 4, 5, 5)) ** 3, rng.random((6, 4, 5, 5)) < 0.3
    weights = np.array([[1, 1, 1, 1], [1, 0, 1, 0], [0, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 1], [1, 1, 0, 1]])
    truth = (truth & (weights[..., None, None] > 0)).astype(float)
    tensors = torch.from_numpy(masks), torch.from_numpy(truth), torch.from_numpy(weights)
    matched = match_slots(*tensors, valid_only).numpy()
    for order, mask, y, weight in zip(matched, masks, truth, weights, strict=True):
        assert sorted(order) == [0, 1, 2, 3]
        objects = np.flatnonzero(weight)
        candidates = objects if valid_only else np.arange(4)

        def total(slots, objects=objects, mask=mask, y=y) -> float:
            return sum(slow_cost(mask[s], y[o]) for s, o in zip(slots, objects, strict=True))

        best = min(itertools.permutations(candidates, len(objects)), key=total)
        slot_of = {int(o): slot for slot, o in enumerate(order)}
        assert [slot_of[int(o)] for o in objects] == list(best)


@pytest.mark.parametrize("levels", [2, 4, None])
def test_matched_costs_are_the_least_of_all_orders_also_where_some_tie(levels: int | None) -> None:
    rng = np.random.default_rng(3)
    for size in range(1, 7):
        costs = rng.random((4, size, size)) if levels is None else rng.integers(0, levels, (4, size, size))
        orders = match_costs(torch.from_numpy(costs), torch.ones(4, size)).tolist()
        for cost, order in zip(costs, orders, strict=True):
            assert sorted(order) == list(range(size))
            least = min(cost[range(size), taken].sum() for taken in itertools.permutations(range(size)))
            assert cost[range(size), order].sum() == pytest.approx(least)


@pytest.mark.parametrize("levels", [2, 10, None])
def test_ten_slots_are_matched_as_by_scipy(levels: int | None) -> None:
    rng = np.random.default_rng(4)
    costs = rng.random((50, 10, 10)) if levels is None else rng.integers(0, levels, (50, 10, 10))
    orders = match_costs(torch.from_numpy(costs), torch.ones(50, 10)).numpy()
    for cost, order in zip(costs, orders, strict=True):
        assert cost[range(10), order].sum() == pytest.approx(cost[linear_sum_assignment(cost)].sum())


def test_autocast_leaves_the_costs_of_pairs_exact() -> None:
    masks, truth = torch.rand(1, 3, 40, 40), (torch.rand(1, 3, 40, 40) < 0.4).float()
    with torch.autocast("cpu", torch.bfloat16):
        found = pairwise_soft_iou_cost(masks, truth)
    assert torch.equal(found, pairwise_soft_iou_cost(masks, truth))


# --- augmentation ----------------------------------------------------------------------------------------

NONE = Augmentation(flip=0, rotation=0, translation=0, shear=0, zoom=(1, 1))


def labelled_clip() -> tuple[torch.Tensor, torch.Tensor]:
    """Two equal frames whose channels are the labels: a disk of 1 in 0."""
    y, x = torch.meshgrid(torch.arange(60) - 29.5, torch.arange(90) - 44.5, indexing="ij")
    labels = (x**2 + y**2 <= 18**2).to(torch.uint8).expand(2, -1, -1)
    return labels[:, None].float().expand(-1, 3, -1, -1), labels


def test_no_ranges_leave_a_clip_as_it_is() -> None:
    frames, labels = torch.rand(2, 3, 20, 30), torch.randint(0, 5, (2, 20, 30), dtype=torch.uint8)
    warped, ids = NONE(frames, labels, np.random.default_rng(0))
    torch.testing.assert_close(warped, frames, atol=1e-4, rtol=0)
    assert torch.equal(ids, labels)


def test_a_flip_mirrors() -> None:
    frames, labels = torch.rand(2, 3, 20, 30), torch.randint(0, 5, (2, 20, 30), dtype=torch.uint8)
    warped, ids = NONE._replace(flip=1)(frames, labels, np.random.default_rng(0))
    torch.testing.assert_close(warped, frames.flip(-1), atol=1e-4, rtol=0)
    assert torch.equal(ids, labels.flip(-1))


def test_a_warp_by_nearest_makes_no_new_colours() -> None:
    frames, labels = labelled_clip()
    for image_warp in ("nearest", "bilinear"):
        augment = Augmentation(image_warp=image_warp)
        warped, _ = augment(frames, labels, np.random.default_rng(0))
        assert (warped.unique().numel() > 2) == (image_warp == "bilinear")


@pytest.mark.parametrize("seed", range(5))
def test_labels_stay_on_their_pixels(seed: int) -> None:
    frames, labels = labelled_clip()
    warped, ids = Augmentation()(frames, labels, np.random.default_rng(seed))
    assert not torch.equal(ids, labels)
    assert torch.equal(ids[0], ids[1]) and torch.equal(warped[0], warped[1])
    inside = (warped[:, 0] < 1e-3) | (warped[:, 0] > 1 - 1e-3)  # away from edges
    assert inside.float().mean() > 0.8
    assert torch.equal(warped[:, 0].round()[inside], ids.float()[inside])


@pytest.mark.parametrize("zoom", [0.7, 1.4])
def test_a_zoom_scales_areas(zoom: float) -> None:
    frames, labels = labelled_clip()
    _, ids = NONE._replace(zoom=(zoom, zoom), rotation=10)(frames, labels, np.random.default_rng(0))
    assert ids.sum() / labels.sum() == pytest.approx(zoom**2, rel=0.02)


# --- propagation -----------------------------------------------------------------------------------------

SIZE = (64, 96)
VIDEO = (96, 144)


def copier(sign: int = 1) -> RVOS:
    """A network whose weights are set to repeat the previous mask, or with sign -1 its complement."""
    model = small_rvos(hidden=8).eval()
    for p in model.decoder.parameters():
        nn.init.zeros_(p)
    weights = model.decoder.state_dict()
    # The finest level: input and output gates open, the cell reads the mask, the input after 2 + 2 channels.
    weights["cells.3.gates.bias"][:] = torch.tensor([9.0, -9.0, 9.0, 0.0])
    weights["cells.3.gates.weight"][3, 4, 1, 1] = 5  # the state is tanh(1) = 0.76 where the mask is 1
    weights["conv_out.weight"][0, 0, 1, 1] = sign * 40
    weights["conv_out.bias"][:] = -sign * 26
    return model


def disk(row: int, column: int, number: int = 1) -> np.ndarray:
    y, x = np.mgrid[: VIDEO[0], : VIDEO[1]]
    return (number * ((y - row) ** 2 + (x - column) ** 2 <= 18**2)).astype(np.uint8)


def frames(count: int = 6) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (count, *VIDEO, 3), dtype=np.uint8))


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / (a | b).sum()


def test_masks_come_frame_by_frame_at_the_videos_size() -> None:
    read = []

    def endless() -> Iterator[np.ndarray]:
        for t in itertools.count():
            read.append(t)
            yield frames(1)[0]

    given = disk(50, 50)
    masks = along(copier(), SIZE).masks(endless(), {0: given})
    assert read == []
    for t in range(3):
        mask = next(masks)
        assert t < len(read) <= t + ENCODED_TOGETHER
        assert mask.shape == VIDEO and mask.dtype == np.uint8
        assert np.array_equal(mask, given) if t == 0 else iou(mask == 1, given == 1) > 0.7


@pytest.mark.parametrize("rule", ["painter", "painter_by_id", "argmax"])
def test_ids_need_not_be_contiguous(rule: str) -> None:
    given = disk(40, 35) + disk(50, 105, 3)
    for mask in along(copier(), SIZE, merge=rule).masks(frames(4), {0: given}):
        assert set(np.unique(mask)) == {0, 1, 3}
        assert all(iou(mask == i, given == i) > 0.7 for i in (1, 3))


def test_a_late_object_starts_at_its_frame_from_its_mask() -> None:
    early, late = disk(40, 35), disk(50, 105, 2)
    given = {0: early, 2: late + disk(20, 60), 4: disk(40, 35, 2)}  # only first masks are to be read
    for t, mask in enumerate(along(copier(), SIZE).masks(frames(), given)):
        assert iou(mask == 1, early == 1) > 0.6
        assert not (mask == 2).any() if t < 2 else iou(mask == 2, late == 2) > 0.6


def test_given_frames_says_how_long_the_given_mask_is_read() -> None:
    given = disk(50, 70)
    for count, expected in ((1, [1, 1, 0, 1]), (2, [1, 0, 1, 0]), (3, [1, 0, 0, 1])):
        masks = list(along(copier(-1), SIZE, given_frames=count).masks(frames(4), {0: given}))
        # The network gives the complement: on the given mask a 0, on a 0 a 1. Frame 0 shows the given mask.
        assert [int(mask[50, 70]) for mask in masks] == expected


@pytest.mark.parametrize("pasted", [True, False])
def test_a_given_mask_stands_where_its_object_starts(pasted: bool) -> None:
    early, late = disk(50, 40), disk(50, 60, 2)  # which overlap
    ready = along(copier(-1), SIZE, merge="painter_by_id", paste_given=pasted)
    masks = list(ready.masks(frames(4), {0: early, 2: late}))
    assert np.array_equal(masks[2] == 2, late == 2) == pasted  # the network gives the complement


@pytest.mark.parametrize(("start_at_given", "expected"), [(True, [0, 0, 1, 0, 1]), (False, [0, 0, 1, 1, 0])])
def test_frames_before_the_first_given_mask_are_left_out(start_at_given: bool, expected: list[int]) -> None:
    ready = along(copier(-1), SIZE, start_at_given=start_at_given)
    masks = list(ready.masks(frames(5), {2: disk(50, 70)}))
    assert [
        int(mask[50, 70]) for mask in masks
    ] == expected  # two frames read the given mask, or its frame alone


@pytest.mark.parametrize("feeds", [True, False])
def test_a_slot_reads_its_own_output_before_its_object_starts(feeds: bool) -> None:
    model = copier(-1)
    model.feeds_unstarted = feeds
    given = {0: disk(50, 70), 4: disk(20, 20, 2)}
    tested = along(model, SIZE).probabilities(frames(4), given)
    shown = [[int(mask[1, 30, 45] > 0.5) for mask in masks] for masks in (tested, trained_masks(model, 4))]
    # At test two frames read what is given, in training one.
    assert shown == ([[1, 1, 0, 1], [1, 0, 1, 0]] if feeds else [[1] * 4] * 2)


def trained_masks(model: RVOS, length: int) -> torch.Tensor:
    """Soft masks (T, O, H, W) of a training clip whose second object occurs in the last frame alone."""
    labels = torch.zeros(1, length, *SIZE, dtype=torch.uint8)
    labels[:, :, 20:30, 30:40], labels[:, -1, 40:50] = 1, 2
    return task(model).clip_loss(
        Clip(torch.zeros(1, length, 3, *SIZE), labels, torch.ones(1, length, 2)), "inferred"
    )[1][0]


def test_a_zero_shot_model_that_is_not_matched_ignores_what_is_given() -> None:
    torch.manual_seed(0)
    ready = along(small_rvos(hidden=8, mask_input=False).eval(), SIZE, match_given=False)
    a, b = (list(ready.masks(frames(2), given)) for given in ({}, {0: disk(50, 50)}))
    assert all(np.array_equal(x, y) and x.shape == VIDEO for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("objects", [0, 1])
def test_frames_and_given_masks_of_other_sizes_are_refused(objects: int) -> None:
    def segment(given: np.ndarray, *sizes: tuple[int, int]) -> list[np.ndarray]:
        video = [np.zeros((*size, 3), np.uint8) for size in sizes]
        return list(along(copier(), SIZE).masks(video, {0: objects * given}))

    given = disk(50, 50)
    other = (given.shape[0] + 2, given.shape[1])
    assert [mask.shape for mask in segment(given, given.shape, given.shape)] == [given.shape] * 2
    with pytest.raises(InputError, match="Frame 1: it must have the size of frame 0"):
        segment(given, given.shape, other)
    with pytest.raises(InputError, match="Frame 0: the given mask must have the frame's size"):
        segment(given, other, other)


# --- training --------------------------------------------------------------------------------------------


def test_stages_and_rates() -> None:
    trained = task(copier(), *(MaskStage(epochs=epochs) for epochs in (2, 1, 2)))
    assert [trained.stage_at(epoch) for epoch in range(6)] == [0, 0, 1, 2, 2, 2]
    rates = Optimisation(schedule="cosine", warmup_steps=10)
    assert rates.factor(0, 100) == pytest.approx(0.1)
    assert rates.factor(50, 100) == pytest.approx(0.5)
    assert rates.factor(100, 100) == pytest.approx(0)
    assert all(Optimisation().factor(step, 100) == 1 for step in (0, 50, 100))


@pytest.mark.parametrize("previous_mask", ["ground_truth", "inferred"])
def test_validation_reads_the_previous_masks_of_its_stage(previous_mask: str) -> None:
    logged = {}
    trained = task(copier(-1), MaskStage(epochs=1, previous_mask=previous_mask))
    trained.log_mean = lambda name, value, weight: logged.update({name: float(value)})
    labels = torch.zeros(1, 3, *SIZE, dtype=torch.uint8)
    labels[:, :, 20:40, 30:60] = 1
    with torch.no_grad():
        trained.validation_step(Clip(torch.zeros(1, 3, 3, *SIZE), labels, torch.ones(1, 3, 1)), 0)
    # The network gives the complement of what it reads, the true mask or its own.
    assert logged["val/J"] == pytest.approx(0 if previous_mask == "ground_truth" else 0.37, abs=0.02)


def test_gradients_flow_through_as_many_frames_as_asked() -> None:
    frames = torch.randn(1, 4, 3, *SIZE, requires_grad=True)
    labels = torch.zeros(1, 4, *SIZE, dtype=torch.uint8)
    labels[:, :, 20:40, 30:60] = 1
    reached = []
    for unroll in (0, 2):
        torch.manual_seed(0)
        model = small_rvos(hidden=8, bn="frozen")
        # Only the last frame counts in the loss.
        weights = torch.tensor([0.0, 0, 0, 1]).view(1, 4, 1)
        loss, _ = task(model, unroll=unroll).clip_loss(Clip(frames, labels, weights), "inferred")
        (gradient,) = torch.autograd.grad(loss, frames)
        reached.append(gradient.abs().amax((0, 2, 3, 4)).gt(0).tolist())
    assert reached == [[True, True, True, True], [False, False, True, True]]


SPEC = SyntheticSpec(train=36, val=1, test=4, frames=6, height=64, width=96)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cache")
    write_synthetic(path, SPEC, workers=1)
    return path


def configuration(cache: Path, folder: Path, *overrides: str) -> DictConfig:
    spec = ", ".join(f"{key}: {value}" for key, value in vars(SPEC).items())
    return compose_train(
        [
            *("model=rvos", "scale=embedded", "model.hidden=16", f"data.cache={cache}"),
            *(f"data.spec={{{spec}}}", "data.size=[64, 96]", "data.clip_length=2", "data.val_clips=2"),
            *("optim.lr=0.01", "optim.backbone_lr=0.01", "optim.warmup_steps=5", "data.augment=false"),
            *(f"run.dir={folder}", "run.threads=1", "run.accelerator=cpu", f"run.frame_cache={cache}/frames"),
            *overrides,
        ]
    )


def test_training_teaches(cache: Path, tmp_path: Path) -> None:
    stages = "train.stages=[{epochs: 2, previous_mask: ground_truth}, {epochs: 2}]"
    cfg = configuration(cache, tmp_path / "run", stages)
    experiment = read_settings(cfg).experiment
    torch.manual_seed(0)
    untrained = experiment.model.evaluation(build_network(experiment, None), experiment, "cpu")
    rules = experiment.rules
    before = untrained.score(experiment.data_set.videos("test"), rules, tmp_path / "untrained")
    after = train(cfg)["scores"]
    assert after["J"] > before["J"] + 0.15
    with (tmp_path / "run" / "metrics.csv").open() as file:
        losses = [float(row["train/loss"]) for row in csv.DictReader(file)]
    assert len(losses) == 4
    assert losses[-1] < 0.65 * losses[0]


def test_a_step_in_bf16_with_clipped_gradients(cache: Path, tmp_path: Path) -> None:
    cfg = configuration(cache, tmp_path, "train.precision=bf16-mixed", "train.max_steps=1")
    assert cfg.train.gradient_clip
    assert train(cfg)["steps"] == 1


def test_a_run_from_before_there_were_precisions_can_be_used(cache: Path, tmp_path: Path) -> None:
    train(configuration(cache, tmp_path, "train.max_steps=1"))
    saved = tmp_path / "config.yaml"
    saved.write_text(saved.read_text().replace("  precision: fp32\n", ""))
    assert "fp32" not in saved.read_text()
    assert load_run(tmp_path)[0].prediction.precision == "fp32"


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_step_on_a_gpu_in_bf16(cache: Path, tmp_path: Path) -> None:
    options = ("train.precision=bf16-mixed", "run.accelerator=cuda", "train.max_steps=1")
    result = train(configuration(cache, tmp_path, *options, "data.score_split=val"))
    assert result["steps"] == 1 and result["device"] == torch.cuda.get_device_name()
    row = next(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert math.isfinite(float(row["train/loss"]))
