"""Images annotated in the formats of COCO and Pascal VOC: written, read back, and refused where broken."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture
from pycocotools import mask as rle

from tests.helpers import boxes, noise
from vos_lightning.data import coco
from vos_lightning.data.files import read_names
from vos_lightning.data.image_sets import Coco, Voc2012
from vos_lightning.data.images import write_mask
from vos_lightning.data.instance_examples import InstanceImages
from vos_lightning.data.instances import Instances
from vos_lightning.data.regions import decode_region
from vos_lightning.data.sets import DataSet, fingerprint
from vos_lightning.data.voc import CATEGORIES
from vos_lightning.errors import InputError

SIZE = (48, 64)
EXAMPLES = InstanceImages(size=SIZE, batch_size=1, augment=False, val_clips=0)


def region(mask: np.ndarray, form: str) -> Any:
    """A mask of one box (h, w) as `segmentation` in one of COCO's three forms."""
    if form == "polygon":
        (top, bottom), (left, right) = ((a[0], a[-1] + 1) for a in map(np.unique, mask.nonzero()))
        return [[int(v) for v in (left, top, right, top, right, bottom, left, bottom)]]
    if form == "text":
        found = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
        return {"size": list(mask.shape), "counts": found["counts"].decode()}
    values = np.concatenate([[False], mask.T.ravel()])
    changes = np.flatnonzero(np.diff(values.astype(int)))
    return {"size": list(mask.shape), "counts": np.diff([0, *changes, mask.size]).tolist()}


def write_coco(root: Path, split: str, masks: dict[str, Sequence[np.ndarray]], forms: Sequence[str]) -> Path:
    """A tree whose images have these masks: apes (7) and cats (3) in turn, of which the last is a crowd."""
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / split).mkdir()
    images, annotations = [], []
    for number, (name, found) in enumerate(masks.items(), 100):
        Picture.fromarray(noise(1, SIZE)[0]).save(root / split / f"{name}.jpg")
        images.append({"id": number, "file_name": f"{name}.jpg", "height": SIZE[0], "width": SIZE[1]})
        for k, mask in enumerate(found):
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": (7, 3)[k % 2]}
                | {"iscrowd": int(k == len(found) - 1), "segmentation": region(mask, forms[k % len(forms)])}
            )
    categories = [{"id": 7, "name": "ape"}, {"id": 3, "name": "cat"}]
    path = root / "annotations" / f"instances_{split}.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def box(y: int, x: int, height: int, width: int) -> np.ndarray:
    return boxes((1, y, x, height, width), size=SIZE) > 0


MASKS = [box(4, 5, 20, 30), box(10, 20, 30, 40), box(0, 0, 9, 9), box(40, 50, 8, 14)]


def read(data_set: DataSet, split: str, image: int = 0) -> Instances:
    annotation = data_set.samples(split)[image].annotation
    assert annotation is not None
    return annotation.read(SIZE)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    write_coco(tmp_path, "train", {"b": MASKS, "a": MASKS[:2], "c": []}, ["polygon", "text", "runs"])
    return tmp_path


def coco_of(root: Path, **fields: Any) -> Coco:
    return Coco(name="coco", root=str(root), **fields)


def test_coco_is_read_as_it_was_written(tree: Path) -> None:
    data = coco_of(tree)
    assert data.categories == ("cat", "ape") and data.splits() == ["train"]
    images = data.samples("train")
    assert [(one.name, one.number, one.category_ids) for one in images] == [
        ("a", 101, (3, 7)),
        ("b", 100, (3, 7)),
        ("c", 102, (3, 7)),
    ]
    found = read(data, "train", 1)
    assert np.array_equal(found.masks, MASKS)  # of which some overlap
    assert found.categories.tolist() == [2, 1, 2, 1] and found.crowd.tolist() == [False] * 3 + [True]
    assert [one.annotation.count for one in images] == [1, 3, 0]
    assert EXAMPLES.usable(images, "train") == images[:2]
    EXAMPLES.check(images, 1, None, "train")
    batch = EXAMPLES.training(images, 4, 0, None)[0, 1]
    assert np.array_equal(batch.masks.numpy(), [MASKS[1], MASKS[0], MASKS[2], 0 * MASKS[0]])
    assert batch.categories.tolist() == [1, 2, 2, 0]


def test_a_split_has_its_own_categories_where_the_training_split_is_not_there(tree: Path) -> None:
    data = coco_of(tree, train_split="train2017")
    assert data.categories == () and read(data, "train").categories.tolist() == [2, 1]


def test_only_some_categories_are_taken(tree: Path) -> None:
    data = coco_of(tree, only=("ape",))
    found = read(data, "train", 1)
    assert np.array_equal(found.masks, MASKS[::2]) and found.categories.tolist() == [1, 1]
    assert data.samples("train")[0].category_ids == (7,)
    with pytest.raises(InputError, match=r"instances_train\.json: has no category dog"):
        coco_of(tree, only=("dog",)).samples("train")


def test_the_fingerprint_tells_of_the_annotations_and_the_categories(tree: Path) -> None:
    before = fingerprint(coco_of(tree).samples("train"))
    assert fingerprint(coco_of(tree, only=("ape",)).samples("train")) != before
    path = tree / "annotations" / "instances_train.json"
    path.write_text(path.read_text() + " ")
    assert fingerprint(coco_of(tree).samples("train")) != before


def test_a_json_is_read_once(tree: Path, monkeypatch) -> None:
    contents = coco.read_contents(tree / "annotations" / "instances_train.json")
    monkeypatch.setattr(json, "loads", None)
    assert coco.read_contents(tree / "annotations" / "instances_train.json") is contents


def test_a_split_without_annotations_can_be_predicted(tree: Path) -> None:
    info = {"images": [{"id": 1, "file_name": "b.jpg", "height": 48, "width": 64}]}
    info["categories"] = [{"id": 7, "name": "ape"}, {"id": 3, "name": "cat"}]
    (tree / "annotations" / "image_info_test-dev.json").write_text(json.dumps(info))
    (tree / "train").rename(tree / "test")
    (image,) = coco_of(tree).samples("test-dev")
    assert image.annotation is None and image.frame().shape == (*SIZE, 3)
    assert coco_of(tree).splits() == ["test-dev", "train"]


def change(*path: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    """Sets what lies below some keys of a JSON."""

    def set_in(content: dict[str, Any]) -> None:
        place: Any = content
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return set_in


RUNS = {"size": list(SIZE), "counts": [0, SIZE[0] * SIZE[1]]}
LISTS: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "no images": (change("images", value=[]), 'no list "images"'),
    "no id": (change("images", 0, value={}), 'an entry of "images" has no id'),
    "an id twice": (change("images", 1, "id", value=100), "image 100 is listed twice"),
    "a name twice": (change("images", 1, "file_name", value="b.png"), r"b\.jpg and b\.png have the same"),
    "a path": (change("images", 1, "file_name", value="../b.jpg"), "image 101: .* is no name"),
    "no file": (change("images", 1, "file_name", value="z.jpg"), r"z\.jpg: no such file; .*\.json lists it"),
    "no width": (change("images", 1, "width", value="64"), "image 101: height and width"),
    "gigapixels": (change("images", 1, "width", value=10**9), "image 101: .* is more than"),
    "no name": (change("categories", 0, "name", value="a\n"), 'category 7: no "name"'),
    "one name": (change("categories", 0, "name", value="cat"), "two categories have the same name"),
    "no category": (change("annotations", 2, "category_id", value=5), "annotation 3: no category_id 5"),
    "no image": (change("annotations", 2, "image_id", value=[]), r"annotation 3: no image_id \[\]"),
    "a crowd of 2": (change("annotations", 2, "iscrowd", value=2), "annotation 3: iscrowd must be 0 or 1"),
}
REGIONS: dict[str, tuple[Any, str]] = {
    "nothing": (None, "neither polygons nor runs"),
    "no polygon": ([], "neither polygons nor runs"),
    "a line": ([[0, 0, 1, 1]], "three points or more"),
    "half a point": ([[0, 0, 1, 1, 2, 3, 4]], "three points or more"),
    "no numbers": ([[0, 0, 1, 1, "2", 3]], "three points or more"),
    "infinite": ([[0, 0, 1, 1, float("inf"), 3]], "three points or more"),
    "outside": ([[70, 1, 80, 1, 80, 20]], "point 70, 1 of a polygon lies outside the image of 64x48"),
    "beyond an edge": ([[1, 1, 20, 1, 20, 49.5]], "point 20, 49.5 of a polygon lies outside"),
    "endless": ([[0, 0, 64, 48, 0, 48] * 10**5], "more than 1000000 pixels around"),
    "another size": (RUNS | {"size": [64, 48]}, r"runs of size \[64, 48\] for an image of \[48, 64\]"),
    "a strange size": (RUNS | {"size": 5}, "runs of size 5"),
    "no runs": (RUNS | {"counts": None}, "are no runs"),
    "negative": (RUNS | {"counts": [-1, 3073]}, "are no runs"),
    "too few": (RUNS | {"counts": [1, 2]}, "runs of 3 pixels for an image of 3072"),
    "too many": (RUNS | {"counts": [3072, 1]}, "runs of 3073 pixels"),
    "letters that end early": (RUNS | {"counts": "ooo"}, "are no runs"),
    "letters without end": (RUNS | {"counts": "o" * 10**6}, "are no runs"),
    "other letters": (RUNS | {"counts": "\x00é"}, "are no runs"),
    "empty": (RUNS | {"counts": ""}, "runs of 0 pixels"),
}


@pytest.mark.parametrize(("spoil", "words"), LISTS.values(), ids=LISTS)
def test_faults_of_the_lists_are_one_sentence(tree: Path, spoil: Callable, words: str) -> None:
    path = tree / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    spoil(content)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=words) as refusal:
        coco_of(tree).samples("train")
    assert str(path) in str(refusal.value) and str(refusal.value).isprintable()


@pytest.mark.parametrize(("segmentation", "words"), REGIONS.values(), ids=REGIONS)
def test_faults_of_an_annotation_name_it(tree: Path, segmentation: Any, words: str) -> None:
    path = tree / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    content["annotations"][2]["segmentation"] = segmentation
    path.write_text(json.dumps(content))
    images = coco_of(tree).samples("train")
    with pytest.raises(InputError, match=f"annotation 3: .*{words}") as refusal:
        EXAMPLES.check(images, 5, None, "train")
    assert str(path) in str(refusal.value) and len(str(refusal.value)) < 300


@pytest.mark.parametrize("content", [b"", b"[" * 10**5, b"\xff", b'{"images":' + b"9" * 5000 + b"}", b"[]"])
def test_what_is_no_coco_file_is_refused(tree: Path, content: bytes) -> None:
    path = tree / "annotations" / "instances_train.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"instances_train\.json: (not readable|no list)"):
        coco_of(tree).samples("train")
    os.truncate(path, coco.MOST_BYTES + 1)
    with pytest.raises(InputError, match="larger than 1024 MiB"):
        coco_of(tree).samples("train")


def test_an_image_of_another_size_than_listed_is_refused(tree: Path) -> None:
    Picture.new("RGB", (60, 48)).save(tree / "train" / "b.jpg")
    with pytest.raises(InputError, match=r"image b\.jpg: listed size and size of the file differ"):
        EXAMPLES.check(coco_of(tree).samples("train"), 5, None, "train")


def test_runs_are_decoded_as_pycocotools_does() -> None:
    rng = np.random.default_rng(0)
    for size in ((1, 1), (7, 5), (60, 80), (200, 300)):
        for share in (0.0, 0.02, 0.5, 1.0):
            mask = rng.random(size) < share
            for form in ("text", "runs"):
                assert np.array_equal(decode_region(region(mask, form), size, "x"), mask)


def test_random_text_is_runs_or_an_input_error() -> None:
    rng = np.random.default_rng(0)
    for _ in range(2000):
        text = bytes(rng.integers(32, 127, rng.integers(0, 12)).tolist()).decode()
        try:
            assert decode_region({"size": [4, 5], "counts": text}, (4, 5), "x").shape == (4, 5)
        except InputError as error:
            assert str(error).startswith("x: ")


def write_voc(root: Path, split: str, objects: dict[str, np.ndarray], classes: dict[str, np.ndarray]) -> None:
    """A tree whose images have these masks of objects and of their categories."""
    for folder in ("JPEGImages", "SegmentationObject", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name, mask in objects.items():
        Picture.fromarray(noise(1, SIZE)[0]).save(root / "JPEGImages" / f"{name}.jpg")
        write_mask(root / "SegmentationObject" / f"{name}.png", mask)
        write_mask(root / "SegmentationClass" / f"{name}.png", classes[name])
    (root / "ImageSets/Segmentation" / f"{split}.txt").write_text("".join(f"{name}\n" for name in objects))


def voc(root: Path, **fields: Any) -> Voc2012:
    return Voc2012(name="voc2012", root=str(root), **fields)


def test_voc_is_read_as_it_was_written(tmp_path: Path) -> None:
    objects = boxes((255, 0, 0, 30, 30), (1, 2, 2, 20, 20), (2, 30, 30, 10, 10), size=SIZE)
    classes = np.array([0, 15, 12], np.uint8)[np.where(objects == 255, 0, objects)]
    classes[objects == 255], classes[2:4, 2:22] = 255, 1  # some of the person is called an aeroplane
    write_voc(tmp_path, "val", {"a": objects}, {"a": classes})
    found = read(voc(tmp_path), "val")
    assert np.array_equal(found.masks, [objects == 1, objects == 2])
    assert [CATEGORIES[number - 1] for number in found.categories] == ["person", "dog"]
    assert np.array_equal(found.void, objects == 255) and not found.crowd.any()
    (image,) = voc(tmp_path, only=("dog",)).samples("val")
    dogs = image.annotation.read(SIZE)
    assert np.array_equal(dogs.masks, [objects == 2]) and dogs.categories.tolist() == [1]
    assert image.annotation.count == 1 and voc(tmp_path).samples("val")[0].annotation.count == 2
    assert voc(tmp_path).splits() == ["val"] and len(set(CATEGORIES)) == 20
    before = fingerprint([image])
    write_mask(tmp_path / "SegmentationClass" / "a.png", np.zeros(SIZE, np.uint8))
    assert fingerprint([image]) != before
    with pytest.raises(InputError, match=r"SegmentationClass/a\.png: object 1 has no category"):
        EXAMPLES.check([image], 5, None, "val")


def test_faults_of_voc_are_one_sentence(tmp_path: Path) -> None:
    mask = boxes((1, 2, 2, 20, 20), size=SIZE)
    write_voc(tmp_path, "val", {"a": mask}, {"a": mask[:9]})
    assert read_names(tmp_path / "ImageSets/Segmentation/val.txt") == ["a"]
    with pytest.raises(InputError, match=r"Class/a\.png: mask of 64x9 pixels for a frame of 64x48"):
        EXAMPLES.check(voc(tmp_path).samples("val"), 5, None, "val")
    with pytest.raises(InputError, match=r"data\.only: ape is no category of VOC"):
        voc(tmp_path, only=("ape",)).samples("val")
    with pytest.raises(InputError, match=r"train\.txt: no such file"):
        voc(tmp_path).samples("train")
    (tmp_path / "SegmentationClass" / "a.png").unlink()
    with pytest.raises(InputError, match=r"SegmentationClass/a\.png: no such file"):
        voc(tmp_path).samples("val")
    (image,) = voc(tmp_path).samples("val", first_mask_only=True)
    assert image.annotation is None
    (tmp_path / "JPEGImages" / "a.jpg").unlink()
    with pytest.raises(InputError, match=r"JPEGImages/a\.jpg: no such file; .*val\.txt names it"):
        voc(tmp_path).samples("val")
