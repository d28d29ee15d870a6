"""Reads the instances of Pascal VOC 2012 in its public tree.

Shapes: see `instances`.

    ROOT/ImageSets/Segmentation/{train,val,trainval,test}.txt    names
    ROOT/JPEGImages/NAME.jpg    ROOT/SegmentationObject/NAME.png    ROOT/SegmentationClass/NAME.png

The values of a mask are the numbers of objects, or of their categories; 255 is void.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from vos_lightning.data.files import File, file_size, read_names
from vos_lightning.data.images import VOID, read_mask
from vos_lightning.data.instances import Image, Instances
from vos_lightning.data.small_frames import check_sizes
from vos_lightning.errors import InputError

CATEGORIES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable"),
    *("dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)


@dataclass(frozen=True)
class VocAnnotation:
    """The two masks of an image.

    objects, classes: the files. names: of the categories that are taken; objects of others are left out.
    """

    objects: Path
    classes: Path
    names: tuple[str, ...]

    @property
    def files(self) -> tuple[File, ...]:
        """The two masks."""
        return self.objects, self.classes

    @cached_property
    def count(self) -> int:
        """How many objects there are."""
        return len(self.read(read_mask(self.objects).shape))

    def read(self, size: tuple[int, ...]) -> Instances:
        """The objects, each of the category that most of its pixels have.

        Raises InputError for a mask of another size (h, w), or an object without a category.
        """
        objects, classes = (read_mask(file) for file in self.files)
        for file, mask in zip(self.files, (objects, classes), strict=True):
            check_sizes(file, mask.shape, size)
        ids = [i for i in np.unique(objects).tolist() if i not in (0, VOID)]
        found = [(i, self._category(i, classes[objects == i])) for i in ids]
        taken = [(i, self.names.index(name) + 1) for i, name in found if name in self.names]
        return Instances(
            masks=np.array([objects == i for i, _ in taken], bool).reshape(-1, *objects.shape),
            categories=np.array([category for _, category in taken], np.int64),
            crowd=np.zeros(len(taken), bool),
            void=objects == VOID,
        )

    def _category(self, i: int, values: np.ndarray) -> str:
        counts = np.bincount(values, minlength=VOID + 1)[1:VOID]
        most = int(counts.argmax())
        if not counts[most] or most >= len(CATEGORIES):
            raise InputError(f"{self.classes}: object {i} has no category there; fetch the file again.")
        return CATEGORIES[most]

    def described(self) -> str:
        """See `Annotation.described`."""
        sizes = " ".join(f"{file.name} {file_size(file)}" for file in self.files)
        return f"{sizes} {self.names}"


def load_voc(
    root: Path, split: str, names: Sequence[str] = CATEGORIES, first_mask_only: bool = False
) -> list[Image]:
    """Lists the images of a split; none is opened.

    Args:
        root: the tree, which is VOC2012 in the archive.
        split: train, val, trainval or any other list there.
        names: of the categories that are taken, 1, 2, ...
        first_mask_only: accept images without masks, such as those of test, whose masks are not public.

    Raises:
        InputError: a list or a file that is missing, or a name that is no category.
    """
    for name in names:
        if name not in CATEGORIES:
            raise InputError(f"data.only: {name} is no category of VOC; choose of {', '.join(CATEGORIES)}.")
    path = root / "ImageSets" / "Segmentation" / f"{split}.txt"
    if not path.is_file():
        raise InputError(f"{path}: no such file; data.root must be VOC's tree, data split one of its lists.")
    found = []
    for name in read_names(path):
        image = root / "JPEGImages" / f"{name}.jpg"
        masks = [root / f"Segmentation{kind}" / f"{name}.png" for kind in ("Object", "Class")]
        missing = [file for file in (image, *masks) if not file.is_file()]
        if missing and (missing[0] == image or not first_mask_only):
            raise InputError(f"{missing[0]}: no such file; {path} names it.")
        annotation = None if missing else VocAnnotation(masks[0], masks[1], tuple(names))
        found.append(Image(name, image, annotation))
    return found
