"""Frames at the network's size: the quick way gives what the plain one does, and the cache what was read."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vos_lightning.data.images import write_mask
from vos_lightning.data.sequence import Sequence
from vos_lightning.data.small_frames import FrameCache, read_small
from vos_lightning.errors import InputError

SIZE = (64, 112)


def gradient(height: int, width: int, blue: int = 60) -> Image.Image:
    """A smooth picture, which JPEG keeps."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    planes = (255 * x, 255 * y, np.full_like(x, blue))
    return Image.fromarray(np.stack(planes, -1).astype(np.uint8))


def sequence(folder: Path, values: tuple[int, ...] = (0, 1, 2, 255), height: int = 180) -> Sequence:
    """One frame of 320 pixels' width and its mask, whose columns hold the values in four stripes."""
    frame, mask = folder / "0.jpg", folder / "0.png"
    gradient(height, 320).save(frame, quality=95)
    write_mask(mask, np.repeat(np.array(values, np.uint8), 320 // len(values))[None].repeat(180, 0))
    return Sequence("seq", (frame,), (mask,))


def test_a_small_frame_is_the_frame_resized(tmp_path: Path) -> None:
    planes = read_small(sequence(tmp_path), 0, SIZE)
    expected = np.asarray(gradient(180, 320).resize(SIZE[::-1], Image.Resampling.BILINEAR), np.float64)
    assert np.abs(planes[:3] - expected.transpose(2, 0, 1)).max() < 4
    assert (planes[3] == np.repeat([0, 1, 2, 0], SIZE[1] // 4)).all()  # void has become background


def test_an_enlarged_frame_is_the_frame_resized(tmp_path: Path) -> None:
    size = (360, 640)
    planes = read_small(sequence(tmp_path), 0, size)
    expected = np.asarray(gradient(180, 320).resize(size[::-1], Image.Resampling.BILINEAR), np.float64)
    assert np.abs(planes[:3] - expected.transpose(2, 0, 1)).max() < 4


def test_the_cache_gives_what_was_read(tmp_path: Path) -> None:
    cache = FrameCache(tmp_path / "cache", keep_free=0)
    one = sequence(tmp_path, (0, 255))
    first = read_small(one, 0, SIZE, cache)
    assert set(np.unique(first[3])) == {0, 1}
    files = [path for path in cache.folder.rglob("*") if path.is_file()]
    assert len(files) == 1
    marked = np.fromfile(files[0], np.uint8)
    marked[0] ^= 1  # shows that the second reading takes this file
    marked.tofile(files[0])
    second = read_small(one, 0, SIZE, cache)
    assert np.argwhere(second != first).tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("change", ["frame", "mask", "size"])
def test_other_content_or_size_is_not_taken_from_the_cache(tmp_path: Path, change: str) -> None:
    cache, size = FrameCache(tmp_path / "cache", keep_free=0), SIZE
    one = sequence(tmp_path)
    read_small(one, 0, size, cache)
    if change == "frame":
        gradient(180, 320, blue=200).save(one.frames[0])
    elif change == "mask":
        write_mask(tmp_path / "0.png", np.full((180, 320), 3, np.uint8))
    else:
        size = (32, 56)
    assert (read_small(one, 0, size, cache) == read_small(one, 0, size)).all()


def test_a_file_cut_short_is_read_anew(tmp_path: Path) -> None:
    cache, one = FrameCache(tmp_path / "cache", keep_free=0), sequence(tmp_path)
    first = read_small(one, 0, SIZE, cache)
    (file,) = (path for path in cache.folder.rglob("*") if path.is_file())
    file.write_bytes(file.read_bytes()[:100])
    assert (read_small(one, 0, SIZE, cache) == first).all()
    assert file.stat().st_size == first.size


@pytest.mark.parametrize("keep_free", [float("inf"), 0])
def test_a_full_or_unwritable_disk_is_no_error(tmp_path: Path, keep_free: float) -> None:
    (tmp_path / "file").write_text("no folder can be made here")
    folder = tmp_path / "cache" if keep_free else tmp_path / "file" / "cache"
    read_small(sequence(tmp_path), 0, SIZE, FrameCache(folder, keep_free))
    assert not [path for path in folder.rglob("*") if path.is_file()]


def test_faults_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"0.png: mask of 320x180 pixels for a frame of 320x90"):
        read_small(sequence(tmp_path, height=90), 0, SIZE)
    one, content = sequence(tmp_path), io.BytesIO()
    gradient(180, 320).save(content, "JPEG")
    one.frames[0].write_bytes(content.getvalue()[:500])
    with pytest.raises(InputError, match=r"0.jpg: not a readable image"):
        read_small(one, 0, SIZE)
