"""Video files as frames on disk: each frame becomes a JPEG once, so that a long video never lies in memory.

It needs PyAV, which the extra `interact` installs.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from PIL import Image

from vos_lightning.atomic import unwritable, write_text
from vos_lightning.errors import InputError
from vos_lightning.plain import read_json

# Demuxers of containers that hold their own pictures; playlists, which name other files, are none of them.
CONTAINERS = "mov,mp4,matroska,webm,avi,mpeg,mpegts,mpegvideo,ogg,flv,asf,gif,h264,hevc,m4v"
MOST_FRAMES = 5000
QUALITY = 95  # of the JPEGs
RATE = Fraction(24)  # frames a second where nothing says; that of DAVIS


@dataclass(frozen=True)
class Unpacked:
    """The frames of a video file.

    frames: their JPEGs in order. rate: frames a second. problem: a sentence about what could not be read of
    the file; empty if all was.
    """

    frames: tuple[Path, ...]
    rate: Fraction
    problem: str = ""


def unpack(source: Path, folder: Path) -> Unpacked:
    """Writes the frames of a video file as FOLDER/00000.jpg and so on, or finds them there from before.

    A file that is cut short or damaged gives the frames before that. Frames lie as a player shows them,
    turned where the file says so.

    Raises:
        InputError: no video that can be read, one of more than MOST_FRAMES frames, a folder with the frames
            of another file, or no room.
    """
    if not source.is_file():
        raise InputError(f"{source}: no such file; name a video or a folder of frames.")
    state = {"file": source.name, "bytes": source.stat().st_size, "changed": source.stat().st_mtime_ns}
    listed = folder / "source.json"
    if folder.exists():
        found = read_json(listed, {"frames": int, "rate": list, "problem": str}, needed=3)
        if found is not None and found.items() >= state.items():
            frames = tuple(folder / _name(t) for t in range(found["frames"]))
            return Unpacked(frames, Fraction(*found["rate"]), found["problem"])
        raise InputError(f"{folder}: holds frames of another file; name another folder, or remove it.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".frames-", dir=folder.parent) as made:
            part = Path(made) / "frames"
            part.mkdir()
            count, rate, problem = _write(source, part)
            about = state | {"frames": count, "rate": rate.as_integer_ratio(), "problem": problem}
            write_text(part / listed.name, json.dumps(about))
            shutil.move(part, folder)
    except OSError as error:
        raise unwritable(folder, error) from error
    return Unpacked(tuple(folder / _name(t) for t in range(count)), rate, problem)


def _name(t: int) -> str:
    return f"{t:05d}.jpg"


def _write(source: Path, folder: Path) -> tuple[int, Fraction, str]:
    """The number of frames written, the rate, and what is wrong with the file."""
    count, size, problem = 0, None, ""
    unreadable = f"{source}: not a video that can be read"
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}
    try:
        container = av.open(f"file:{source.resolve()}", options=options)
    except (av.FFmpegError, ValueError) as error:
        raise InputError(f"{unreadable} ({_reason(error)}); give another file.") from None
    with container:
        if not container.streams.video:
            raise InputError(f"{unreadable} (it has no pictures); give another file.")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        rate = stream.average_rate or RATE
        seconds = (container.duration or 0) / av.time_base
        expected = stream.frames or int(0.9 * seconds * rate)  # the rate is a mean
        pictures = _pictures(container)
        while True:
            try:
                image = next(pictures, None)
            except (av.FFmpegError, ValueError) as error:
                problem = f"damaged after frame {count} ({_reason(error)})"
                break
            if image is None:
                break
            size = size or image.size
            if image.size != size:
                problem = f"of another size from frame {count} on"
                break
            if count == MOST_FRAMES:
                raise InputError(f"{source}: more than {MOST_FRAMES} frames; cut out a part of it.")
            image.save(folder / _name(count), "JPEG", quality=QUALITY)
            count += 1
    if not count:
        raise InputError(f"{unreadable} ({problem or 'it has no frames'}); give another file.")
    if not problem and count < expected:
        problem = f"cut short: {expected} or more frames are announced"
    return count, rate, f"{source}: {problem}; the first {count} frames are used." if problem else ""


def _pictures(container: Any) -> Iterator[Image.Image]:
    for frame in container.decode(video=0):
        image = frame.to_image()
        turn = round(frame.rotation / 90) * 90 % 360  # counter-clockwise, as Pillow turns
        yield image.rotate(turn, expand=True) if turn else image


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)[:100]
