"""Images with instances: what is read from the frames of videos, and what training makes of it."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Picture

from tests.helpers import boxes, columns, noise, written
from vos_lightning.apps.predict import main as predict
from vos_lightning.data.catalogue import DATA_SETS
from vos_lightning.data.clips import Augmentation
from vos_lightning.data.files import File
from vos_lightning.data.images import resize_labels, write_mask
from vos_lightning.data.instance_examples import InstanceDataset, InstanceImages
from vos_lightning.data.instances import Detections, Image, Instances
from vos_lightning.data.sets import fingerprint
from vos_lightning.data.video_frames import frames_of
from vos_lightning.data.videos import Given, Video
from vos_lightning.data.voc import CATEGORIES
from vos_lightning.errors import InputError
from vos_lightning.evaluation.instances import InstanceEvaluation

SIZE = (48, 64)
EXAMPLES = InstanceImages(size=SIZE, batch_size=2, augment=True, val_clips=0)


@dataclass(frozen=True)
class Known:
    """An annotation that holds these masks."""

    masks: np.ndarray
    crowd: tuple[int, ...] = ()
    files: tuple[File, ...] = field(default=())

    @property
    def count(self) -> int:
        return len(self.masks) - len(self.crowd)

    def read(self, size: tuple[int, int]) -> Instances:
        crowd = np.isin(np.arange(len(self.masks)), self.crowd)
        return Instances(self.masks, np.arange(1, len(self.masks) + 1), crowd, np.zeros(size, bool))

    def described(self) -> str:
        return ""


def image(folder: Path, *masks: np.ndarray, crowd: tuple[int, ...] = (), name: str = "a") -> Image:
    """Noise of the masks' size, with these masks."""
    stack = np.array(masks, bool).reshape(len(masks), *(masks[0].shape if masks else SIZE))
    path = folder / f"{name}.png"
    Picture.fromarray(noise(1, stack.shape[1:])[0]).save(path)
    return Image(name, path, Known(stack, crowd))


def box(y: int, x: int, height: int, width: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return boxes((1, y, x, height, width), size=size) > 0


def test_frames_of_videos_have_the_objects_of_their_masks(tmp_path: Path) -> None:
    mask = boxes((1, 0, 0, 8, 8), (3, 20, 20, 5, 6), (255, 30, 30, 4, 4), size=SIZE)
    plain = written(tmp_path / "a", noise(4, SIZE), {0: mask, 1: mask, 3: mask})
    videos = [Video(plain.name, plain.frames, plain.masks, categories={1: "cat", 3: "ape"})]
    found = frames_of(videos, 2, ("ape", "cat"))
    assert [one.name for one in found] == ["a-00000", "a-00003"]
    for names, numbers in ((None, [1, 1]), (videos[0].categories, [2, 1])):
        video = Video(plain.name, plain.frames, plain.masks, categories=names)
        (first, *_) = frames_of([video], 2, ("ape", "cat") if names else ("object",))
        instances = first.annotation.read(SIZE)
        assert np.array_equal(instances.masks, [mask == 1, mask == 3])
        assert instances.categories.tolist() == numbers and not instances.crowd.any()
        assert np.array_equal(instances.void, mask == 255) and first.annotation.count == 2
    listed = Video(plain.name, plain.frames, plain.masks, categories={1: "cat"}, presence={1: (0,)})
    (first, last) = frames_of([listed], 2, ("cat",))
    assert np.array_equal(first.annotation.read(SIZE).void, (mask == 255) | (mask == 3))
    assert (first.annotation.count, last.annotation.count) == (1, 0)
    with pytest.raises(InputError, match=r"mask0\.png: mask of 64x48 pixels for a frame of 9x9"):
        first.annotation.read((9, 9))
    before = fingerprint(found)
    assert fingerprint(frames_of(videos, 2, ("cat", "ape"))) != before
    (tmp_path / "a" / "mask3.png").write_bytes(b"")
    assert fingerprint(found) != before


def test_instances_are_sorted_by_area_and_overlaps_kept(tmp_path: Path) -> None:
    small, large, middle = box(4, 4, 6, 6), box(0, 0, 40, 50), box(2, 2, 10, 12)
    one = image(tmp_path, small, box(0, 0, 48, 64), large, middle, crowd=(1,))
    batch = InstanceDataset([one], SIZE, 5, None, 0)[0, 0]
    assert np.array_equal(batch.masks[:3].numpy(), [large, middle, small]) and not batch.masks[3:].any()
    assert batch.categories.tolist() == [3, 4, 1, 0, 0] and batch.weights.tolist() == [1, 1, 1, 0, 0]
    pixels = np.array([[0, 0, 50, 40], [2, 2, 14, 12], [4, 4, 10, 10]])
    assert batch.boxes[:3].numpy() == pytest.approx(pixels / [64, 48, 64, 48]) and not batch.boxes[3:].any()
    fewer = InstanceDataset([one], SIZE, 2, None, 0)[0, 0]
    assert all(torch.equal(a[:2] if a.ndim < 4 else a, b) for a, b in zip(batch[1:], fewer[1:], strict=True))


def test_what_vanishes_at_the_networks_size_has_no_weight(tmp_path: Path) -> None:
    thin = columns(*([0] * 127), 1, size=(96, 128)) > 0
    wide = box(0, 0, 60, 60, (96, 128))
    assert not resize_labels(thin.astype(np.uint8), (32, 32)).any()
    batch = InstanceDataset([image(tmp_path, thin, wide)], (32, 32), 2, None, 0)[0, 0]
    assert batch.weights.tolist() == [1, 0] and batch.categories.tolist() == [2, 0]
    for masks in ((thin,), ()):  # a data set may list an instance that no mask shows
        empty = InstanceDataset([image(tmp_path, *masks)], (32, 32), 2, Augmentation(), 0)[0, 0]
        assert not empty.weights.any() and not empty.masks.any()


@pytest.mark.parametrize("border", ["border", "zeros"])
def test_each_mask_is_warped_as_if_it_were_alone(tmp_path: Path, border: str) -> None:
    masks = [box(8, 8, 30, 40), box(10, 10, 20, 20), box(12, 20, 30, 30)]
    warp = Augmentation(rotation=180, border=border)
    every = InstanceDataset([image(tmp_path, *masks)], SIZE, 3, warp, 7)
    for epoch in range(3):
        batch = every[epoch, 0]
        for number, mask in enumerate(masks, 1):
            alone = InstanceDataset([image(tmp_path, mask)], SIZE, 1, warp, 7)[epoch, 0]
            (slot,) = np.flatnonzero(batch.categories.numpy() == number)
            assert torch.equal(alone.masks[0], batch.masks[slot])
            assert torch.equal(alone.frames, batch.frames)
    again = [InstanceDataset([image(tmp_path, *masks)], SIZE, 3, warp, 7)[key, 0].masks for key in (0, 0, 1)]
    assert torch.equal(again[0], again[1]) and not torch.equal(again[0], again[2])


def test_images_without_instances_are_left_out_and_more_than_slots_are_said(tmp_path: Path, capsys) -> None:
    bare = image(tmp_path, name="bare")
    crowd = image(tmp_path, box(0, 0, 9, 9), crowd=(0,), name="crowd")
    two = image(tmp_path, box(0, 0, 9, 9), box(20, 20, 9, 9), name="two")
    usable = EXAMPLES.usable([bare, crowd, two, two], "train")
    assert usable == [two, two]
    data = EXAMPLES.training(usable, 1, 0, None)
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "2 of 2 training images have more than 1 instances" in said
    assert "two.png" in said and len(data) == 2 and data.name((0, 1)) == "two"
    with pytest.raises(InputError, match="Data split train: none of its 2 images has an instance"):
        EXAMPLES.usable([bare, crowd], "train")


def test_a_bad_image_or_mask_is_found_before_training(tmp_path: Path) -> None:
    video = written(tmp_path / "a", noise(1, SIZE), {0: columns(0, 1, size=(9, 9))})
    with pytest.raises(InputError, match=r"mask0\.png: mask of 9x9 pixels for a frame of 64x48"):
        EXAMPLES.check(frames_of([video], 1, ("object",)), 3, None, "val")
    video.frames[0].write_bytes(b"no image")
    with pytest.raises(InputError, match=r"00000\.png: not a readable image"):
        EXAMPLES.check(frames_of([video], 1, ("object",)), 3, None, "val")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of two images, in the tree of VOC that has both as val."""
    for folder in ("JPEGImages", "SegmentationObject", "SegmentationClass", "ImageSets/Segmentation"):
        (tmp_path / "voc" / folder).mkdir(parents=True)
    for name in ("a", "b"):
        Picture.fromarray(noise(1, SIZE)[0]).save(tmp_path / "voc/JPEGImages" / f"{name}.jpg")
        for kind in ("Object", "Class"):
            write_mask(
                tmp_path / f"voc/Segmentation{kind}" / f"{name}.png", boxes((1, 2, 2, 9, 9), size=SIZE)
            )
    (tmp_path / "voc/ImageSets/Segmentation/val.txt").write_text("a\nb\n")
    return tmp_path / "voc/JPEGImages"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What vos-predict finds in any run: a model that finds one box in each image."""
    found = Detections(box(4, 4, 20, 20)[None], np.array([0.75]), np.array([1]))
    model = SimpleNamespace(
        examples=InstanceImages,
        evaluation=lambda *_: InstanceEvaluation(lambda frame: found, CATEGORIES),
    )
    data_set = DATA_SETS["voc2012"](name="voc2012", root="elsewhere")
    experiment = SimpleNamespace(
        model=model,
        data_set=data_set,
        given=Given.NOTHING,
        prediction=SimpleNamespace(tf32=False, partner=None),
    )
    monkeypatch.setattr("vos_lightning.runs.load.load_run", lambda *_: (experiment, None))
    return experiment


def ended(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    """What vos-predict says in one line where it gives up."""
    with pytest.raises(SystemExit) as stop:
        predict([str(part) for part in ("run", *arguments, "--device", "cpu")])
    lines = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and len(lines) == 1
    return lines[0]


@pytest.mark.parametrize("source", ["--frames", "--root"])
def test_a_folder_or_a_tree_of_images_is_predicted(
    pictures: Path, run: SimpleNamespace, tmp_path: Path, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = pictures if source == "--frames" else pictures.parent
    predict(["run", str(tmp_path / "out"), source, str(given), "--device", "cpu"])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "a.json",
        "a.png",
        "b.json",
        "b.png",
    ]
    (entry,) = json.loads((tmp_path / "out/b.json").read_text())
    assert entry["image_id"] == "b" and entry["score"] == 0.75
    said = capsys.readouterr().out
    assert "a: 1 instances" in said and "2 images, " in said


def test_a_bad_image_costs_none_of_those_before_it(
    pictures: Path, run: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures / "b.jpg").write_bytes(b"no image")
    said = ended(capsys, tmp_path / "out", "--frames", pictures)
    assert "b.jpg: not a readable image" in said and "1 of 2 images are written, b not; remove" in said
    assert (tmp_path / "out/a.json").is_file() and not (tmp_path / "out/b.json").exists()


def test_what_images_cannot_be_predicted_with_is_refused(
    pictures: Path, run: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, masks = tmp_path / "out", pictures.parent / "SegmentationObject"
    assert "--masks: is for videos" in ended(capsys, out, "--frames", pictures, "--masks", masks)
    for option in (["--zip"], ["--all-frames"], ["--year", "2016"]):
        said = ended(capsys, out, "--root", pictures.parent, *option)
        assert f"{option[0]}: is for videos" in said
    assert "train.txt: no such file" in ended(capsys, out, "--root", pictures.parent, "--split", "train")
    shutil.copy(pictures / "a.jpg", pictures / "a.png")
    assert "a.png: a.jpg has the same name" in ended(capsys, out, "--frames", pictures)
    run.data_set = DATA_SETS["synthetic_frames"](name="synthetic_frames", cache="elsewhere")
    assert "data set, synthetic_frames, has no tree" in ended(capsys, out, "--root", pictures.parent)
    assert not out.exists()


def coco_tree(root: Path, split: str, ids: dict[str, int]) -> Path:
    """A tree of one image without annotations."""
    (root / "annotations").mkdir(parents=True)
    (root / split).mkdir()
    Picture.fromarray(noise(1, SIZE)[0]).save(root / split / "a.jpg")
    images = [{"id": 9, "file_name": "a.jpg", "height": SIZE[0], "width": SIZE[1]}]
    categories = [{"id": number, "name": name} for name, number in ids.items()]
    path = root / "annotations" / f"image_info_{split}.json"
    path.write_text(json.dumps({"images": images, "categories": categories}))
    return root


def test_categories_of_a_run_keep_their_names_in_another_tree(
    run: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = coco_tree(tmp_path / "own", "train", {"cat": 3, "ape": 7})
    run.data_set = DATA_SETS["coco"](name="coco", root=str(own))
    other = coco_tree(tmp_path / "other", "val", {"ape": 2, "cat": 5, "dog": 1})
    predict(["run", str(tmp_path / "out"), "--root", str(other), "--device", "cpu"])
    (entry,) = json.loads((tmp_path / "out/a.json").read_text())
    assert entry["category_id"] == 5  # the first category of the run is cat
    lacks = coco_tree(tmp_path / "lacks", "val", {"ape": 7, "dog": 3})
    assert "val.json: has no category cat, which" in ended(capsys, tmp_path / "new", "--root", lacks)
