"""Frames at the network's size: the quick way gives what the plain one does, and the cache what was read."""

import io
import os
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vos_lightning.apps.data import main as data
from vos_lightning.data import images, small_frames
from vos_lightning.data.files import ZipMember
from vos_lightning.data.images import write_mask
from vos_lightning.data.small_frames import FrameCache, colour_planes, read_small
from vos_lightning.data.videos import Video
from vos_lightning.errors import InputError

SIZE = (64, 112)


def gradient(height: int, width: int, blue: int = 60) -> Image.Image:
    """A smooth picture, which JPEG keeps."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    planes = (255 * x, 255 * y, np.full_like(x, blue))
    return Image.fromarray(np.stack(planes, -1).astype(np.uint8))


def video(folder: Path, values: tuple[int, ...] = (0, 1, 2, 255), height: int = 180) -> Video:
    """One frame of 320 pixels' width and its mask, whose columns hold the values in four stripes."""
    frame, mask = folder / "0.jpg", folder / "0.png"
    gradient(height, 320).save(frame, quality=95)
    write_mask(mask, np.repeat(np.array(values, np.uint8), 320 // len(values))[None].repeat(180, 0))
    return Video("seq", (frame,), (mask,))


def test_a_small_frame_is_the_frame_resized(tmp_path: Path) -> None:
    planes = read_small(video(tmp_path), 0, SIZE)
    expected = np.asarray(gradient(180, 320).resize(SIZE[::-1], Image.Resampling.BILINEAR), np.float64)
    assert np.abs(planes[:3] - expected.transpose(2, 0, 1)).max() < 4
    assert (planes[3] == np.repeat([0, 1, 2, 0], SIZE[1] // 4)).all()  # void has become background


def test_at_half_its_size_a_frame_is_the_one_that_a_video_is_segmented_with(tmp_path: Path) -> None:
    one, size = video(tmp_path), (90, 160)
    noise = np.random.default_rng(0).integers(0, 256, (45, 80, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((320, 180)).save(one.frames[0], quality=95)
    assert np.array_equal(read_small(one, 0, size)[:3], colour_planes(one.frame(0), size))


def test_an_enlarged_frame_is_the_frame_resized(tmp_path: Path) -> None:
    size = (360, 640)
    planes = read_small(video(tmp_path), 0, size)
    expected = np.asarray(gradient(180, 320).resize(size[::-1], Image.Resampling.BILINEAR), np.float64)
    assert np.abs(planes[:3] - expected.transpose(2, 0, 1)).max() < 4


def test_the_cache_gives_what_was_read(tmp_path: Path) -> None:
    cache = FrameCache(tmp_path / "cache", keep_free=0)
    one = video(tmp_path, (0, 255))
    first = read_small(one, 0, SIZE, cache)
    assert set(np.unique(first[3])) == {0, 1}
    files = [path for path in cache.folder.rglob("*") if path.is_file()]
    assert len(files) == 1
    marked = np.fromfile(files[0], np.uint8)
    marked[0] ^= 1  # shows that the second reading takes this file
    marked.tofile(files[0])
    second = read_small(one, 0, SIZE, cache)
    assert np.argwhere(second != first).tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("settled", [True, False])
@pytest.mark.parametrize("change", ["frame", "mask", "size", "mask of the same size and time"])
def test_other_content_or_size_is_not_taken_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, settled: bool
) -> None:
    cache, size = FrameCache(tmp_path / "cache", keep_free=0), SIZE
    one = video(tmp_path)
    if settled:
        monkeypatch.setattr(small_frames, "SETTLED", -1)
    read_small(one, 0, size, cache)
    time.sleep(0.02)  # above the resolution of a file's times
    if change == "frame":
        gradient(180, 320, blue=200).save(one.frames[0])
    elif change == "mask":
        write_mask(tmp_path / "0.png", np.full((180, 320), 3, np.uint8))
    elif change == "size":
        size = (32, 56)
    else:
        before = (tmp_path / "0.png").stat()
        video(tmp_path, (0, 1, 3, 255))
        assert (tmp_path / "0.png").stat().st_size == before.st_size
        os.utime(tmp_path / "0.png", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (read_small(one, 0, size, cache) == read_small(one, 0, size)).all()


def marked(cache: FrameCache) -> None:
    """Changes the only cached planes, which shows whether they are taken."""
    (file,) = cache.folder.glob("*x*/*/*")
    planes = np.fromfile(file, np.uint8)
    planes[0] ^= 1
    planes.tofile(file)


def zipped_video(folder: Path) -> Video:
    one = video(folder)
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        for name in ("0.jpg", "0.png"):
            archive.write(folder / name, name)
    files = [ZipMember(folder / "a.zip", path.name) for path in (one.frames[0], one.mask_file(0))]
    return Video("seq", (files[0],), (files[1],))


@pytest.mark.parametrize("make", [video, zipped_video])
def test_the_second_reading_opens_no_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make) -> None:
    monkeypatch.setattr(small_frames, "SETTLED", -1)
    cache, one = FrameCache(tmp_path / "cache", keep_free=0), make(tmp_path)
    first = read_small(one, 0, SIZE, cache)
    marked(cache)
    for place in (small_frames, images):
        monkeypatch.setattr(place, "read_file", lambda file: pytest.fail(f"{file} was opened"))
    assert (read_small(one, 0, SIZE, cache) != first).sum() == 1


def test_a_tree_that_moved_finds_its_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small_frames, "SETTLED", -1)
    cache, old, new = FrameCache(tmp_path / "cache", keep_free=0), tmp_path / "old", tmp_path / "new"
    old.mkdir()
    first = read_small(video(old), 0, SIZE, cache)
    marked(cache)
    old.rename(new)
    moved = Video("seq", (new / "0.jpg",), (new / "0.png",))
    assert (read_small(moved, 0, SIZE, cache) != first).sum() == 1
    cache.folder.rename(tmp_path / "moved")  # and so does a cache
    monkeypatch.setattr(small_frames, "read_file", lambda file: pytest.fail(f"{file} was opened"))
    assert (read_small(moved, 0, SIZE, FrameCache(tmp_path / "moved", 0)) != first).sum() == 1


def test_the_cache_is_shown_and_cleared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, folder = video(tmp_path), tmp_path / "cache"
    for size in (SIZE, (32, 56), (1, 2)):
        read_small(one, 0, size, FrameCache(folder, keep_free=0))
    (folder / "mine").mkdir()
    (folder / "10x20").mkdir()
    (folder / "10x20" / "photograph.jpg").touch()
    data(["cache", "--folder", str(folder)])
    printed = capsys.readouterr().out
    assert str(folder) in printed and printed.count("\n") == 7
    assert f"64x112 1 {4 * 64 * 112:,}" in " ".join(printed.split())
    data(["cache", "--folder", str(folder), "--clear"])
    assert {p.name for p in folder.rglob("*") if p.is_file()} == {"photograph.jpg"}
    assert (folder / "mine").is_dir()
    data(["cache", "--folder", str(folder)])
    assert "empty" in capsys.readouterr().out.splitlines()[-1]


def test_a_file_cut_short_is_read_anew(tmp_path: Path) -> None:
    cache, one = FrameCache(tmp_path / "cache", keep_free=0), video(tmp_path)
    first = read_small(one, 0, SIZE, cache)
    (file,) = (path for path in cache.folder.rglob("*") if path.is_file())
    file.write_bytes(file.read_bytes()[:100])
    assert (read_small(one, 0, SIZE, cache) == first).all()
    assert file.stat().st_size == first.size


@pytest.mark.parametrize("keep_free", [float("inf"), 0])
def test_a_full_or_unwritable_disk_is_no_error(tmp_path: Path, keep_free: float) -> None:
    (tmp_path / "file").write_text("no folder can be made here")
    folder = tmp_path / "cache" if keep_free else tmp_path / "file" / "cache"
    read_small(video(tmp_path), 0, SIZE, FrameCache(folder, keep_free))
    assert not [path for path in folder.rglob("*") if path.is_file()]


def test_faults_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"0.png: mask of 320x180 pixels for a frame of 320x90"):
        read_small(video(tmp_path, height=90), 0, SIZE)
    one, content = video(tmp_path), io.BytesIO()
    gradient(180, 320).save(content, "JPEG")
    one.frames[0].write_bytes(content.getvalue()[:500])
    with pytest.raises(InputError, match=r"0.jpg: not a readable image"):
        read_small(one, 0, SIZE)
