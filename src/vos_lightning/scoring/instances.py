"""Scores the instances found in images: AP by pycocotools, and the measures of the papers on leaves.

AP is COCO's (Lin et al. 2014): over all areas, for at most 100 detections of a category in an image. The
papers' measures are those of the CVPPP leaf challenge (Scharr et al. 2016): symmetric best Dice and the
difference in count, both averaged over images.

Shapes: N instances of an image of h x w pixels. A region is a mask in COCO's compressed RLE.
"""

from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import Any, TypedDict

import numpy as np
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from vos_lightning.data.instances import Detections, Image

MOST = 100  # detections of a category in an image that AP takes, the surest ones


class Region(TypedDict):
    """A mask in COCO's compressed RLE: its height and width, and its runs as text."""

    size: list[int]
    counts: str


def encoded(masks: np.ndarray) -> list[Region]:
    """Masks (N, h, w) bool as regions."""
    found = rle.encode(np.asfortranarray(masks.transpose(1, 2, 0), dtype=np.uint8))
    return [{"size": region["size"], "counts": region["counts"].decode("ascii")} for region in found]


def decoded(regions: Sequence[Region]) -> np.ndarray:
    """Regions, at least one and all of one size, as masks (N, h, w) bool."""
    return rle.decode(list(regions)).transpose(2, 0, 1).astype(bool)


@dataclass(frozen=True)
class ImageScore:
    """What one image adds to the figures of all.

    truth, found: regions, each with COCO's further fields: category_id, area, iscrowd or score. sbd:
    symmetric best Dice, 0..1. true_count, found_count: instances that are there and that were found.
    """

    name: str
    size: tuple[int, int]
    truth: tuple[dict[str, Any], ...]
    found: tuple[dict[str, Any], ...]
    sbd: float
    true_count: int
    found_count: int


def score_image(image: Image, found: Detections) -> ImageScore:
    """Scores the detections of one annotated image.

    Void pixels are taken out of them first, and what then has no pixel counts for nothing. A detection that
    lies at least by half on crowds is left out of symmetric best Dice and of the count, as the crowds are.

    Raises:
        InputError: the annotation does not fit the image.
        ValueError: the image has no annotation, or the masks are not of its size.
    """
    if image.annotation is None:
        raise ValueError(f"{image.name} has no annotation")
    size = image.size()
    truth = image.annotation.read(size)
    if found.masks.shape[1:] != size:
        raise ValueError(f"{image.name}: masks {found.masks.shape[1:]} of an image {size}")
    masks = found.masks & ~truth.void
    seen = masks.any((1, 2))
    masks = masks[seen]
    there = _entries(truth.masks, truth.categories, iscrowd=truth.crowd.astype(int))
    entries = _entries(masks, found.categories[seen], score=found.scores[seen].astype(float))
    single = [entry["segmentation"] for entry in there if not entry["iscrowd"]]
    on_crowd = 2 * (masks & truth.masks[truth.crowd].any(0)).sum((1, 2)) >= masks.sum((1, 2))
    counted = [entry["segmentation"] for entry, left in zip(entries, on_crowd, strict=True) if not left]
    dice = symmetric_best_dice(single, counted)
    return ImageScore(image.name, size, there, entries, dice, len(single), len(counted))


def _entries(masks: np.ndarray, categories: np.ndarray, **more: np.ndarray) -> tuple[dict[str, Any], ...]:
    """An entry of COCO's format for each mask, with a further field, but for the ids."""
    ((key, values),) = more.items()
    rows = zip(encoded(masks), categories.tolist(), values.tolist(), strict=True)
    return tuple(
        {"segmentation": region, "area": int(rle.area(region)), "category_id": category, key: value}
        for region, category, value in rows
    )


def symmetric_best_dice(truth: Sequence[Region], found: Sequence[Region]) -> float:
    """The lower of two means, 0..1: of the best Dice of each true region, and of each found one.

    It is 0 if there is nothing on either side, also if there is nothing on both, as in the CVPPP evaluation.
    """
    if not truth or not found:
        return 0.0
    overlap = rle.iou(list(found), list(truth), [0] * len(truth))
    dice = 2 * overlap / (1 + overlap)
    return float(min(dice.max(0).mean(), dice.max(1).mean()))


def summarise(scores: Sequence[ImageScore], categories: Sequence[str] = ()) -> dict[str, Any]:
    """The figures of all images, for JSON.

    Args:
        scores: of at least one image.
        categories: the names of categories 1, 2, ...; if there are less than two, categories do not count.

    Returns:
        protocol; AP, AP50 and AP75, None if no instance is annotated; SBD; count_error, the mean absolute
        difference in count, and count_difference, the mean of what was found less what is there. per_image
        holds SBD, objects and found. With several categories AP is the mean over those that occur,
        per_category holds the three of each, and AP_agnostic and AP50_agnostic leave categories aside.
    """
    figures: dict[str, Any] = _average(_precision(scores, 1))
    if len(categories) > 1:
        precision = _precision(scores, len(categories))
        figures = {
            **_average(precision),
            **{f"{key}_agnostic": figures[key] for key in ("AP", "AP50")},
            "per_category": {name: _average(precision[..., k]) for k, name in enumerate(categories)},
        }
    differences = np.array([score.found_count - score.true_count for score in scores])
    return {
        "protocol": f"COCO's AP of masks, {_described(categories)}; best Dice and count as in CVPPP",
        **figures,
        "SBD": float(np.mean([score.sbd for score in scores])),
        "count_error": float(np.abs(differences).mean()),
        "count_difference": float(differences.mean()),
        "per_image": {
            score.name: {"SBD": score.sbd, "objects": score.true_count, "found": score.found_count}
            for score in scores
        },
    }


def _described(categories: Sequence[str]) -> str:
    return f"mean of {len(categories)} categories" if len(categories) > 1 else "class-agnostic"


def _precision(scores: Sequence[ImageScore], categories: int) -> np.ndarray:
    """COCO's precision (IoU 0.5, 0.55, ..., 0.95; recall 0, 0.01, ..., 1; category); -1 where one is absent.

    categories: how many there are; with one, all instances are of it.
    """
    with redirect_stdout(StringIO()):
        evaluation = COCOeval(
            _coco(scores, (score.truth for score in scores), categories),
            _coco(scores, (score.found for score in scores), categories),
            "segm",
        )
        params = evaluation.params
        params.maxDets, params.areaRng, params.areaRngLbl = [MOST], [params.areaRng[0]], ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"][:, :, :, 0, 0]


def _coco(scores: Sequence[ImageScore], entries: Iterable[Sequence[dict[str, Any]]], categories: int) -> COCO:
    """What pycocotools makes of a file: images are numbered as they come, entries from 1, as 0 is none."""
    coco = COCO()
    rows = [(image, entry) for image, found in enumerate(entries) for entry in found]
    agnostic = {"category_id": 1} if categories == 1 else {}
    coco.dataset = {
        "images": [{"id": i, "height": s.size[0], "width": s.size[1]} for i, s in enumerate(scores)],
        "categories": [{"id": k} for k in range(1, categories + 1)],
        "annotations": [
            {**entry, **agnostic, "id": number, "image_id": image}
            for number, (image, entry) in enumerate(rows, 1)
        ],
    }
    coco.createIndex()
    return coco


def _average(precision: np.ndarray) -> dict[str, float | None]:
    """AP, AP50 and AP75, 0..1, of precision (IoU, ...) where it is known."""
    chosen = {"AP": precision, "AP50": precision[0], "AP75": precision[5]}
    return {key: float(p[p > -1].mean()) if (p > -1).any() else None for key, p in chosen.items()}
