"""What vos-interact opens: video files, which become frames on disk, and folders of frames."""

import re
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.colour_session import SIZE, pictures
from tests.helpers import written
from vos_lightning.apps.interact import video_at
from vos_lightning.errors import InputError


def film(path: Path, frames: int = 30, **options: str) -> Path:
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("mpeg4", 25)
        stream.height, stream.width, stream.pix_fmt, stream.gop_size = *SIZE, "yuv420p", 1
        for picture in pictures(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
    return path


def test_a_video_file_becomes_frames_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = film(tmp_path / "boxes.mp4", movflags="faststart")
    video, rate = video_at(source, tmp_path / "frames")
    assert (len(video), video.name, rate) == (30, "boxes", 25)
    assert np.abs(video.frame(29).astype(int) - pictures(30)[29]).mean() < 6
    before = (tmp_path / "frames/00000.jpg").stat().st_mtime_ns
    assert video_at(source, tmp_path / "frames")[0] == video
    assert (tmp_path / "frames/00000.jpg").stat().st_mtime_ns == before

    cut = tmp_path / "cut.mp4"
    cut.write_bytes(source.read_bytes()[: source.stat().st_size * 2 // 3])
    with pytest.raises(InputError, match="frames of another file"):
        video_at(cut, tmp_path / "frames")
    capsys.readouterr()
    there = video_at(cut, tmp_path / "others")[0]
    assert 5 < len(there) < 30
    assert re.search(rf"cut\.mp4: .*; the first {len(there)} frames are used\.", capsys.readouterr().out)


@pytest.mark.parametrize(
    "content",
    [b"", b"noise" * 99, b"#EXTM3U\n#EXTINF:1,\nfilm.mp4\n", b"ffconcat version 1.0\nfile film.mp4\n"],
)
def test_what_is_no_video_is_refused(tmp_path: Path, content: bytes) -> None:
    film(tmp_path / "film.mp4", 2)
    (tmp_path / "bad.mp4").write_bytes(content)  # a playlist names files that nobody meant
    with pytest.raises(InputError, match="not a video that can be read"):
        video_at(tmp_path / "bad.mp4", tmp_path / "frames")
    assert not (tmp_path / "frames").exists()


def test_folders_that_do_not_make_a_video_are_refused(tmp_path: Path) -> None:
    written(tmp_path / "mixed", [*pictures(2), pictures(1)[0][:50]], {})
    with pytest.raises(InputError, match=r"00002\.png: another size"):
        video_at(tmp_path / "mixed", tmp_path / "frames")
    written(tmp_path / "twice", pictures(2), {})
    Image.fromarray(pictures()[0]).save(tmp_path / "twice/00000.jpg")
    with pytest.raises(InputError, match="same name"):
        video_at(tmp_path / "twice", tmp_path / "frames")
    with pytest.raises(InputError, match="no such file"):
        video_at(tmp_path / "nothing.mp4", tmp_path / "frames")
