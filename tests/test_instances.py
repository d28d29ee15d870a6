"""Scores, files and pictures of instances found in images."""

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy.ndimage import binary_dilation

from vos_lightning.data.image_sets import Voc2012
from vos_lightning.data.instances import Detections, Image, Instances
from vos_lightning.data.videos import Given
from vos_lightning.errors import InputError
from vos_lightning.evaluation.instances import InstanceEvaluation
from vos_lightning.models.catalogue import MODELS
from vos_lightning.scoring.rules import InstanceRules, rules_of

SIZE = (40, 60)
BOXES = ((0, 0, 10, 10), (20, 5, 12, 20), (2, 40, 30, 15))  # top, left, height, width


@dataclass(frozen=True)
class Known:
    """An annotation in memory."""

    instances: Instances

    def read(self, size: tuple[int, int]) -> Instances:
        assert size == self.instances.void.shape
        return self.instances

    def described(self) -> str:
        return ""


def boxes(*found: tuple[int, int, int, int]) -> np.ndarray:
    masks = np.zeros((len(found), *SIZE), bool)
    for mask, (top, left, height, width) in zip(masks, found, strict=True):
        mask[top : top + height, left : left + width] = True
    return masks


def instances(masks: np.ndarray, categories: Sequence[int] = (), crowd: Sequence[int] = ()) -> Instances:
    """Of category 1, none a crowd, unless said otherwise."""
    flags = np.isin(np.arange(len(masks)), crowd)
    return Instances(masks, np.array(categories or [1] * len(masks)), flags, np.zeros(SIZE, bool))


def detections(masks: np.ndarray, scores: Sequence[float] = (), categories: Sequence[int] = ()) -> Detections:
    """Of category 1 and falling scores unless said otherwise."""
    falling = np.linspace(0.9, 0.5, len(masks))
    return Detections(
        masks, np.array(scores or falling), np.array(categories or [1] * len(masks), dtype=np.int64)
    )


@pytest.fixture
def image(tmp_path):
    """Makes images of annotations, on disk."""

    def make(annotation: Instances, name: str = "one", number: int | None = None) -> Image:
        path = tmp_path / f"{name}.png"
        noise = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
        Picture.fromarray(noise).save(path)
        return Image(name, path, Known(annotation), number)

    return make


def scored(image: Image, found: Detections, categories: tuple[str, ...] = ()) -> dict:
    rules = InstanceRules(categories)
    return rules.summary([rules.score(image, [found])])


# --- AP by hand ------------------------------------------------------------------------------------------


def test_perfect_detections(image):
    found = scored(image(instances(boxes(*BOXES))), detections(boxes(*BOXES)))
    expected = {"AP": 1, "AP50": 1, "SBD": 1, "count_error": 0, "count_difference": 0}
    assert {key: found[key] for key in expected} == pytest.approx(expected)


def test_a_duplicate_costs_precision_where_it_is_surer_than_another(image):
    """Sure, its duplicate, then the other: recall to 0.5 at precision 1, the rest at 2/3."""
    first, second, _ = BOXES
    found = scored(image(instances(boxes(first, second))), detections(boxes(first, first, second)))
    assert found["AP50"] == pytest.approx((51 * 1 + 50 * 2 / 3) / 101)  # recalls 0, 0.01, ..., 1
    assert (found["count_error"], found["count_difference"]) == (1, 1)


def test_a_miss_costs_recall(image):
    first, second, _ = BOXES
    found = scored(image(instances(boxes(first, second))), detections(boxes(first)))
    assert found["AP"] == pytest.approx(51 / 101)
    assert (found["count_error"], found["count_difference"]) == (1, -1)


def test_a_looser_box_counts_up_to_its_iou(image):
    """An IoU of 8/10 passes at 0.5, 0.55, ..., 0.8: seven of the ten."""
    found = scored(image(instances(boxes((0, 0, 10, 10)))), detections(boxes((0, 0, 8, 10))))
    assert (found["AP"], found["AP50"], found["AP75"]) == pytest.approx((0.7, 1, 1))
    assert found["SBD"] == pytest.approx(2 * 80 / 180)


def test_categories_are_respected_if_there_are_several(image):
    first, second, _ = BOXES
    there = image(instances(boxes(first, second), [1, 2]))
    found = detections(boxes(first, second), categories=[1, 1])
    assert scored(there, found)["AP"] == pytest.approx(1)
    with_names = scored(there, found, ("person", "dog", "cat"))
    assert with_names["per_category"]["person"]["AP"] == pytest.approx(1)
    assert with_names["per_category"]["dog"]["AP"] == 0
    assert with_names["per_category"]["cat"]["AP"] is None  # it does not occur
    assert with_names["AP"] == pytest.approx(0.5)
    assert with_names["AP_agnostic"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "fields", "classifies"),
    [("ris", {}, False), ("rsis", {"classes": 1}, False), ("rsis", {"classes": 20}, True)],
)
def test_a_model_that_finds_no_categories_is_scored_without(image, name, fields, classifies):
    model = MODELS[name]
    data_set = Voc2012(name="voc2012", root="")
    rules = rules_of(data_set, Given.NOTHING, model.classifies(model.fields(**fields)))
    there = image(instances(boxes(*BOXES), [3, 5, 5]))
    found = detections(boxes(*BOXES), categories=[0] * len(BOXES))
    scores = rules.summary([rules.score(there, [found])])
    assert scores["AP"] == (0 if classifies else pytest.approx(1))
    assert ("class-agnostic" in scores["protocol"]) != classifies


def test_a_detection_without_category_is_written_as_the_only_one_or_none(image):
    there, found = image(instances(boxes())), detections(boxes(BOXES[0]), categories=[0])
    evaluation = InstanceEvaluation(lambda frame: found)
    for ids, written in (((18,), 18), ((1, 18), 0), ((), 0)):
        (entry,) = evaluation.entries(replace(there, category_ids=ids), found)
        assert entry["category_id"] == written


def test_crowds_and_void_count_for_nothing(image):
    first, second, third = BOXES
    there = instances(boxes(first, third), crowd=[1])
    there.void[:] = boxes(second)[0]
    inside = (third[0] + 1, third[1] + 1, 5, 5)
    wide = (first[0], first[1], 10, 10)
    masks = boxes(inside, second, wide)
    masks[2] |= there.void  # reaches into void
    found = scored(image(there), detections(masks))
    assert (found["AP"], found["SBD"], found["count_error"]) == pytest.approx((1, 1, 0))
    assert found["per_image"]["one"] == {"SBD": 1, "objects": 1, "found": 1}


def test_images_without_objects_or_detections(image):
    """The CVPPP evaluation gives a symmetric best Dice of 0 where either side has no label."""
    none, some = instances(boxes()), instances(boxes(*BOXES[:2]))
    for there, masks, error in ((none, boxes(), 0), (none, boxes(BOXES[0]), 1), (some, boxes(), 2)):
        found = scored(image(there), detections(masks))
        assert (found["SBD"], found["count_error"]) == (0, error)
        assert found["AP"] == (None if there is none else 0)


# --- random instances ------------------------------------------------------------------------------------


def random_masks(rng: np.random.Generator, count: int) -> np.ndarray:
    """Boxes that may overlap, with holes."""
    tops, lefts = rng.integers(0, 30, count), rng.integers(0, 50, count)
    sizes = rng.integers(3, 12, (count, 2))
    found = boxes(*zip(tops, lefts, *sizes.T, strict=True))
    return found & (rng.random(found.shape) < 0.95)


@pytest.fixture
def split(image):
    """Images with some instances, of which some are crowds, and detections that are near to some."""
    rng, found = np.random.default_rng(3), []
    for number in range(12):
        count, more = rng.integers(0, 6), rng.integers(0, 3)
        masks, categories = random_masks(rng, count), rng.integers(1, 4, count)
        there = instances(masks, categories.tolist(), np.flatnonzero(rng.random(count) < 0.2))
        kept = np.flatnonzero(rng.random(count) < 0.8)
        near = [np.roll(masks[i], rng.integers(0, 3), 1) for i in kept]
        predicted = np.array([*near, *random_masks(rng, more)], bool).reshape(-1, *SIZE)
        known = [*categories[kept].tolist(), *rng.integers(1, 4, more).tolist()]
        named = image(there, f"image {number}", 100 + number)
        found.append((named, detections(predicted, rng.random(len(known)).tolist(), known)))
    return found


def evaluated(split, names: tuple[str, ...], folder: Path) -> tuple[InstanceEvaluation, dict]:
    """An evaluation that finds these detections, and its scores."""
    waiting = iter(found for _, found in split)
    evaluation = InstanceEvaluation(lambda frame: next(waiting), names)
    return evaluation, evaluation.score([image for image, _ in split], InstanceRules(names), folder)


def test_AP_is_that_of_pycocotools_run_on_files(split, tmp_path, capsys):
    names = ("a", "b", "c")
    _, scores = evaluated(split, names, tmp_path / "masks")
    assert not capsys.readouterr().out
    images = [{"id": i.number, "height": SIZE[0], "width": SIZE[1]} for i, _ in split]
    annotations = []
    for image, _ in split:
        there = image.annotation.instances
        for mask, category, crowd in zip(there.masks, there.categories, there.crowd, strict=True):
            region = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
            entry = {"image_id": image.number, "category_id": int(category), "iscrowd": int(crowd)}
            entry |= {"id": len(annotations) + 1, "area": int(mask.sum())}
            annotations.append(entry | {"segmentation": {**region, "counts": region["counts"].decode()}})
    truth = tmp_path / "truth.json"
    categories = [{"id": k, "name": name} for k, name in enumerate(names, 1)]
    truth.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    coco = COCO(str(truth))
    evaluation = COCOeval(coco, coco.loadRes(str(tmp_path / "masks" / "detections.json")), "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert 0.1 < scores["AP"] < 0.9
    keys = ("AP", "AP50", "AP75")
    assert [scores[key] for key in keys] == pytest.approx(evaluation.stats[:3].tolist(), abs=1e-12)


def slow_best_dice(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> float:
    total = 0.0
    for a in first:
        total += max((2 * (a & b).sum() / (a.sum() + b.sum()) for b in second), default=0)
    return total / len(first) if len(first) else 0.0


def test_best_dice_and_count_are_those_of_the_direct_formula(split):
    rules = InstanceRules()
    scores = rules.summary([rules.score(image, [found]) for image, found in split])
    dice, differences = [], []
    for image, found in split:
        there = image.annotation.instances
        crowd = there.masks[there.crowd].any(0)
        truth = there.masks[~there.crowd]
        predicted = [mask for mask in found.masks if (mask & crowd).sum() < mask.sum() / 2]
        dice.append(min(slow_best_dice(truth, predicted), slow_best_dice(predicted, truth)))
        differences.append(len(predicted) - len(truth))
    assert scores["SBD"] == pytest.approx(np.mean(dice), abs=1e-12)
    assert scores["count_error"] == pytest.approx(np.mean(np.abs(differences)))
    assert scores["count_difference"] == pytest.approx(np.mean(differences))
    assert [row["SBD"] for row in scores["per_image"].values()] == pytest.approx(dice)


# --- files -----------------------------------------------------------------------------------------------


def test_files_hold_overlapping_masks_as_they_were_found(split, tmp_path):
    evaluation, _ = evaluated(split, (), tmp_path / "masks")
    everything = json.loads((tmp_path / "masks" / "detections.json").read_text())
    assert any((found.masks.sum(0) > 1).any() for _, found in split)
    for image, found in split:
        entries = json.loads((tmp_path / "masks" / f"{image.name}.json").read_text())
        assert entries == [entry for entry in everything if entry["image_id"] == image.number]
        for entry, mask in zip(entries, found.masks, strict=True):
            assert np.array_equal(rle.decode(entry["segmentation"]), mask)
        assert [entry["score"] for entry in entries] == found.scores.tolist()
        (shown,) = evaluation.shown(image, tmp_path / "masks")
        assert np.array_equal(shown.ids > 0, found.masks.any(0))
    assert [timing.frames for timing in evaluation.timings] == [1] * len(split)


def test_pictures_tint_the_masks_and_leave_the_rest(image, tmp_path):
    masks = boxes((4, 4, 30, 20), (10, 15, 20, 40))
    there = image(instances(masks))
    frame = np.full((*SIZE, 3), 200, np.uint8)
    Picture.fromarray(frame).save(there.file)
    evaluation = InstanceEvaluation(lambda frame: detections(masks))
    (found,) = evaluation.write(there, tmp_path)
    picture = np.asarray(Picture.open(tmp_path / "one.png"))
    assert picture.shape[1] >= 480 and picture.shape[1] % SIZE[1] == 0
    times = picture.shape[1] // SIZE[1]
    small = picture[times // 2 :: times, times // 2 :: times]
    outside = ~binary_dilation(found.masks.any(0), np.ones((3, 3)))  # and not on an outline
    assert (small[outside] == 200).all()
    tinted = small[found.masks[0] & ~found.masks[1]]
    assert (tinted != 200).any(1).mean() > 0.9


@pytest.mark.parametrize("name", ["detections", "n" * 251, "é" * 126])
def test_an_image_is_refused_whose_results_could_not_be_written(name):
    with pytest.raises(InputError, match=r"^one\.png: the name of the image's results"):
        Image(name, Path("one.png"))


def test_the_zip_has_the_numbers_of_the_data_set(image, tmp_path):
    first = replace(image(instances(boxes()), "first", 139), category_ids=(1, 18))
    images = [first, image(instances(boxes()), "second")]
    evaluation = InstanceEvaluation(lambda frame: detections(boxes(BOXES[0]), categories=[2]))
    with zipfile.ZipFile(evaluation.submit(images, tmp_path / "test.zip")) as file:
        entries = json.loads(file.read("detections.json"))
    assert [entry["image_id"] for entry in entries] == [139, "second"]
    assert [entry["category_id"] for entry in entries] == [18, 2]
    (shown,) = evaluation.shown(images[1], tmp_path / "test")
    assert shown.ids.max() == 1
