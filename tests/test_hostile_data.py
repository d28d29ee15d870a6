"""Broken and hostile files of a data set: each is refused in one sentence that names it, and none hangs."""

import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vos_lightning.apps.data import main as data
from vos_lightning.data import files
from vos_lightning.data.clips import check_readable
from vos_lightning.data.davis import load_davis
from vos_lightning.data.examples import SingleObjects, Windows
from vos_lightning.data.images import read_frame, read_mask, write_mask
from vos_lightning.data.modules import Loading, TrainingData
from vos_lightning.data.sets import Davis2017, fingerprint
from vos_lightning.data.youtube_meta import read_meta
from vos_lightning.data.youtube_vos import load_youtube_vos
from vos_lightning.errors import InputError


def png(width: int, height: int, depth: int = 8, kind: int = 0) -> bytes:
    """A PNG whose header says that it is of this size."""

    def chunk(name: bytes, content: bytes) -> bytes:
        checked = name + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    rows = zlib.compress(bytes(min(height, 24) * (1 + min(width, 32) * depth // 8)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def jpeg() -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (32, 24)).save(content, "JPEG")
    return content.getvalue()


def replace(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


IMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a pipe": (os.mkfifo, "no regular file"),
    "endless": (lambda p: p.symlink_to("/dev/zero"), "no regular file"),
    "a folder": (Path.mkdir, "no regular file"),
    "a loop of links": (lambda p: p.symlink_to(p.name), "cannot be read"),
    "a link to nothing": (lambda p: p.symlink_to("nothing"), "no such file"),
    "huge": (lambda p: os.truncate(p.touch() or p, 2**30), "larger than 256 MiB"),
    "empty": (Path.touch, "not a readable image"),
    "half": (lambda p: p.write_bytes(jpeg()[:300]), "not a readable image"),
    "400 megapixels": (lambda p: p.write_bytes(png(20000, 20000)), "more than 64 million pixels"),
    "64.01 megapixels": (lambda p: p.write_bytes(png(8000, 8001)), "more than 64 million pixels"),
    "16 bits": (lambda p: p.write_bytes(png(32, 24, 16)), "8 bits|palette, L or LA"),
    "a program": (
        lambda p: p.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        "not a readable",
    ),
}


@pytest.mark.parametrize(("make", "words"), IMAGES.values(), ids=IMAGES)
def test_no_image_breaks_the_reader(tmp_path: Path, make: Callable[[Path], object], words: str) -> None:
    make(tmp_path / "0.png")
    for read in (read_frame, read_mask, lambda path: read_mask(path, luminance=True)):
        with pytest.raises(InputError, match=rf"0\.png: .*({words})"):
            read(tmp_path / "0.png")


def test_random_damage_to_images_is_an_input_error(tmp_path: Path) -> None:
    rng, sources = np.random.default_rng(0), (jpeg(), png(32, 24), png(32, 24, 16))
    for n in range(300):
        content = bytearray(sources[n % 3])
        for at in rng.integers(8, len(content), 4):
            content[at] = rng.integers(256)
        for read in (read_frame, read_mask):
            try:
                assert read(tmp_path / "0.png", bytes(content)).dtype == np.uint8
            except InputError as error:
                assert str(error).startswith(str(tmp_path))


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    """A DAVIS tree of one video of two frames, in train and val."""
    for t in range(2):
        for kind, suffix in (("JPEGImages", "jpg"), ("Annotations", "png")):
            path = tmp_path / kind / "480p/a" / f"{t:05d}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            if suffix == "jpg":
                path.write_bytes(jpeg())
            else:
                write_mask(path, np.eye(24, 32, dtype=np.uint8))
    (tmp_path / "ImageSets/2017").mkdir(parents=True)
    for split in ("train", "val"):
        (tmp_path / f"ImageSets/2017/{split}.txt").write_text("a\n")
    return tmp_path


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the list is empty"),
        (b"\n \n", "the list is empty"),
        (b"b\xe9ar\n", "not UTF-8"),
        (b"n" * 400, "is no name"),
        (b"bear\n", "no JPEG frames"),
    ],
)
def test_faults_of_a_split_list_are_named(davis: Path, content: bytes, words: str) -> None:
    (davis / "ImageSets/2017/val.txt").write_bytes(content)
    with pytest.raises(InputError, match=words):
        load_davis(davis, "val")


def test_a_frame_that_is_a_loop_of_links_is_named_where_sizes_are_taken(davis: Path) -> None:
    replace(davis / "JPEGImages/480p/a/00001.jpg", lambda p: p.symlink_to(p.name))
    videos = load_davis(davis, "val")
    for use in (fingerprint, lambda found: check_readable(found, 10)):
        with pytest.raises(InputError, match=r"00001\.jpg: cannot be read"):
            use(videos)


@pytest.mark.parametrize("root", ["n" * 400, "file", "file/x"])
def test_a_root_that_is_no_folder_is_named(tmp_path: Path, root: str, capsys) -> None:
    (tmp_path / "file").touch()
    for load in (load_davis, load_youtube_vos):
        with pytest.raises(InputError, match=root):
            load(tmp_path / root, "train")
    with pytest.raises(SystemExit) as stop:
        data(["stats", str(tmp_path / root)])
    assert stop.value.code == 2 and capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_without_objects_is_named(davis: Path, split: str) -> None:
    (davis / "ImageSets/2017" / f"{split}.txt").write_text("empty\n")
    for kind in ("JPEGImages", "Annotations"):
        (davis / kind / "480p/a").rename(davis / kind / "480p/empty")
    for mask in (davis / "Annotations").rglob("*.png"):
        write_mask(mask, np.zeros((24, 32), np.uint8))
    data_set = Davis2017(name="davis2017", root=str(davis), train_split=split, val_split=split)
    for examples in (Windows, SingleObjects):
        drawn = examples(
            size=(24, 32), clip_length=2, batch_size=1, augment=False, image_warp="nearest", val_clips=1
        )
        clips = TrainingData(data_set, drawn, 10, 0, Loading())
        with pytest.raises(InputError, match=f"split {split}: none of its 1 videos has an object"):
            clips.setup()


@pytest.mark.parametrize(
    "content",
    [b"[" * 100_000, b'{"videos":' + b"9" * 5000 + b"}", b"\xff", json.dumps({"videos": {"a": {}}}).encode()]
    + [
        json.dumps({"videos": {"a": {"objects": {key: {"category": name, "frames": ["0"]}}}}}).encode()
        for key, name in (("9" * 5000, "cat"), ("01", "cat"), ("1", "\ud800"), ("1", "a\nb"))
    ],
)
def test_faults_of_meta_are_one_sentence(content: bytes) -> None:
    with pytest.raises(InputError, match=r"^m\.json") as refusal:
        read_meta(content, "m.json")
    assert str(refusal.value).isprintable() and len(str(refusal.value)) < 300


def zipped(path: Path) -> bytearray:
    meta = {"videos": {"a": {"objects": {"1": {"category": "cat", "frames": ["0"]}}}}}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train/meta.json", json.dumps(meta))
        archive.writestr("train/Annotations/a/0.png", png(32, 24))
        for t in range(2):
            archive.writestr(f"train/JPEGImages/a/{t}.jpg", jpeg())
    return bytearray(path.read_bytes())


def test_damage_to_a_zip_is_an_input_error(tmp_path: Path) -> None:
    """Cut short and with bytes changed, above all in its directory."""
    whole, rng = zipped(tmp_path / "whole.zip"), np.random.default_rng(0)
    for n in range(80):
        root = tmp_path / str(n)
        root.mkdir()
        content = whole[: -1 - 13 * n] if n < 20 else bytearray(whole)
        for at in rng.integers(len(content) * 2 // 3 if n % 2 else 0, len(content), 0 if n < 20 else 5):
            content[at] = rng.integers(256)
        (root / "train.zip").write_bytes(content)
        try:
            check_readable(load_youtube_vos(root, "train"), 10)
        except InputError as error:
            assert str(error)
        else:
            assert n >= 20, "a zip cut short was taken"


def test_a_member_that_unpacks_to_more_than_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MOST_BYTES", 2**20)
    zipped(tmp_path / "train.zip")
    with zipfile.ZipFile(tmp_path / "train.zip", "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train/JPEGImages/a/2.jpg", bytes(2**20 + 1))
    with pytest.raises(InputError, match=r"2\.jpg: larger than 1 MiB"):
        read_frame(load_youtube_vos(tmp_path, "train")[0].frames[2])
