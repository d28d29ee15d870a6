"""The synthetic data set: same bytes for one seed, the content it promises, and the baselines on it."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vos_lightning.data import synthetic
from vos_lightning.data.davis import load_davis
from vos_lightning.data.synthetic import SEEN, UNSEEN, SyntheticSpec, write_synthetic
from vos_lightning.data.videos import Video
from vos_lightning.errors import InputError
from vos_lightning.evaluation.baselines import classify_colours, copy_first_mask

SMALL = SyntheticSpec(train=12, val=4, test=12, frames=16, height=64, width=112)
TINY = SyntheticSpec(train=2, val=1, test=1, frames=3, height=32, width=56)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic(tmp_path_factory.mktemp("cache"), SMALL)


@pytest.fixture(scope="module")
def videos(folder: Path) -> list[Video]:
    return [s for split in ("train", "val", "test") for s in load_davis(folder, split)]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def categories(folder: Path, split: str) -> dict[str, list[tuple[str, str]]]:
    meta = json.loads((folder / "meta.json").read_text())
    entries = {name: e for name, e in meta["sequences"].items() if e["split"] == split}
    return {name: [tuple(c) for c in entry["objects"].values()] for name, entry in entries.items()}


def test_bytes_depend_on_the_seed_alone(tmp_path: Path) -> None:
    one = write_synthetic(tmp_path / "one", TINY, workers=1)
    two = write_synthetic(tmp_path / "two", TINY, workers=3)
    other = write_synthetic(tmp_path / "one", SyntheticSpec(**{**vars(TINY), "seed": 1}), workers=1)
    assert contents(one) == contents(two)
    assert other.name != one.name
    frame = "JPEGImages/480p/train-0000/00000.jpg"
    assert contents(one)[frame] != contents(other)[frame]


def test_a_sequence_does_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    few, more = (write_synthetic(tmp_path, SyntheticSpec(**{**vars(TINY), "train": n})) for n in (1, 3))
    kept = {path: data for path, data in contents(few).items() if path.endswith((".jpg", ".png"))}
    assert kept.items() <= contents(more).items()


def test_loader_reads_frames_and_masks(videos: list[Video]) -> None:
    assert len(videos) == 28
    for s in videos:
        assert len(s) == 16
        assert s.frame(0).shape == (64, 112, 3)
        assert s.mask(15).shape == (64, 112)


def test_objects_are_numbered_from_one_and_large_in_frame_0(videos: list[Video]) -> None:
    for s in videos:
        assert s.objects == tuple(range(1, len(s.objects) + 1))
        assert 1 <= len(s.objects) <= 4
        assert min(np.mean(s.mask(0) == i) for i in s.objects) > 0.02
        assert all(set(np.unique(s.mask(t))) <= {0, *s.objects} for t in range(len(s)))


def test_meta_lists_the_objects(folder: Path, videos: list[Video]) -> None:
    listed = {k: v for split in ("train", "val", "test") for k, v in categories(folder, split).items()}
    assert {s.name: len(s.objects) for s in videos} == {name: len(c) for name, c in listed.items()}


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_every_other_clip_has_two_objects_of_one_shape(folder: Path, split: str) -> None:
    shapes = [[shape for shape, _ in c] for _, c in sorted(categories(folder, split).items())]
    assert [len(set(s)) < len(s) for s in shapes] == [i % 2 == 1 for i in range(len(shapes))]


def test_unseen_categories_are_kept_from_training(folder: Path) -> None:
    met = {
        split: {c for cs in categories(folder, split).values() for c in cs}
        for split in ("train", "val", "test")
    }
    assert not met["train"] & set(UNSEEN)
    for split in ("val", "test"):
        assert met[split] & set(UNSEEN)
        assert met[split] & set(SEEN)


def test_objects_move_hide_and_come_back(videos: list[Video]) -> None:
    returned = hidden = 0
    for s in videos:
        masks = np.stack([s.mask(t) for t in range(len(s))])
        for i in s.objects:
            area = (masks == i).mean(axis=(1, 2))
            lowest = int(area.argmin())
            returned += area[lowest] == 0 and area[lowest:].max() > 0.01
            hidden += 0 < area[lowest] < 0.5 * area[0] and area[lowest:].max() > 0.8 * area[0]
    assert returned >= 1
    assert hidden >= 3


def test_complete_folder_is_reused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "_write_tree", None)
    assert write_synthetic(folder.parent, SMALL) == folder


def test_interrupted_write_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(synthetic, "write_mask", stop)
        with pytest.raises(KeyboardInterrupt):
            write_synthetic(tmp_path, TINY, workers=1)
    assert [p for p in tmp_path.iterdir() if p.is_dir()] == []
    (tmp_path / f".{TINY.folder_name}.partial" / "JPEGImages").mkdir(parents=True)  # As a killed run leaves.
    assert len(load_davis(write_synthetic(tmp_path, TINY), "train")) == 2


def test_bad_spec_or_root_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"synthetic\.frames: 1"):
        SyntheticSpec(frames=1)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file"):
        write_synthetic(tmp_path / "file", TINY)


@pytest.mark.parametrize("baseline", [copy_first_mask, classify_colours])
def test_baselines_start_at_the_given_mask_and_keep_its_ids(baseline, videos: list[Video]) -> None:
    for s in videos[:4]:
        masks = list(baseline(s))
        assert len(masks) == len(s)
        assert np.array_equal(masks[0], s.mask(0))
        assert all(m.shape == (64, 112) and m.dtype == np.uint8 for m in masks)
        assert set(np.unique(masks)) <= {0, *s.objects}


def test_colours_find_an_object_of_its_own_colour(tmp_path: Path) -> None:
    s = moving_square(tmp_path)
    found, copied = list(classify_colours(s))[-1], list(copy_first_mask(s))[-1]
    truth = s.mask(3)
    assert np.mean(found != truth) < 0.02
    assert np.sum((copied == 1) & (truth == 1)) == 0


def moving_square(folder: Path) -> Video:
    """A red square on green that moves by its side a frame; T = 4, 48 x 96."""
    frames, masks = [], []
    for t in range(4):
        mask = np.zeros((48, 96), np.uint8)
        mask[16:32, 16 * t : 16 * t + 16] = 1
        colour = np.where(mask[..., None] == 1, [200, 30, 30], [30, 180, 40]).astype(np.uint8)
        frames.append(folder / f"{t:05d}.jpg")
        masks.append(folder / f"{t:05d}.png")
        synthetic.write_mask(masks[-1], mask)
        Image.fromarray(colour).save(frames[-1], quality=95)
    return Video("square", tuple(frames), tuple(masks))
