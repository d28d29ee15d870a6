"""A trained network on images: what it finds on disk, its scores, and the zip that COCO's server takes.

Shapes: N instances of an image of h x w pixels.
"""

import json
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Picture

from vos_lightning.atomic import replacing, write_text
from vos_lightning.data.images import Shown
from vos_lightning.data.instances import ALL, Detections, Image
from vos_lightning.evaluation.pictures import labelled
from vos_lightning.evaluation.videos import Timing, clear
from vos_lightning.scoring.instances import decoded, encoded
from vos_lightning.scoring.rules import Rules

MOST_IDS = 254  # of a mask; 255 is void


class InstanceEvaluation:
    """Finds instances in images.

    Args:
        detect: what a network that is ready finds in an image (h, w, 3) uint8 RGB, at its size.
        categories: the names of categories 1, 2, ...

    Attributes:
        timings: what each image so far has cost.
    """

    def __init__(self, detect: Callable[[np.ndarray], Detections], categories: Sequence[str] = ()) -> None:
        self.detect, self.names = detect, dict(enumerate(categories, 1))
        self.timings: list[Timing] = []

    def check(self, images: Sequence[Image]) -> None:
        """Nothing is refused beyond what a training's examples refuse."""

    def write(self, image: Image, folder: Path) -> Iterator[Detections]:
        """Yields the detections of an image and writes them to folder/NAME.json and folder/NAME.png.

        The first holds a list in COCO's result format, in the order of `detect`. The second shows the masks
        with their places in that list from 1 on, categories and scores.
        """
        folder.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        frame = image.frame()
        found = self.detect(frame)
        self.timings.append(Timing(image.name, 1, time.monotonic() - started))
        with replacing(folder / f"{image.name}.json", durable=False) as part:
            part.write_text(json.dumps(self.entries(image, found)) + "\n", encoding="utf-8")
        picture = labelled(frame, found.masks, self._labels(found))
        with replacing(folder / f"{image.name}.png", durable=False) as part:
            Picture.fromarray(picture).save(part, "PNG", compress_level=1)
        yield found

    def entries(self, image: Image, found: Detections) -> list[dict[str, Any]]:
        """Detections in COCO's result format, in which overlapping masks stay as they are.

        The ids of the image and of categories are those of the data set's own file, or else the image's name
        and 1, 2, ... A detection without a category has the id of the file's only category, or else 0, which
        the format leaves free.
        """
        rows = zip(encoded(found.masks), found.scores.tolist(), found.categories.tolist(), strict=True)
        ids = dict(enumerate(image.category_ids, 1))
        if len(ids) == 1:
            ids[0] = ids[1]
        return [
            {
                "image_id": _id(image),
                "category_id": ids.get(category, category),
                "segmentation": region,
                "score": score,
            }
            for region, score, category in rows
        ]

    def _labels(self, found: Detections) -> list[str]:
        rows = zip(found.categories.tolist(), found.scores.tolist(), strict=True)
        return [
            " ".join(filter(None, (str(number), self.names.get(category), f"{score:.2f}")))
            for number, (category, score) in enumerate(rows, 1)
        ]

    def score(self, images: Sequence[Image], rules: Rules, folder: Path) -> dict[str, Any]:
        """Finds and scores the instances of images; see `write` for what stays in the folder.

        Returns:
            What `rules` makes of the scores of all images.
        """
        return rules.summary([rules.score(image, [found]) for image, found in self._all(images, folder)])

    def submit(self, images: Sequence[Image], archive: Path) -> Path:
        """Finds the instances of images and zips detections.json for COCO's server."""
        folder = archive.with_suffix("")
        for _ in self._all(images, folder):
            pass
        with replacing(archive) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as file:
            file.write(folder / ALL, ALL)
        return archive

    def _all(self, images: Sequence[Image], folder: Path) -> Iterator[tuple[Image, Detections]]:
        """Yields images with what is found in them; at the end the folder's detections.json holds it all."""
        clear(folder)
        entries = []
        for image in images:
            for found in self.write(image, folder):
                entries += self.entries(image, found)
                yield image, found
        write_text(folder / ALL, json.dumps(entries) + "\n")

    def shown(self, image: Image, folder: Path) -> list[Shown]:
        """The image with what `write` found in it, numbered, the first on top."""
        frame = image.frame()
        ids = np.zeros(frame.shape[:2], np.uint8)
        entries = json.loads((folder / f"{image.name}.json").read_text(encoding="utf-8"))
        for number, entry in reversed(list(enumerate(entries[:MOST_IDS], 1))):
            ids[decoded([entry["segmentation"]])[0]] = number
        return [Shown(image.name, frame, ids)]


def _id(image: Image) -> int | str:
    return image.name if image.number is None else image.number
