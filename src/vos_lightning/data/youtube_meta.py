"""meta.json of YouTube-VOS: the objects of each video, their categories and the frames they are in.

{"videos": {VIDEO: {"objects": {"1": {"category": "ant", "frames": ["00000", "00005", ...]}, ...}}}}
"""

import json
from typing import NamedTuple

from vos_lightning.errors import InputError


class MetaObject(NamedTuple):
    """One object: its category and the names of its frames, without suffix, in order."""

    category: str
    frames: tuple[str, ...]


def read_meta(content: bytes, where: str) -> dict[str, dict[int, MetaObject]]:
    """Video -> object id -> the object.

    Args:
        content: of the file.
        where: its name, for errors.

    Raises:
        InputError: no JSON, or not of the form above.
    """
    try:
        return {
            video: {
                int(i): MetaObject(found["category"], tuple(found["frames"]))
                for i, found in entry["objects"].items()
            }
            for video, entry in json.loads(content)["videos"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{where}: not a meta.json of YouTube-VOS ({error!r}); fetch the file again."
        ) from error
