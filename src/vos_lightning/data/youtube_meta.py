"""Reads the meta.json of a YouTube-VOS split, which says what objects a video has, and in which frames.

{"videos": {VIDEO: {"objects": {"1": {"category": "cat", "frames": ["00000", "00005"]}}}}}
"""

import json
from typing import Any, NamedTuple

from vos_lightning.data.images import VOID
from vos_lightning.data.names import checked_name
from vos_lightning.errors import InputError

IDS = frozenset(map(str, range(1, VOID)))


class MetaObject(NamedTuple):
    """One object of a video. frames: names of the annotated frames that have it, ascending, at least one."""

    category: str
    frames: tuple[str, ...]


def read_meta(content: bytes, where: str) -> dict[str, dict[int, MetaObject]]:
    """The objects of each video by id, from the content of a meta.json.

    Args:
        content: what the file holds.
        where: names the file in error messages.

    Raises:
        InputError: the content is not JSON or not of the form above, has no video or an id that is not
            1..254, or `checked_name` refuses the name of a video or frame.
    """
    try:
        meta = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not readable as JSON ({error}); fetch the file again.") from None
    videos = _entries(meta, "videos", where)
    return {
        checked_name(name, where): _objects(video, f"{where}: video {name}") for name, video in videos.items()
    }


def _entries(parent: Any, key: str, where: str) -> dict[str, Any]:
    found = parent.get(key) if isinstance(parent, dict) else None
    if not isinstance(found, dict) or not found:
        raise InputError(f'{where}: no "{key}"; give the meta.json of a YouTube-VOS split.')
    return found


def _objects(video: Any, where: str) -> dict[int, MetaObject]:
    objects = {}
    for key, entry in _entries(video, "objects", where).items():
        if key not in IDS:
            shown = ascii(key[:10]).strip("'")
            raise InputError(f"{where}: object id {shown} is not a number from 1 to {VOID - 1}; correct it.")
        objects[int(key)] = _object(entry, f"{where}, object {key}")
    return dict(sorted(objects.items()))


def _object(entry: Any, where: str) -> MetaObject:
    category, frames = (entry.get(k) if isinstance(entry, dict) else None for k in ("category", "frames"))
    if not isinstance(category, str) or not category or not category.isprintable():
        raise InputError(f'{where}: no "category"; give it a printable name.')
    if not isinstance(frames, list) or not frames or not all(isinstance(frame, str) for frame in frames):
        raise InputError(f'{where}: no "frames"; list the names of the frames that have it.')
    return MetaObject(category, tuple(sorted({checked_name(frame, where) for frame in frames})))
