"""YouTube-VOS as data: the synthetic tree, folders and zips, splits and portions, and faults of files."""

import json
import shutil
import zipfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from vos_lightning.data.clips import ClipDataset, check_first_masks, check_readable
from vos_lightning.data.files import ZipMember
from vos_lightning.data.image_sets import YouTubeVOSFrames
from vos_lightning.data.images import read_mask, write_mask
from vos_lightning.data.sets import fingerprint
from vos_lightning.data.synthetic_youtube import SyntheticYouTubeSpec, write_synthetic_youtube
from vos_lightning.data.videos import Video
from vos_lightning.data.youtube_vos import (
    SPLITS,
    categories_of,
    load_youtube_vos,
    splits_there,
)
from vos_lightning.errors import InputError

SPEC = SyntheticYouTubeSpec(train=12, valid=4, test=4, frames=8, height=32, width=56)
ANNOTATED = [f"{5 * t:05d}" for t in range(8)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic_youtube(tmp_path_factory.mktemp("cache"), SPEC)


@pytest.fixture
def tree(folder: Path, tmp_path: Path) -> Path:
    """A copy of valid to be spoilt."""
    shutil.copytree(folder / "valid", tmp_path / "valid")
    return tmp_path


def pack(folder: Path, root: Path, top: bool) -> Path:
    """The folder's trees as zips, with or without a top folder."""
    for tree in folder.iterdir():
        with zipfile.ZipFile(root / f"{tree.name}.zip", "w") as archive:
            for path in sorted(p for p in tree.rglob("*") if p.is_file()):
                archive.write(path, path.relative_to(folder if top else tree))
    return root


def names(videos: list[Video]) -> list[str]:
    return [s.name for s in videos]


def edit_meta(root: Path, change) -> None:
    path = root / "valid" / "meta.json"
    meta = json.loads(path.read_text())
    change(meta["videos"])
    path.write_text(json.dumps(meta))


def test_bytes_depend_on_the_seed_alone(tmp_path: Path) -> None:
    spec = SyntheticYouTubeSpec(train=4, valid=1, test=1, frames=4, height=32, width=56)
    one, two = (write_synthetic_youtube(tmp_path / str(n), spec, workers=n) for n in (1, 2))
    files = [p.relative_to(one) for p in sorted(one.rglob("*")) if p.is_file()]
    assert len(files) == 6 * (16 + 4) + 5 * 4 + 1 + 3  # all frames, annotated frames, masks, meta.json
    assert all((one / path).read_bytes() == (two / path).read_bytes() for path in files)


@pytest.mark.parametrize("split", ["train", "valid"])
def test_objects_are_listed_where_their_masks_show_them(folder: Path, split: str) -> None:
    for s in load_youtube_vos(folder, split):
        assert [path.stem for path in s.frames] == ANNOTATED
        shown = [set(np.unique(s.mask(t)).tolist()) - {0} for t in range(len(s))]
        assert s.presence == {
            i: tuple(t for t in range(len(s)) if i in shown[t]) for i in set().union(*shown)
        }


def test_the_oddities_of_the_real_data_are_there(folder: Path) -> None:
    train = load_youtube_vos(folder, "train")
    assert {s.name for s in train if s.objects != tuple(range(1, len(s.objects) + 1))} == {
        "train-0001",
        "train-0011",
    }
    assert {s.name for s in train if max(s.starts.values()) > 0} == {"train-0003", "train-0011"}
    assert [len(s.objects) for s in train[::2]] == [1] * 6


def test_unseen_categories_are_kept_from_training(folder: Path) -> None:
    seen = categories_of(folder, ["train"])
    train, valid = (
        {c for s in load_youtube_vos(folder, split) for c in s.categories.values()}
        for split in ("train", "valid")
    )
    assert seen == train
    assert valid - seen


def test_categories_keep_their_numbers_when_other_splits_come(folder: Path, tmp_path: Path) -> None:
    data_set = YouTubeVOSFrames(name="youtube_vos_frames", root=str(tmp_path))
    (tmp_path / "train").symlink_to(folder / "train")
    alone = data_set.categories
    (tmp_path / "valid").symlink_to(folder / "valid")
    assert set(alone) < set(data_set.categories) and data_set.categories[: len(alone)] == alone


def test_test_has_first_masks_alone(folder: Path) -> None:
    for s in load_youtube_vos(folder, "test", first_mask_only=True):
        assert s.annotated == tuple(sorted(set(s.starts.values())))
        assert all(times == tuple(range(times[0], 8)) for times in s.presence.values())
        given = s.given()
        for t in s.annotated:
            assert set(np.unique(s.mask(t))) - {0} == {i for i, start in s.starts.items() if start == t}
            assert np.array_equal(given[t], s.mask(t))


def test_all_frames_have_masks_at_every_fifth(folder: Path) -> None:
    few, every = (load_youtube_vos(folder, "valid", all_frames=choice) for choice in (False, True))
    for a, b in zip(few, every, strict=True):
        assert [path.name for path in b.frames] == [f"{t:05d}.jpg" for t in range(36)]
        assert b.annotated == tuple(range(0, 36, 5))
        assert b.presence == {i: tuple(5 * t for t in times) for i, times in a.presence.items()}
        for t, path in enumerate(a.frames):
            assert path.samefile(b.frames[5 * t])
            assert a.masks[t] == b.masks[5 * t]


@pytest.mark.parametrize("top", [True, False])
def test_a_zip_gives_what_its_folder_gives(folder: Path, tmp_path: Path, top: bool) -> None:
    pack(folder, tmp_path, top)
    assert splits_there(tmp_path) == list(SPLITS)
    for split, all_frames in (("train-80", False), ("valid", True), ("test", False)):
        options = {"all_frames": all_frames, "first_mask_only": split == "test"}
        plain, packed = (load_youtube_vos(root, split, **options) for root in (folder, tmp_path))
        assert fingerprint(plain) == fingerprint(packed)
        for a, b in zip(plain, packed, strict=True):
            assert (a.name, a.presence, a.categories) == (b.name, b.presence, b.categories)
            for x, y in zip(a.frames + a.masks, b.frames + b.masks, strict=True):
                assert (x and x.read_bytes()) == (y and y.read_bytes())


def test_a_folder_goes_before_a_zip(folder: Path, tree: Path) -> None:
    (tree / "valid.zip").write_bytes(b"no zip")
    assert names(load_youtube_vos(tree, "valid")) == names(load_youtube_vos(folder, "valid"))


def test_loader_processes_read_a_zip_side_by_side(folder: Path, tmp_path: Path) -> None:
    def read(files: list) -> list[bytes]:
        return [file.read_bytes() for file in files]

    plain, packed = (
        [path for s in load_youtube_vos(root, "train", all_frames=True) for path in s.frames] * 4
        for root in (folder, pack(folder, tmp_path, top=True))
    )
    assert read(packed[:1]) == read(plain[:1])  # The archive is open before the processes fork.
    loader = DataLoader(packed, batch_size=20, num_workers=2, collate_fn=read, multiprocessing_context="fork")
    assert [content for batch in loader for content in batch] == read(plain)


def test_clips_are_windows_of_annotated_frames(folder: Path) -> None:
    few, every = (
        ClipDataset(load_youtube_vos(folder, "train-20", choice), (32, 56), 4, 4, None, seed=0)
        for choice in (False, True)
    )
    assert len(few) == len(every) == 6
    assert all((few[0, i].frames == every[0, i].frames).all() for i in range(6))
    longer = ClipDataset(load_youtube_vos(folder, "train-20"), (32, 56), 10, 4, None, seed=0)[0, 0]
    assert (longer.labels[8:] == longer.labels[7]).all()


def test_every_id_of_a_video_counts_in_all_its_frames_or_where_it_is_visible(folder: Path) -> None:
    videos = load_youtube_vos(folder, "train")
    clips = {
        absent: ClipDataset(videos, (32, 56), 4, 4, None, 0, weigh_absent=absent) for absent in (True, False)
    }
    differ = 0
    for n, (video, _) in enumerate(clips[True].windows):
        labels, weights = clips[True][0, n].labels, clips[True][0, n].weights
        listed = torch.tensor([float(i in video.objects) for i in range(1, 5)]).expand(4, 4)
        visible = torch.stack([(labels == i).flatten(1).any(1).float() for i in range(1, 5)], 1)
        assert torch.equal(weights, listed) and torch.equal(clips[False][0, n].weights, visible)
        differ += not torch.equal(listed, visible)
    assert differ


def test_an_id_that_is_not_listed_weighs_nothing(folder: Path) -> None:
    video = next(v for v in load_youtube_vos(folder, "train") if len(v.objects) > 1)
    first, *listed = video.objects
    presence = {i: times for i, times in (video.presence or {}).items() if i != first}
    for absent in (True, False):
        clips = ClipDataset([replace(video, presence=presence)], (32, 56), 4, 4, None, 0, weigh_absent=absent)
        labels, weights = clips[0, 0].labels, clips[0, 0].weights
        assert (labels == first).any() and weights[..., [i - 1 for i in listed]].any()
        assert not weights[..., first - 1].any()


def test_lists_replace_the_division(folder: Path, tmp_path: Path) -> None:
    every = names(load_youtube_vos(folder, "train"))
    lists = (tmp_path / "most.txt", tmp_path / "rest.txt")
    for path, chosen in zip(lists, (every[:5], every[7:]), strict=True):
        path.write_text("\n".join(reversed(chosen)) + "\n")
    most, rest, whole = (
        names(load_youtube_vos(folder, s, lists=lists)) for s in ("train-80", "train-20", "train")
    )
    assert (most, rest, whole) == (every[:5], every[7:], every)
    with pytest.raises(InputError, match="one is set alone"):
        load_youtube_vos(folder, "train-20", lists=(lists[0], None))
    lists[1].write_text("nobody\n")
    with pytest.raises(InputError, match=r"rest\.txt: meta\.json has no training video nobody"):
        load_youtube_vos(folder, "train-20", lists=lists)


def test_lists_may_have_the_form_of_meta_json(folder: Path, tmp_path: Path) -> None:
    """As the division that RVOS's authors publish."""
    videos = json.loads((folder / "train" / "meta.json").read_text())["videos"]
    every = sorted(videos)
    lists = (tmp_path / "train-train-meta.json", tmp_path / "train-val-meta.json")
    for path, chosen in zip(lists, (every[:5], every[5:]), strict=True):
        path.write_text(json.dumps({"videos": {name: videos[name] for name in chosen}}))
    parts = [names(load_youtube_vos(folder, s, lists=lists)) for s in ("train-80", "train-20")]
    assert parts == [every[:5], every[5:]]
    with pytest.raises(InputError, match=f"both name video {every[5]}; name it in one"):
        load_youtube_vos(folder, "train-80", lists=((folder / "train" / "meta.json"), lists[1]))


def test_the_training_videos_divide_into_80_and_20(folder: Path) -> None:
    whole, most, rest = (names(load_youtube_vos(folder, split)) for split in SPLITS[:3])
    assert sorted(most + rest) == whole
    assert (len(most), len(rest)) == (9, 3)
    assert most != whole[:9]


def test_portions_lie_inside_each_other(folder: Path) -> None:
    for split in ("train", "train-80"):
        sets = [set(names(load_youtube_vos(folder, split, portion=p))) for p in (25, 50, 75, 100)]
        assert all(a < b for a, b in pairwise(sets))
        assert sets[-1] == set(names(load_youtube_vos(folder, split)))
    assert len(load_youtube_vos(folder, "train", portion=25)) == 3
    other = [names(load_youtube_vos(folder, "train", portion=50, seed=seed)) for seed in (0, 1)]
    assert other[0] != other[1]
    assert len(load_youtube_vos(folder, "train-20", portion=25)) == 3


def test_frames_beyond_those_listed_are_kept(tree: Path) -> None:
    def shorten(videos: dict) -> None:
        videos["valid-0000"]["objects"]["1"]["frames"] = ["00005", "00015"]

    edit_meta(tree, shorten)
    (tree / "valid/Annotations/valid-0000/00025.png").unlink()
    s = load_youtube_vos(tree, "valid")[0]
    assert (len(s), s.presence, s.annotated) == (8, {1: (1, 3)}, (0, 1, 2, 3, 4, 6, 7))
    with pytest.raises(InputError, match="has no mask for this frame"):
        s.mask(5)


def test_faults_of_meta_json_are_named(tree: Path, folder: Path) -> None:
    meta = tree / "valid" / "meta.json"
    for text in ("{", "[]", '{"video": {}}', '{"videos": []}'):
        meta.write_text(text)
        with pytest.raises(InputError, match=r'meta\.json: (not readable as JSON|no "videos")'):
            load_youtube_vos(tree, "valid")
    meta.write_text('{"videos": {"valid-0000": {"objects": {"1": {"frames": ["00000"]}}}}}')
    with pytest.raises(InputError, match='video valid-0000, object 1: no "category"'):
        load_youtube_vos(tree, "valid")
    shutil.copy(folder / "valid" / "meta.json", meta)
    edit_meta(tree, lambda videos: videos["valid-0002"]["objects"]["1"]["frames"].append("00040"))
    with pytest.raises(InputError, match=r"00040\.jpg: no such file; .* video valid-0002"):
        load_youtube_vos(tree, "valid")
    meta.unlink()
    with pytest.raises(InputError, match=r"meta\.json: no such file"):
        load_youtube_vos(tree, "valid")


def test_faults_of_a_tree_are_named(tree: Path) -> None:
    mask = tree / "valid/Annotations/valid-0003/00025.png"
    mask.unlink()
    with pytest.raises(InputError, match=r"00025\.png: no such file; video valid-0003"):
        load_youtube_vos(tree, "valid")
    check_first_masks(load_youtube_vos(tree, "valid", first_mask_only=True))

    for frame in ANNOTATED[1:]:
        (tree / f"valid/JPEGImages/valid-0000/{frame}.jpg").unlink()
    edit_meta(tree, lambda videos: videos["valid-0000"]["objects"]["1"].update(frames=["00000"]))
    with pytest.raises(InputError, match=r"valid-0000: 1 JPEG frames; video valid-0000"):
        load_youtube_vos(tree, "valid")
    assert len(load_youtube_vos(tree, "valid", first_mask_only=True)[0]) == 1

    with pytest.raises(InputError, match=r"valid_all_frames: no such folder, nor valid_all_frames\.zip"):
        load_youtube_vos(tree, "valid", all_frames=True)
    with pytest.raises(InputError, match="data split val: unknown; choose one of train"):
        load_youtube_vos(tree, "val")
    with pytest.raises(InputError, match=r"data\.portion=10: choose one of 25"):
        load_youtube_vos(tree, "valid", portion=10)


def test_an_object_absent_from_its_first_mask_is_named(tree: Path) -> None:
    s = load_youtube_vos(tree, "valid")[3]
    late, start = max(s.starts.items(), key=lambda item: item[1])
    assert start > 0
    path = tree / f"valid/Annotations/valid-0003/{ANNOTATED[start]}.png"
    mask = read_mask(path)
    write_mask(path, np.where(mask == late, 0, mask).astype(np.uint8))
    for check in (check_first_masks, lambda videos: check_readable(videos, 4)):
        with pytest.raises(InputError, match=rf"{path.name}: video valid-0003 starts object {late} here"):
            check([s])


def test_faults_of_zips_are_named(folder: Path, tmp_path: Path) -> None:
    content = (pack(folder, tmp_path, top=True) / "valid.zip").read_bytes()
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut/valid.zip").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"cut/valid\.zip: not a whole zip archive"):
        load_youtube_vos(tmp_path / "cut", "valid")

    (tmp_path / "spoilt").mkdir()
    frame = (folder / "valid/JPEGImages/valid-0001/00010.jpg").read_bytes()
    spoilt = content.replace(frame[100:200], bytes(100))
    (tmp_path / "spoilt/valid.zip").write_bytes(spoilt)
    s = load_youtube_vos(tmp_path / "spoilt", "valid")[1]
    with pytest.raises(InputError, match=r"valid\.zip/valid/JPEGImages/valid-0001/00010\.jpg: cannot be unp"):
        s.frame(2)

    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("read.me", "")
    (tmp_path / "other.zip").rename(tmp_path / "test.zip")
    with pytest.raises(InputError, match=r"test\.zip: holds no folder JPEGImages"):
        load_youtube_vos(tmp_path, "test")
    with pytest.raises(InputError, match=r"valid\.zip/00000\.jpg: no such file in the archive"):
        ZipMember(tmp_path / "valid.zip", "00000.jpg").read_bytes()
    with pytest.raises(InputError, match=r"none\.zip: no such file"):
        ZipMember(tmp_path / "none.zip", "00000.jpg").read_bytes()
