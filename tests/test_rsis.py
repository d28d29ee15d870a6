"""RSIS: its network against the official one, its loss and its course against slow formulas, and detection.

fixtures/rsis.npz holds what the official code (ResNet-34, hidden 128, eval mode, float32) gave in three steps
for the weights of `helpers.official_tensor` and two images of noise, every 8th row and column of the masks.
"""

import itertools
import math
import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet34

from helpers import official_tensor
from vos_lightning.data.instances import InstanceBatch
from vos_lightning.errors import InputError
from vos_lightning.layers.weights import load_strictly
from vos_lightning.models.catalogue import MODELS
from vos_lightning.models.rsis.course import Course
from vos_lightning.models.rsis.detect import SetDetection
from vos_lightning.models.rsis.fields import RSISFields, RSISPrediction, RSISTraining
from vos_lightning.models.rsis.module import SetTraining, terms_of
from vos_lightning.models.rsis.network import RSIS, Found
from vos_lightning.models.training import LossStage, Optimisation

SIZE = (96, 160)
STAGES = (LossStage(epochs=1),)


def small(**fields: Any) -> RSIS:
    """A small network of random weights."""
    torch.manual_seed(0)
    options = {"backbone": "shufflenet_v2_x0_5", "weights": "none", "hidden": 32, "steps": 4, "slots": 6}
    return RSIS(RSISFields(**(options | {"classes": 3} | fields)))


# --- the official network --------------------------------------------------------------------------------


def official_weights() -> dict[str, dict[str, Tensor]]:
    """Encoder and decoder by file, without the counts that PyTorch 0.2 did not have."""
    with torch.device("meta"):
        base = resnet34(weights=None).state_dict()
    encoder = {f"base.{k}": tuple(v.shape) for k, v in base.items() if not k.endswith("num_batches_tracked")}
    skips = {5: (512, 128), 4: (256, 128), 3: (128, 64), 2: (64, 32), 1: (64, 16)}
    for level, (inputs, outputs) in skips.items():
        encoder |= {f"sk{level}.weight": (outputs, inputs, 3, 3), f"sk{level}.bias": (outputs,)}
        encoder |= {f"bn{level}.{n}": (outputs,) for n in ("weight", "bias", "running_mean", "running_var")}
    decoder: dict[str, tuple[int, ...]] = {"conv_out.weight": (1, 8, 3, 3), "conv_out.bias": (1,)}
    for level, (gates, inputs) in enumerate([(512, 256), (256, 320), (128, 160), (64, 80), (32, 40)]):
        decoder[f"clstm_list.{level}.Gates.weight"] = (gates, inputs, 3, 3)
        decoder[f"clstm_list.{level}.Gates.bias"] = (gates,)
    for head, outputs in (("fc_class", 21), ("fc_stop", 1)):
        decoder |= {f"{head}.weight": (outputs, 248), f"{head}.bias": (outputs,)}
    files = {"encoder.pt": encoder, "decoder.pt": decoder}
    return {file: {k: official_tensor(k, s) for k, s in shapes.items()} for file, shapes in files.items()}


def test_released_files_give_the_official_outputs_and_are_not_taken_for_rvos(tmp_path: Path) -> None:
    for file, state in official_weights().items():
        torch.save({f"module.{key}": value for key, value in state.items()}, tmp_path / file)
    state = MODELS["rsis"].released(tmp_path)
    assert state is not None and MODELS["rvos"].released(tmp_path) is None
    network = RSIS(RSISFields(backbone="resnet34", weights="none")).eval()
    load_strictly(network, state, tmp_path)
    images = np.random.default_rng(0).standard_normal((2, 3, *SIZE)).astype(np.float32)
    with torch.inference_mode():
        found = network(torch.from_numpy(images), 3)
    official = np.load(Path(__file__).parent / "fixtures" / "rsis.npz")
    ours = {
        "masks": torch.sigmoid(found.masks)[..., ::8, ::8],
        "classes": torch.softmax(found.classes, 2),
        "stops": torch.sigmoid(found.stops),
    }
    for name, values in ours.items():
        np.testing.assert_allclose(values.numpy(), official[name], atol=1e-5, rtol=0)


def test_files_of_rvos_are_not_taken_for_rsis(tmp_path: Path) -> None:
    torch.save({"sk5.weight": torch.zeros(1)}, tmp_path / "encoder.pt")
    torch.save({"conv_out.bias": torch.zeros(1), "fc_stop.bias": torch.zeros(1)}, tmp_path / "decoder.pt")
    assert MODELS["rsis"].released(tmp_path) is None and MODELS["rvos"].released(tmp_path) is not None


def test_files_with_vgg_are_refused_by_name(tmp_path: Path) -> None:
    torch.save({"base.features.0.weight": torch.zeros(1)}, tmp_path / "encoder.pt")
    torch.save({"fc_class.weight": torch.zeros(1)}, tmp_path / "decoder.pt")
    with pytest.raises(InputError, match=r"encoder\.pt: its base is VGG-16"):
        MODELS["rsis"].released(tmp_path)


# --- the network -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("recurrence", [True, False])
def test_steps_differ_by_what_passes_between_them_alone(recurrence: bool) -> None:
    network = small(recurrence=recurrence, box_head=True).eval()
    images = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        longer, shorter = network(images, 4), network(images, 2)
    for more, fewer in zip(longer, shorter, strict=True):
        torch.testing.assert_close(more[:, :2], fewer)
        same = torch.allclose(more, more[:, :1].expand_as(more), atol=1e-6)
        assert same is not recurrence
    assert longer.masks.shape == (2, 4, 64, 96) and longer.boxes.shape == (2, 4, 4)


def test_more_steps_than_slots_are_refused() -> None:
    with pytest.raises(InputError, match=r"model\.steps=5: must be at most model\.slots=3\."):
        small(steps=5, slots=3)


# --- the loss --------------------------------------------------------------------------------------------


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def slow_terms(found: Found, batch: InstanceBatch, balance: float, classes: int) -> dict[str, float]:
    """The terms, each a mean over pairs or positions of all images, as lists of numbers."""
    lists: dict[str, list[float]] = {"mask": [], "class": [], "stop": [], "box": []}
    steps = found.stops.shape[1]
    assert found.boxes is not None
    for b, weights in enumerate(batch.weights):
        count = int(weights.sum())
        pairs = min(count, steps)

        def cost(p: int, o: int, b: int = b) -> float:
            soft, true = torch.sigmoid(found.masks[b, p].double()), batch.masks[b, o].double()
            both = float((soft * true).sum())
            return 1 - both / (float((soft + true).sum()) - both + 1e-6)

        chosen = min(
            itertools.permutations(range(count), pairs),
            key=lambda objects, cost=cost: sum(cost(p, o) for p, o in enumerate(objects)),
        )
        for p, o in enumerate(chosen):
            lists["mask"].append(cost(p, o))
            odds = [math.exp(x) for x in found.classes[b, p].tolist()]
            category = 1 if classes == 1 else int(batch.categories[b, o])
            lists["class"].append(-math.log(odds[category] / sum(odds)))
            edges = zip(found.boxes[b, p].tolist(), batch.boxes[b, o].tolist(), strict=True)
            lists["box"].append(sum((sigmoid(x) - y) ** 2 for x, y in edges) / 4)
        for p in range(min(count + 1, steps)):
            score = sigmoid(float(found.stops[b, p]))
            there = p < count
            lists["stop"].append(
                -(1 - balance) * math.log(score) if there else -balance * math.log(1 - score)
            )
    return {name: sum(values) / len(values) for name, values in lists.items()}


@pytest.mark.parametrize("classes", [1, 3])
def test_the_terms_are_those_of_the_best_pairs(classes: int) -> None:
    torch.manual_seed(1)
    slots, steps, counts = 4, 3, (0, 1, 2, 4)
    weights = torch.stack([(torch.arange(slots) < n).float() for n in counts])
    there = weights[..., None, None]
    batch = InstanceBatch(
        frames=torch.zeros(4, 3, 8, 8),
        masks=((torch.rand(4, slots, 8, 8) < 0.4) * there).to(torch.uint8),
        categories=torch.randint(1, 4, (4, slots)) * weights.long(),
        boxes=torch.rand(4, slots, 4) * weights[..., None],
        weights=weights,
    )
    found = Found(
        *(torch.randn(4, steps, *rest) for rest in ((8, 8), (1 + classes,), ())), torch.randn(4, steps, 4)
    )
    terms = terms_of(found, batch, 0.3)
    expected = slow_terms(found, batch, 0.3, classes)
    assert {name: float(value) for name, value in terms.items()} == pytest.approx(expected, rel=1e-4)


def test_a_batch_without_objects_teaches_nothing_but_to_stop() -> None:
    network = small()
    empty = InstanceBatch(
        torch.randn(2, 3, 64, 96),
        torch.zeros(2, 6, 64, 96, dtype=torch.uint8),
        torch.zeros(2, 6, dtype=torch.long),
        torch.zeros(2, 6, 4),
        torch.zeros(2, 6),
    )
    module = SetTraining(network, RSISTraining(stages=STAGES), Optimisation())
    terms = terms_of(module.found(empty, 4), empty, 0.5)
    module.loss(terms, ["class", "stop"]).backward()
    assert terms["mask"].item() == terms["class"].item() == 0 < terms["stop"].item()
    assert network.decoder.conv_out.weight.grad is None or not network.decoder.conv_out.weight.grad.any()
    assert network.stop_head.weight.grad is not None and network.stop_head.weight.grad.any()


# --- the course ------------------------------------------------------------------------------------------


def released_course(losses: list[float], args: RSISTraining, maxseqlen: int) -> list[tuple[Any, ...]]:
    """What the released train.py has switched on in each epoch, up to the one that ends training.

    Losses are compared anew where the encoder begins to learn in a given epoch too, which it leaves out.
    """
    use_class = use_stop = update_encoder = False
    limit, best, patience, epochs = 2 if args.curriculum else maxseqlen, 1000.0, 0, []
    for epoch, loss in enumerate(losses):
        if epoch >= args.finetune_after != -1 and not update_encoder:
            update_encoder, best, patience = True, 1000.0, 0
        if epoch >= args.class_loss_after != -1 and not use_class:
            use_class, best, patience = True, 1000.0, 0
        late = not args.curriculum or limit > args.min_steps
        if epoch >= args.stop_loss_after != -1 and not use_stop and late:
            use_stop, best, patience = True, 1000.0, 0
        epochs.append((update_encoder, use_class, use_stop, limit))
        if loss < best:
            best, patience = loss, 0
        else:
            patience += 1
        if patience > args.patience and not use_class and args.class_loss_after != -1:
            use_class, best, patience = True, 1000.0, 0
        if patience > args.patience and args.curriculum and limit < maxseqlen:
            limit, best, patience = limit + 1, 1000.0, 0
        if patience > args.patience and not update_encoder and args.finetune_after != -1:
            update_encoder, best, patience = True, 1000.0, 0
        late = not args.curriculum or limit > args.min_steps
        if patience > args.patience and not use_stop and args.stop_loss_after != -1 and late:
            use_stop, best, patience = True, 1000.0, 0
        if patience > args.end_patience:
            break
    return epochs


@pytest.mark.parametrize("seed", range(20))
def test_the_course_is_that_of_the_released_code(seed: int) -> None:
    draw = random.Random(seed)
    names = ("finetune_after", "class_loss_after", "stop_loss_after")
    fields: dict[str, Any] = {name: draw.choice([-1, 0, 5, 20, 3000]) for name in names}
    fields |= {"curriculum": draw.random() < 0.6, "min_steps": draw.choice([1, 3])}
    training = RSISTraining(stages=STAGES, patience=draw.choice([0, 2]), end_patience=6, **fields)
    losses = [draw.random() + 2 / (1 + epoch % 25) for epoch in range(120)]
    course, seen = Course(training, 5, boxes=False), []
    for epoch, loss in enumerate(losses):
        course.begin(epoch)
        seen.append((*(name in course.entered for name in ("backbone", "class", "stop")), course.steps))
        again = Course(training, 5, boxes=False)  # as a run that goes on from a checkpoint
        again.load_state_dict(course.state_dict())
        course = again
        if course.end(loss):
            break
    assert seen == released_course(losses, training, 5)


def test_a_checkpoint_keeps_the_course_and_the_backbone_waits_for_its_epoch() -> None:
    training = RSISTraining(stages=STAGES, curriculum=True, finetune_after=1, class_loss_after=0)
    module = SetTraining(small(), training, Optimisation())
    module.on_train_epoch_start()
    backbone = module.model.encoder.backbone
    assert not any(p.requires_grad for p in backbone.parameters()) and module.course.steps == 2
    assert all(p.requires_grad for p in module.model.encoder.skips.parameters())
    module.course.end(0.5)
    module.course.begin(1)
    checkpoint: dict[str, Any] = {}
    module.on_save_checkpoint(checkpoint)
    other = SetTraining(small(), training, Optimisation())
    other.on_load_checkpoint(checkpoint)
    assert vars(other.course) == vars(module.course) and "backbone" in other.course.entered
    other.on_train_epoch_start()
    assert all(p.requires_grad for p in other.model.encoder.backbone.parameters())


# --- detection -------------------------------------------------------------------------------------------


class Known(nn.Module):
    """A network that finds a left half, a dot, a right half and all, at 32x64."""

    steps = 4

    def forward(self, images: Tensor, steps: int) -> Found:
        assert images.shape == (1, 3, 32, 64) and steps == 4
        masks = torch.full((1, 4, 32, 64), -20.0)
        masks[0, 0, :, :32] = masks[0, 1, :2, :1] = masks[0, 2, :, 32:] = masks[0, 3] = 20
        classes = torch.tensor([[0.2, 0.5, 0.3], [0.2, 0.5, 0.3], [0.5, 0.1, 0.4], [0.1, 0.2, 0.7]]).log()
        stops = torch.logit(torch.tensor([0.9, 0.8, 0.4, 0.6]))
        return Found(masks, classes[None], stops[None], None)


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({}, [("left", 0.45, 1)]),
        ({"min_size": 0.0}, [("left", 0.45, 1), ("dot", 0.4, 1)]),
        ({"ends_at_stop": False}, [("left", 0.45, 1), ("all", 0.42, 2)]),
        ({"stop": 0.3}, [("left", 0.45, 1), ("right", 0.16, 2), ("all", 0.42, 2)]),
        ({"stop": 0.95}, []),
    ],
)
def test_objects_are_found_at_the_size_of_the_image(fields: dict[str, Any], found: list[Any]) -> None:
    network: Any = Known()
    prediction = replace(RSISPrediction(min_size=0.01), **fields)
    detections = SetDetection(network, prediction, (32, 64), "cpu")(np.zeros((100, 90, 3), np.uint8))
    kinds = {(True, False): "left", (False, True): "right", (True, True): "all", (False, False): "dot"}
    halves = [(mask[10:, 5:40].all(), mask[10:, 50:85].all()) for mask in detections.masks]
    assert detections.masks.shape[1:] == (100, 90) and detections.masks.dtype == bool
    assert [kinds[half] for half in halves] == [name for name, _, _ in found]
    assert detections.scores.tolist() == pytest.approx([score for _, score, _ in found])
    assert detections.categories.tolist() == [category for _, _, category in found]


def test_a_network_of_one_category_gives_none() -> None:
    detect = SetDetection(
        small(classes=1).eval(), RSISPrediction(stop=0.0, mask=0.0, min_size=0.0), SIZE, "cpu"
    )
    detections = detect(np.zeros((20, 30, 3), np.uint8))
    assert len(detections) and not detections.categories.any()


def test_a_data_set_with_more_categories_than_the_network_is_refused() -> None:
    def evaluation(classes: int) -> Any:
        data_set = SimpleNamespace(name="pets", categories=("ape", "bee", "cat", "dog"))
        experiment: Any = SimpleNamespace(
            data_set=data_set, prediction=RSISPrediction(), examples=SimpleNamespace(size=SIZE)
        )
        return MODELS["rsis"].evaluation(small(classes=classes), experiment, "cpu")

    with pytest.raises(InputError, match=r"model\.classes=3: data\.name=pets has 4 categories"):
        evaluation(3)
    assert evaluation(4).names == {1: "ape", 2: "bee", 3: "cat", 4: "dog"}
    assert evaluation(1).names == {}
