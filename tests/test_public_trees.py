"""SegTrackv2, JumpCut and YouTube-Objects trees made file by file, and what vos-data counts in a tree."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vos_lightning.apps import data as vos_data
from vos_lightning.configuration import compose_train
from vos_lightning.data.clips import ClipDataset, check_readable
from vos_lightning.data.counts import FORMATS, Counts, formats_of
from vos_lightning.data.images import write_mask
from vos_lightning.data.sets import DataSet, fingerprint
from vos_lightning.data.single_object import load_jumpcut, load_segtrack, load_youtube_objects
from vos_lightning.data.videos import Video
from vos_lightning.errors import InputError
from vos_lightning.runs.settings import read_settings

HEIGHT, WIDTH = 24, 40


def frame(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (WIDTH, HEIGHT), (120, 30, 60)).save(path)


def square(left: int) -> np.ndarray:
    """Where an object of 8x8 pixels is, (H, W) bool."""
    shape = np.zeros((HEIGHT, WIDTH), bool)
    shape[8:16, left : left + 8] = True
    return shape


def mask(path: Path, shape: np.ndarray, mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(shape.astype(np.uint8) * 255).convert(mode).save(path)


def masks_of(video: Video) -> dict[int, np.ndarray]:
    return {t: video.mask(t) for t in video.annotated}


@pytest.fixture
def segtrack(tmp_path: Path) -> Path:
    """bird: 3 frames, one object; bmx: 3 frames, two objects, the second from the second frame on."""
    for t in (18, 19, 20):
        frame(tmp_path / f"JPEGImages/bird/bird2_{t:05d}.png")
        mask(tmp_path / f"GroundTruth/bird/bird2_{t:05d}.png", square(t), "RGB")
        frame(tmp_path / f"JPEGImages/bmx/bmx_{t:05d}.bmp")
        mask(tmp_path / f"GroundTruth/bmx/1/bmx_{t:05d}.bmp", square(0))
        mask(tmp_path / f"GroundTruth/bmx/2/bmx_{t:05d}.png", square(20) & (t > 18), "1")
    (tmp_path / "JPEGImages/bird/Thumbs.db").touch()
    return tmp_path


@pytest.fixture
def jumpcut(tmp_path: Path) -> Path:
    for video, folders in {"ANIMAL/bear": ("RGB", "GT"), "FAST/dance": ("images", "masks")}.items():
        for t in range(8, 12):
            frame(tmp_path / video / folders[0] / f"{t}.jpg")
            mask(tmp_path / video / folders[1] / f"{t}.png", square(t))
    return tmp_path


@pytest.fixture
def youtube_objects(tmp_path: Path) -> Path:
    """Two shots of one video of cats: every frame with a mask at every tenth, and annotated frames alone."""
    shots = tmp_path / "cat/data/0012/shots"
    for t in range(1, 31):
        frame(shots / f"001/images/frame{t:04d}.jpg")
    for t in (5, 15, 25):
        mask(shots / f"001/labels/{t:05d}.jpg", square(t))
        frame(shots / f"002/images/{t:05d}.png")
        mask(shots / f"002/labels/{t:05d}.jpg", square(t))
    frame(tmp_path / "cow/data/0001/shots/001/images/frame0001.jpg")
    return tmp_path


def test_segtrack_gives_a_sequence_for_each_object_from_its_first_mask(segtrack: Path) -> None:
    videos = {s.name: s for s in load_segtrack(segtrack)}
    assert list(videos) == ["bird", "bmx-1", "bmx-2"]
    assert [len(s) for s in videos.values()] == [3, 3, 2]
    for name, lefts in {"bird": (18, 19, 20), "bmx-1": (0, 0, 0), "bmx-2": (20, 20)}.items():
        found = masks_of(videos[name])
        assert all(np.array_equal(found[t], square(left)) for t, left in enumerate(lefts))
    check_readable(videos.values(), slots=1)


def test_jumpcut_finds_frames_and_masks_in_the_order_of_their_numbers(jumpcut: Path) -> None:
    videos = load_jumpcut(jumpcut)
    assert [s.name for s in videos] == ["ANIMAL-bear", "FAST-dance"]
    for s in videos:
        assert [p.stem for p in s.frames] == ["8", "9", "10", "11"]
        assert all(np.array_equal(m, square(8 + t)) for t, m in masks_of(s).items())


def test_youtube_objects_keeps_frames_between_masks(youtube_objects: Path) -> None:
    every, annotated = load_youtube_objects(youtube_objects)
    assert (every.name, annotated.name) == ("cat-0012-001", "cat-0012-002")
    assert (len(every), every.annotated) == (21, (0, 10, 20))
    assert (len(annotated), annotated.annotated) == (3, (0, 1, 2))
    assert every.categories == {1: "cat"}
    assert every.objects == (1,)


def test_jpeg_masks_are_cut_at_half_at_any_size(youtube_objects: Path) -> None:
    annotated = load_youtube_objects(youtube_objects)[1]
    stored = np.asarray(Image.open(annotated.masks[1]))
    assert len(np.unique(stored)) > 2
    assert np.array_equal(annotated.mask(1), square(15))
    clip = ClipDataset([annotated], (HEIGHT // 2, WIDTH // 2), 3, slots=1, augmentation=None, seed=0)[0, 0]
    assert np.array_equal(clip.labels[0], square(5)[1::2, 1::2])


@pytest.mark.parametrize(
    ("tree", "key", "expected"),
    [
        ("segtrack", "segtrack", Counts(2, None, 3, 8, 6 / 1800)),
        ("jumpcut", "jumpcut", Counts(2, None, 2, 8, 8 / 1800)),
        ("youtube_objects", "youtube-objects", Counts(2, 1, 2, 6, 42 / 1800)),
    ],
)
def test_a_trees_counts_are_those_counted_by_hand(
    tree: str, key: str, expected: Counts, request: pytest.FixtureRequest
) -> None:
    root = request.getfixturevalue(tree)
    assert formats_of(root) == [key]
    assert FORMATS[key].counts_of(root, 30) == pytest.approx(expected)


def davis(root: Path) -> Path:
    """train and val of one video each, 4 frames; two ids, one for 2016; id 2 leaves, 255 is void."""
    for year in (2016, 2017):
        for split in ("train", "val"):
            (root / f"ImageSets/{year}").mkdir(parents=True, exist_ok=True)
            (root / f"ImageSets/{year}/{split}.txt").write_text(f"{split}ed\n")
    for split in ("train", "val"):
        for t in range(4):
            frame(root / f"JPEGImages/480p/{split}ed/{t:05d}.jpg")
            ids = square(0) * 1 + square(10) * (2 if t < 3 else 255)
            path = root / f"Annotations/480p/{split}ed/{t:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_mask(path, ids.astype(np.uint8))
    return root


def test_davis_is_counted_by_the_lists_of_both_years(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    vos_data.main(["stats", str(davis(tmp_path))])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[2:4] == [
        ["DAVIS-2016", "2", "-", "2", "8", "0.01"],
        ["DAVIS-2017", "2", "-", "4", "14", "0.01"],
    ]
    assert ["DAVIS", "(paper)", "50", "-", "50", "3,440", "2.88"] in lines


def test_youtube_vos_is_counted_from_meta_alone(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    ant = {"category": "ant", "frames": ["00010", "00015"]}
    late = {"category": "cat", "frames": ["00025"]}
    content = {"train": {"a": {"1": ant, "3": late}, "b": {"1": ant}}, "valid": {"c": {"2": late}}}
    for split, videos in content.items():
        (tmp_path / split).mkdir()
        meta = {"videos": {video: {"objects": objects} for video, objects in videos.items()}}
        (tmp_path / split / "meta.json").write_text(json.dumps(meta))
    assert FORMATS["youtube-vos"].counts_of(tmp_path, 30) == Counts(3, 2, 4, 6, (16 + 6 + 1) / 1800)
    (tmp_path / "valid/meta.json").write_text('{"videos": {"c": {}}}')
    with pytest.raises(SystemExit):
        vos_data.main(["stats", str(tmp_path)])
    assert "valid/meta.json: video c: no" in capsys.readouterr().err


def test_faults_of_trees_are_named(tmp_path: Path, segtrack: Path) -> None:
    for load, message in (
        (load_segtrack, r"empty/JPEGImages: no folders there; SegTrackv2 has"),
        (load_jumpcut, r"empty: no folders there; JumpCut has KIND/VIDEO"),
        (load_youtube_objects, r"empty: no CLASS/data/VIDEO/shots/SHOT/labels there"),
        (formats_of, r"empty: no known data set"),
    ):
        with pytest.raises(InputError, match=message):
            load(tmp_path / "empty")
    frame(tmp_path / "jumpcut/FAST/dance/RGB/1.jpg")
    with pytest.raises(InputError, match="dance: needs one folder of frames and one of masks"):
        load_jumpcut(tmp_path / "jumpcut")
    frame(segtrack / "JPEGImages/bird/again_00018.png")
    with pytest.raises(InputError, match=r"bird2_00018\.png: has the frame number of again_00018\.png"):
        load_segtrack(segtrack)
    (segtrack / "JPEGImages/bird/again_00018.png").rename(segtrack / "JPEGImages/bird/cover.png")
    with pytest.raises(InputError, match=r"cover\.png: no number in the name"):
        load_segtrack(segtrack)
    (segtrack / "JPEGImages/bird/cover.png").unlink()
    for path in (segtrack / "GroundTruth/bird").iterdir():
        mask(path, square(0) & False)
    with pytest.raises(InputError, match=r"GroundTruth/bird: no mask of a frame in .* shows an object"):
        load_segtrack(segtrack)


SMALL = "train=2 val=1 segtrack=2 jumpcut=1 youtube_objects=3 frames=4 added_frames=3 height=32 width=56"


def data_set(*overrides: str) -> DataSet:
    return read_settings(compose_train(list(overrides))).experiment.data_set


def synthetic(name: str, cache: Path) -> DataSet:
    spec = [f"data.spec.{field}" for field in SMALL.split()]
    return data_set(f"data={name}", f"data.cache={cache}", *spec)


def test_synthetic_settings_share_val_and_the_second_adds_to_train(tmp_path: Path) -> None:
    one, two = (synthetic(name, tmp_path) for name in ("synthetic_2016", "synthetic_192"))
    assert fingerprint(one.videos("val")) == fingerprint(two.videos("val"))
    first, second = one.videos("train"), two.videos("train")
    assert [s.frames for s in second[:2]] == [s.frames for s in first]
    assert [len(s) for s in second] == [4] * 2 + [3] * 6
    check_readable([*second, *one.videos("val")], slots=1)
    assert all(s.objects == (1,) and s.mask(0).mean() > 0.02 for s in second)
    trees = {path.name: formats_of(path) for path in next(tmp_path.glob("synthetic-trees-*")).iterdir()}
    assert trees == {
        "DAVIS": ["davis2016"],
        "SegTrackv2": ["segtrack"],
        "JumpCut": ["jumpcut"],
        "YouTube-Objects": ["youtube-objects"],
    }


def test_a_root_that_is_not_set_is_left_out_with_a_line(
    tmp_path: Path, segtrack: Path, capsys: pytest.CaptureFixture
) -> None:
    root = davis(tmp_path / "davis")
    data = data_set("data=davis2016_192", f"data.root={root}", f"data.segtrack_root={segtrack}")
    assert [s.name for s in data.videos("train")] == ["trained", "bird", "bmx-1", "bmx-2"]
    assert [s.name for s in data.videos("val")] == ["valed"]
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed] == ["data.jumpcut_root", "data.youtube_objects_root"]
