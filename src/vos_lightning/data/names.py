"""Checks the names of videos and frames, since they become parts of paths."""

from vos_lightning.errors import InputError

LONGEST = 255  # bytes of a file's name on the usual file systems
SHOWN = 40  # characters of a refused name


def checked_name(name: str, where: object) -> str:
    """Gives a name back that is one part of a path: 1 to 255 printable bytes without / or \\, but not . or ..

    So `bear` and `..x` pass, and `../bear` does not. Raises InputError, whose sentence starts with `where`,
    for any other.
    """
    one_part = name not in (".", "..") and "/" not in name and "\\" not in name
    if one_part and name.isprintable() and 0 < len(name.encode()) <= LONGEST:
        return name
    shown = ascii(name if len(name) <= SHOWN else f"{name[:SHOWN]}...")
    raise InputError(
        f"{where}: {shown} is no name of a video or frame; rename it to 1 to {LONGEST} printable bytes, "
        "without / or \\, other than . and .. alone."
    )
