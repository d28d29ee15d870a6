"""Checks of whole videos: remembered for files that did not change, and shown while they take long."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vos_lightning.data import checked, images, small_frames
from vos_lightning.data.clips import check_first_masks, check_readable
from vos_lightning.data.images import write_mask
from vos_lightning.data.object_clips import ObjectClips
from vos_lightning.data.small_frames import FrameCache
from vos_lightning.data.videos import Video
from vos_lightning.errors import InputError


@pytest.fixture
def videos(tmp_path: Path) -> list[Video]:
    found = []
    for name in "abc":
        paths = [(tmp_path / name / f"{t}.jpg", tmp_path / name / f"{t}.png") for t in range(2)]
        (tmp_path / name).mkdir()
        for frame, mask in paths:
            Image.new("RGB", (32, 24)).save(frame)
            write_mask(mask, np.full((24, 32), 3, np.uint8))
        frames, masks = zip(*paths, strict=True)
        found.append(Video(name, frames, masks, presence={3: (0, 1)}))
    return found


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were decoded, as FOLDER/NAME."""
    found: list[str] = []
    decode = images._decode

    def seen(path, *more):
        found.append(f"{path.parent.name}/{path.name}")
        return decode(path, *more)

    monkeypatch.setattr(images, "_decode", seen)
    monkeypatch.setattr(small_frames, "SETTLED", -1)
    return found


def test_what_has_passed_is_not_decoded_again(videos, decoded, tmp_path) -> None:
    cache = FrameCache(tmp_path / "cache", keep_free=0)
    check_readable(videos, 3, cache)
    assert len(set(decoded)) == 12
    decoded.clear()
    check_readable(videos, 3, FrameCache(tmp_path / "cache", keep_free=0))
    assert decoded == []
    with pytest.raises(InputError, match=r"object id 3 of video a exceeds model\.slots=2"):
        check_readable(videos, 2, cache)  # another question
    decoded.clear()
    check_readable(videos, 3)  # without memory
    assert len(set(decoded)) == 12


def test_an_edited_video_is_checked_again_and_a_bad_one_each_time(videos, decoded, tmp_path) -> None:
    cache, path = FrameCache(tmp_path / "cache", keep_free=0), tmp_path / "b/1.jpg"
    check_readable(videos, 3, cache)
    decoded.clear()
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[:4] = b"none"
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    for _ in range(2):
        with pytest.raises(InputError, match=r"b/1\.jpg: not a readable image"):
            check_readable(videos, 3, cache)
    assert set(decoded) == {"b/0.jpg", "b/0.png", "b/1.jpg"}


def test_a_file_that_changed_just_now_is_not_remembered(videos, decoded, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(small_frames, "SETTLED", 10**12)
    for _ in range(2):
        decoded.clear()
        check_readable(videos, 3, FrameCache(tmp_path / "cache", keep_free=0))
        assert len(set(decoded)) == 12


def test_first_masks_are_remembered_by_what_starts_in_them(videos, decoded, tmp_path) -> None:
    cache = FrameCache(tmp_path / "cache", keep_free=0)
    ObjectClips(videos, (24, 32), None, 0, cache)
    assert set(decoded) == {"a/0.png", "b/0.png", "c/0.png"}
    decoded.clear()
    ObjectClips(videos, (24, 32), None, 0, cache)
    assert decoded == []
    other = Video("a", videos[0].frames, videos[0].masks, presence={2: (0, 1)})
    with pytest.raises(InputError, match="starts object 2 here"):
        check_first_masks([other], cache)


def test_a_long_check_says_how_far_it_is(videos, monkeypatch, capsys) -> None:
    check_readable(videos, 3, None, "val")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(checked, "LINE_SECONDS", 0)
    check_readable(videos, 3, None, "val")
    assert capsys.readouterr().err.splitlines()[1:] == [f"Checking val: {n} of 3 videos" for n in (1, 2)]
