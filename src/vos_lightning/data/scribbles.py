"""Scribbles: lines that a user draws on frames of a video to say what is an object and what is not.

Their files are those of DAVIS interactive (Caelles et al., 2018):

    {"scribbles": [[{"path": [[x, y], ...], "object_id": 1, "start_time": 0, "end_time": 1}, ...], ...],
     "sequence": "bear", "annotated_frame": 39}

with a list for each frame; annotated_frame may be absent.

Shapes: T frames of H x W pixels, N points of a path, M pixels. Object ids are 1, 2, ...; 0 is background.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vos_lightning.atomic import write_text
from vos_lightning.data.files import File, read_file
from vos_lightning.data.images import VOID
from vos_lightning.data.names import checked_name
from vos_lightning.errors import InputError
from vos_lightning.plain import JSON_BYTES, parse_json


@dataclass(frozen=True)
class Scribble:
    """A line on one frame.

    path: (N, 2) float64 of x and y in 0..1, shares of W - 1 and H - 1. id: the object that all of it lies on;
    0 is background. start, end: when it was drawn, in seconds of a clock of the file's own.
    """

    path: np.ndarray
    id: int
    start: float = 0.0
    end: float = 0.0


@dataclass(frozen=True)
class Interaction:
    """What a user says at once, of one frame.

    frame: t. scribbles: those that are new. mask: for models that take masks, the corrected one (H, W) uint8;
    for others None. last: whether no other interaction follows.
    """

    frame: int
    scribbles: tuple[Scribble, ...]
    mask: np.ndarray | None = None
    last: bool = False


@dataclass(frozen=True)
class ScribbleFile:
    """What a file of scribbles holds.

    video: the video's name. scribbles: those of each of the T frames. annotated: the frame that was drawn on,
    where the file says so.
    """

    video: str
    scribbles: tuple[tuple[Scribble, ...], ...]
    annotated: int | None = None

    @property
    def frames(self) -> tuple[int, ...]:
        """The frames that have a scribble."""
        return tuple(t for t, drawn in enumerate(self.scribbles) if drawn)


def read_scribbles(path: File, frames: int | None = None) -> ScribbleFile:
    """Reads a file of scribbles in DAVIS's format.

    Args:
        path: the file.
        frames: T, if the video is known.

    Raises:
        InputError: the file is missing, too large, no JSON or of another form, is of a video of another
            length or has no scribble; a coordinate lies outside 0..1 or an object id outside 0..254.
    """
    found = parse_json(read_file(path, JSON_BYTES), path)
    name, lists, annotated = (found.get(key) for key in ("sequence", "scribbles", "annotated_frame"))
    if not isinstance(name, str):
        raise InputError(f'{path}: no "sequence"; give it the name of the video.')
    if not isinstance(lists, list) or not all(isinstance(entries, list) for entries in lists):
        raise InputError(f'{path}: "scribbles" must be a list of lists, one for each frame; correct it.')
    if frames is not None and len(lists) != frames:
        raise InputError(f"{path}: is of {len(lists)} frames, the video has {frames}; give the video's own.")
    drawn = tuple(
        tuple(_scribble(entry, f"{path}: frame {t}") for entry in entries) for t, entries in enumerate(lists)
    )
    result = ScribbleFile(checked_name(name, path), drawn, annotated)
    if not result.frames:
        raise InputError(f"{path}: holds no scribble; draw at least one.")
    if annotated is not None and (type(annotated) is not int or annotated not in result.frames):
        raise InputError(f'{path}: "annotated_frame" must be a frame with a scribble; correct or remove it.')
    return result


def _scribble(entry: Any, where: str) -> Scribble:
    keys = ("path", "object_id", "start_time", "end_time")
    path, number, *times = (entry.get(key) if isinstance(entry, dict) else None for key in keys)
    if not isinstance(path, list) or not path or not all(map(_is_point, path)):
        raise InputError(f"{where}: a path must be a list of [x, y], each from 0 to 1; correct it.")
    if type(number) is not int or not 0 <= number < VOID:
        raise InputError(f"{where}: an object_id must be a whole number from 0 to {VOID - 1}; correct it.")
    if not all(time is None or type(time) in (int, float) for time in times):
        raise InputError(f"{where}: start_time and end_time must be numbers of seconds; correct them.")
    start, end = (float(time or 0) for time in times)
    return Scribble(np.array(path, dtype=np.float64), number, start, end)


def _is_point(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(type(share) in (int, float) and 0 <= share <= 1 for share in value)
    )


def write_scribbles(path: Path, drawn: ScribbleFile) -> None:
    """Writes a file that `read_scribbles` reads, whole or not at all. Raises InputError if that fails."""
    content: dict[str, Any] = {
        "scribbles": [
            [
                {"path": s.path.tolist(), "object_id": s.id, "start_time": s.start, "end_time": s.end}
                for s in scribbles
            ]
            for scribbles in drawn.scribbles
        ],
        "sequence": drawn.video,
    }
    if drawn.annotated is not None:
        content["annotated_frame"] = drawn.annotated
    write_text(path, json.dumps(content))


def scribbled_ids(scribbles: Iterable[Scribble], size: tuple[int, int]) -> np.ndarray:
    """Draws the scribbles of a frame of `size` (H, W); a later one lies on top.

    Returns:
        (H, W) int16: the id of the scribble, or -1 where there is none.
    """
    ids = np.full(size, -1, dtype=np.int16)
    for scribble in scribbles:
        columns, rows = _line((scribble.path * (size[1] - 1, size[0] - 1)).astype(np.int64)).T
        ids[rows, columns] = scribble.id
    return ids


def _line(points: np.ndarray) -> np.ndarray:
    """The pixels (M, 2) that Bresenham's algorithm sets between pixels (N, 2) int64, one after the other.

    A step along the longer axis, of `length` steps, moves along the other by its share, halves rounded up.
    """
    moves = np.diff(points, axis=0)
    lengths = np.abs(moves).max(axis=1)
    segment = np.repeat(np.arange(len(moves)), lengths + 1)
    step = np.arange(len(segment)) - np.repeat(np.cumsum(lengths + 1) - lengths - 1, lengths + 1)
    twice = 2 * np.maximum(lengths[segment], 1)[:, None]
    shares = (2 * step[:, None] * np.abs(moves[segment]) + twice // 2) // twice
    return np.concatenate([points[:1], points[segment] + np.sign(moves[segment]) * shares])
