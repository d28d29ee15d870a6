"""Training examples of images with their instances: one image each, resized, augmented and batched.

Shapes: see `instances`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from torch.utils.data import Dataset

from vos_lightning.data.checked import check_each
from vos_lightning.data.clips import Augmentation, EpochSampler, FixedSampler, normalise
from vos_lightning.data.examples import Examples
from vos_lightning.data.images import resize_labels
from vos_lightning.data.instances import Annotation, Image, InstanceBatch, boxes_of
from vos_lightning.data.small_frames import FrameCache, read_colours
from vos_lightning.errors import InputError
from vos_lightning.fields import Where, choice, pair_or, real

AUGMENTED = Where("augment", True)


class InstanceDataset(Dataset[InstanceBatch]):
    """Images with their instances at the network's size; crowds and void are background.

    An image has its largest instances, counted at that size after augmentation. One that has vanished by
    then is left out.

    Args:
        images: with annotations.
        size: (H, W) of the network's input.
        slots: O, how many instances an example has at most.
        augmentation: None for images as they are.
        seed: with the epoch and the image's index it decides the augmentation.
        cache: keeps the resized images; None decodes them every time.
    """

    def __init__(
        self,
        images: Sequence[Image],
        size: tuple[int, int],
        slots: int,
        augmentation: Augmentation | None,
        seed: int,
        cache: FrameCache | None = None,
    ) -> None:
        self.images, self.size, self.slots, self.cache = images, size, slots, cache
        self.augmentation, self.seed = augmentation, seed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: tuple[int, int]) -> InstanceBatch:
        """The image at (epoch, index). Raises InputError for files that cannot be read."""
        epoch, index = key
        image = self.images[index]
        frames = normalise(read_colours(image.file, self.size, self.cache)[None])
        found = _annotation(image).read(image.size())
        small = [resize_labels(mask.astype(np.uint8), self.size) for mask in found.masks[~found.crowd]]
        masks = torch.from_numpy(np.array(small, np.uint8).reshape(-1, *self.size))
        if self.augmentation is not None:
            rng = np.random.default_rng((self.seed, epoch, index))
            frames, masks = self.augmentation(frames, masks, rng)
        return self._batch(frames[0], masks.numpy(), found.categories[~found.crowd])

    def _batch(self, frame: torch.Tensor, masks: np.ndarray, categories: np.ndarray) -> InstanceBatch:
        """The slots of masks (N, H, W) and categories (N,), see `InstanceBatch`."""
        areas = masks.sum((1, 2), dtype=np.int64)
        order = np.argsort(-areas, kind="stable")[: min(int((areas > 0).sum()), self.slots)]
        filled = np.zeros((self.slots, *self.size), np.uint8)
        named = np.zeros(self.slots, np.int64)
        filled[: len(order)], named[: len(order)] = masks[order], categories[order]
        weights = (torch.arange(self.slots) < len(order)).float()
        boxes = torch.from_numpy(boxes_of(filled))
        return InstanceBatch(frame, torch.from_numpy(filled), torch.from_numpy(named), boxes, weights)

    def name(self, key: tuple[int, int]) -> str:
        """The image at (epoch, index)."""
        return self.images[key[1]].name


@dataclass(frozen=True, kw_only=True)
class InstanceImages(Examples):
    """Images with their instances, each once an epoch.

    image_warp, rotation, translation, shear, zoom, border: see `Augmentation`.
    """

    kind = Image

    image_warp: Annotated[str, choice("nearest", "bilinear"), AUGMENTED] = "nearest"
    rotation: Annotated[float, real(0, 180), AUGMENTED] = 10.0
    translation: Annotated[float, real(0, 1), AUGMENTED] = 0.1
    shear: Annotated[float, real(0, 80), AUGMENTED] = 0.1
    zoom: Annotated[tuple[float, float], pair_or(real(0.01, 100), alone=False, ordered=True), AUGMENTED] = (
        0.7,
        1.4,
    )
    border: Annotated[str, choice("border", "zeros"), AUGMENTED] = "border"

    def usable(self, samples: Sequence[Image], split: str) -> Sequence[Image]:
        """Those with an instance."""
        found = [image for image in samples if image.annotation is not None and image.annotation.count]
        if not found:
            raise InputError(
                f"Data split {split}: none of its {len(samples)} images has an instance; "
                "check its annotations."
            )
        return found

    def check(self, samples: Sequence[Image], slots: int, cache: FrameCache | None, split: str) -> None:
        """Reads every image and its annotation; more instances than slots are no error."""

        def check(image: Image) -> None:
            size = image.frame().shape[:2]
            if image.annotation is not None:
                image.annotation.read(size)

        check_each(samples, check, "readable instances", cache, split)

    def training(
        self, samples: Sequence[Image], slots: int, seed: int, cache: FrameCache | None
    ) -> InstanceDataset:
        """The images, augmented. A line says how many have more instances than slots."""
        crowded = [image for image in samples if _annotation(image).count > slots]
        if crowded:
            print(
                f"{len(crowded)} of {len(samples)} training images have more than {slots} instances, of "
                f"which the {slots} largest are trained on; the first is {crowded[0].file}.",
                flush=True,
            )
        warp = Augmentation(
            rotation=self.rotation,
            translation=self.translation,
            shear=self.shear,
            zoom=self.zoom,
            image_warp=self.image_warp,
            border=self.border,
        )
        return InstanceDataset(samples, self.size, slots, warp if self.augment else None, seed, cache)

    def order(
        self, count: int, seed: int, start: tuple[int, int], every_frame: Callable[[int], bool]
    ) -> EpochSampler:
        """All images in random order."""
        return EpochSampler(count, seed, start)

    def validation(
        self, samples: Sequence[Image], slots: int, seed: int, cache: FrameCache | None
    ) -> tuple[InstanceDataset, FixedSampler]:
        """The images as they are."""
        images = InstanceDataset(samples, self.size, slots, None, seed, cache)
        return images, FixedSampler(len(images), self.val_clips)


def _annotation(image: Image) -> Annotation:
    """Raises InputError if there is none."""
    if image.annotation is None:
        raise InputError(f"{image.file}: has no annotation; leave it out of the split.")
    return image.annotation
