"""RIS: its network and loss against the paper's equations written out, and what it makes of an image."""

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.signal import correlate2d
from torch import Tensor

from vos_lightning.data.instances import InstanceBatch
from vos_lightning.errors import InputError
from vos_lightning.models.ris.detect import Detector
from vos_lightning.models.ris.fields import (
    Curriculum,
    InstancePrediction,
    InstanceTraining,
    LossStage,
    RISFields,
)
from vos_lightning.models.ris.module import MatchedTraining, matching_loss
from vos_lightning.models.ris.network import RIS, FCN8s
from vos_lightning.models.training import Optimisation


def small(**fields: Any) -> RIS:
    """A network of four convolutions and random weights."""
    torch.manual_seed(0)
    return RIS(RISFields(**{"fcn": "small", "hidden": 3, **fields}))


def training(network: RIS, epochs: int = 1, patience: int = 0, **fields: Any) -> MatchedTraining:
    stages = (LossStage(epochs=epochs, patience=patience),)
    return MatchedTraining(network, InstanceTraining(stages=stages, **fields), Optimisation())


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def convolved(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """A 3x3 convolution of maps (C_in, h, w), one pair of channels after the other."""
    return np.stack(
        [
            b + sum(correlate2d(channel, k, "same") for channel, k in zip(x, kernels, strict=True))
            for kernels, b in zip(weight, bias, strict=True)
        ]
    )


def written_out(network: RIS, image: np.ndarray, steps: int) -> tuple[list[np.ndarray], list[float]]:
    """Masks (H, W) and confidences of an image (3, H, W), as the paper's equations say."""
    w = {name: value.detach().numpy() for name, value in network.state_dict().items()}
    features = image
    for i in (0, 2, 4, 6):
        features = np.maximum(convolved(features, w[f"encoder.{i}.weight"], w[f"encoder.{i}.bias"]), 0)
    c = [np.zeros_like(features) for _ in network.layers]
    h = [np.zeros_like(features) for _ in network.layers]
    masks, confidences = [], []
    for step in range(steps):
        x = features
        for n in range(len(c)):
            weight, bias = w[f"layers.{n}.gates.weight"], w[f"layers.{n}.gates.bias"]
            if n == 0 and network.feedback is not None:
                x = np.concatenate([x, masks[-1][None] if step else np.zeros_like(x[:1])])
                weight = np.concatenate([weight[:, :3], w["feedback.weight"], weight[:, 3:]], 1)
            i, f, o, g = np.split(convolved(np.concatenate([x, h[n]]), weight, bias), 4)
            c[n] = sigmoid(f) * c[n] + sigmoid(i) * np.tanh(g)
            h[n] = x = sigmoid(o) * np.tanh(c[n])
        scores = np.tensordot(w["head.mask.weight"][0, :, 0, 0], x, 1) + w["head.mask.bias"]
        places = scores - np.log(np.exp(scores).sum())
        masks.append(sigmoid(places + w["head.threshold"]))
        rows, columns = x.shape[1] // 2, x.shape[2] // 2
        pooled = x.reshape(len(x), 2, rows, 2, columns).max((2, 4)).ravel()
        logit = w["head.confidence.weight"][0] @ pooled + w["head.confidence.bias"][0]
        confidences.append(float(sigmoid(logit)))
    return masks, confidences


@pytest.mark.parametrize(("layers", "feeds_mask"), [(1, False), (2, False), (2, True)])
def test_masks_and_confidences_are_those_of_the_equations(layers: int, feeds_mask: bool) -> None:
    network = small(layers=layers, feeds_mask=feeds_mask).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
        network.head.confidence.bias.zero_()
    images = torch.randn(2, 3, 8, 12, dtype=torch.double)
    masks, logits = network(images, 3)
    for b, image in enumerate(images.numpy()):
        expected, confidences = written_out(network, image, 3)
        np.testing.assert_allclose(masks[b].detach(), expected, atol=1e-6)
        np.testing.assert_allclose(torch.sigmoid(logits[b]).detach(), confidences, atol=1e-6)


@pytest.mark.parametrize("feeds_mask", [False, True])
def test_without_recurrence_all_steps_find_what_the_first_finds(feeds_mask: bool) -> None:
    with_it, without = (small(recurrence=r, feeds_mask=feeds_mask) for r in (True, False))
    images = torch.randn(1, 3, 8, 12)
    masks, logits = with_it(images, 3)
    same, same_logits = without(images, 3)
    assert not torch.equal(masks[:, 1], masks[:, 0])
    for step in range(3):
        assert torch.equal(same[:, step], masks[:, 0]) and torch.equal(same_logits[:, step], logits[:, 0])


def test_scores_of_all_stages_are_fused_at_the_scale_of_the_finest() -> None:
    fields = RISFields(backbone="shufflenet_v2_x0_5", weights="none", fc6=False, hidden=5, bn="frozen")
    encoder = FCN8s(fields).eval()
    image = torch.randn(1, 3, 64, 72)
    whole = encoder(image)
    assert whole.shape == (1, 5, 8, 9)
    fused = torch.zeros(())
    x = image
    for index, level in enumerate(("res2", "res3", "res4", "res5")):
        x = encoder.backbone.stage(index, x)
        if level in encoder.scores:
            scores = encoder.scores[level](x)
            for size in ((4, 5), (8, 9)):  # by way of the sizes between
                if scores.shape[-1] < size[1]:
                    scores = F.interpolate(scores, size=size, mode="bilinear")
            fused = fused + scores
    torch.testing.assert_close(whole, fused)


def test_masks_are_enlarged_as_by_the_released_transposed_convolution() -> None:
    factor, soft = 8, torch.rand(1, 1, 6, 7)
    half = factor  # of the kernel of Upsample.lua, whose size is 2 * factor
    place = (1 - (torch.arange(2 * factor) / half - (2 * half - 1 - half % 2) / (2 * half)).abs()).view(1, -1)
    released = F.conv_transpose2d(soft, (place.T @ place)[None, None], stride=factor, padding=factor // 2)
    ours = F.interpolate(soft, scale_factor=factor, mode="bilinear", align_corners=False)
    inside = slice(factor // 2, -factor // 2)  # at the border the released one mixes in zeros
    torch.testing.assert_close(ours[..., inside, inside], released[..., inside, inside])


def test_a_confidence_of_all_cells_takes_one_size_alone() -> None:
    network = small(confidence="cells", size=(32, 40))
    assert network.head.confidence.in_features == 3 * 32 * 40
    assert network(torch.randn(1, 3, 32, 40), 2)[1].shape == (1, 2)
    with pytest.raises(InputError, match="takes input of 32x40 and met 32x32"):
        network(torch.randn(1, 3, 32, 32), 1)


def soft_iou(p: Tensor, y: Tensor) -> Tensor:
    return (p * y).sum() / (p.sum() + y.sum() - (p * y).sum())


def least(masks: Tensor, logits: Tensor, objects: Tensor, steps: int, weight: float) -> Tensor:
    """Eq. 5 of one image: the least over all ways to pair its first masks (S, H, W) with objects."""
    n, s = len(objects), torch.sigmoid(logits)
    confidence = -sum((s[t] if t < n else 1 - s[t]).log() for t in range(steps))
    pairs = min(n, steps)
    costs = [
        -sum(soft_iou(masks[t], objects[o]) for t, o in enumerate(chosen))
        for chosen in itertools.permutations(range(n), pairs)
    ]
    return torch.stack([torch.as_tensor(cost) + weight * confidence for cost in costs]).min()


@pytest.mark.parametrize("longest", [2, 3, 9])
def test_the_loss_is_the_least_over_all_assignments(longest: int) -> None:
    torch.manual_seed(1)
    counts, slots = (0, 1, 3, 4), 4
    steps = torch.tensor(counts).add(2).clamp(max=longest)
    masks = torch.rand(4, int(steps.max()), 5, 6, dtype=torch.double)
    logits = torch.randn(4, int(steps.max()), dtype=torch.double)
    weights = (torch.arange(slots) < torch.tensor(counts)[:, None]).double()
    truth = (torch.rand(4, slots, 5, 6) > 0.6).double() * weights[..., None, None]
    losses = matching_loss(masks, logits, truth, weights, steps, 0.7)
    for b, n in enumerate(counts):
        expected = least(masks[b], logits[b], truth[b, :n], int(steps[b]), 0.7)
        torch.testing.assert_close(losses[b], expected, rtol=1e-6, atol=1e-6)


def test_the_gradient_is_the_released_one() -> None:
    mask = torch.rand(1, 1, 5, 6, dtype=torch.double, requires_grad=True)
    truth = (torch.rand(1, 1, 5, 6) > 0.5).double()
    one = torch.ones(1, 1, dtype=torch.double)
    matching_loss(mask, one, truth, one, torch.tensor([1]), 1.0).sum().backward()
    y, shared = truth[0, 0], (mask * truth).sum().detach()
    union = mask.sum().detach() + y.sum() - shared
    released = -(union * y - (1 - y) * shared) / union**2  # MatchCriterion.lua
    torch.testing.assert_close(mask.grad[0, 0], released, rtol=1e-6, atol=1e-8)


def batch_of(counts: list[int], slots: int = 4) -> InstanceBatch:
    """Images of noise with so many objects, each a box of its own."""
    frames = torch.randn(len(counts), 3, 16, 24)
    masks = torch.zeros(len(counts), slots, 16, 24, dtype=torch.uint8)
    weights = torch.zeros(len(counts), slots)
    for b, n in enumerate(counts):
        for o in range(n):
            masks[b, o, 2:12, 6 * o : 6 * o + 5] = 1
            weights[b, o] = 1
    boxes, categories = torch.zeros(len(counts), slots, 4), weights.long()
    return InstanceBatch(frames, masks, categories, boxes, weights)


def test_images_of_a_batch_do_not_mix_and_one_without_objects_teaches_to_stop() -> None:
    torch.manual_seed(0)
    module, batch = training(small()), batch_of([3, 0, 1])
    losses, steps = module.losses_of(batch, 4)
    assert steps.tolist() == [4, 2, 3]
    for b in range(3):
        alone, _ = module.losses_of(InstanceBatch(*(part[b : b + 1] for part in batch)), 4)
        torch.testing.assert_close(losses[b], alone[0])
    _, logits = module.model(batch.frames[1:2], 2)
    torch.testing.assert_close(losses[1], F.softplus(logits[0]).sum())  # -log(1 - s)
    losses[1].backward()
    assert module.model.head.confidence.bias.grad > 0


def test_sequences_grow_where_the_loss_is_stable_and_go_on_from_a_checkpoint() -> None:
    module = training(small(slots=3), 9, 3, curriculum=Curriculum(start=2, growth=2, patience=1))
    trainer = SimpleNamespace(callback_metrics={}, current_epoch=0, should_stop=False)
    module._trainer = trainer  # type: ignore[assignment]
    lengths = []
    for trainer.current_epoch, loss in enumerate([2.0, 1.5, 1.499, 1.8, 1.8, 1.7]):
        trainer.callback_metrics = {"train/loss": torch.tensor(loss)}
        module.on_train_epoch_end()
        lengths.append(module.longest)
    assert lengths == [2, 2, 4, 4, 5, 5]  # at most 3 objects and 2 more steps
    kept: dict[str, Any] = {}
    module.on_save_checkpoint(kept)
    again = training(small(slots=3))
    again.on_load_checkpoint(kept)
    assert again.longest == 5 and again.losses == module.losses
    assert training(small(slots=3), curriculum=Curriculum(start=0)).longest == 5


class Scripted:
    """Yields soft masks whose pixels have one value in a box and 0.1 elsewhere, with given confidences."""

    def __init__(self, *steps: tuple[float, float, tuple[slice, slice]]) -> None:
        self.steps = steps

    def objects(self, images: Tensor) -> Any:
        assert images.shape == (1, 3, 8, 16)
        for score, value, box in self.steps:
            mask = torch.full((1, 8, 16), 0.1)
            mask[0][box] = value
            yield mask, torch.logit(torch.tensor([score]))


LEFT, MIDDLE = (slice(None), slice(0, 8)), (slice(None), slice(4, 12))


@pytest.mark.parametrize(
    ("fields", "areas"),
    [
        ({}, [128, 64]),
        ({"overlaps": "kept"}, [128, 128, 128]),
        ({"threshold": 0.5}, [128, 64, 64]),
        ({"stop": 0.2, "overlaps": "kept"}, [128, 128, 128, 128]),
        ({"steps": 1}, [128]),
    ],
)
def test_it_finds_objects_until_it_is_not_sure(fields: dict[str, Any], areas: list[int]) -> None:
    rest = (slice(None), slice(12, 16))
    network: Any = Scripted(
        (0.9, 1.0, LEFT), (0.8, 1.0, MIDDLE), (0.7, 1.0, LEFT), (0.6, 0.6, rest), (0.3, 1.0, LEFT)
    )
    found = Detector(network, InstancePrediction(**fields), (8, 16))(np.zeros((16, 16, 3), np.uint8))
    assert found.masks.shape[1:] == (16, 16) and found.masks.dtype == bool
    assert found.masks.sum((1, 2)).tolist() == areas
    assert found.scores.tolist() == sorted(found.scores, reverse=True) and set(found.categories) == {0}


def test_it_may_find_nothing() -> None:
    network: Any = Scripted((0.4, 1.0, LEFT))
    found = Detector(network, InstancePrediction(), (8, 16))(np.zeros((9, 7, 3), np.uint8))
    assert found.masks.shape == (0, 9, 7) and len(found.scores) == len(found.categories) == 0
