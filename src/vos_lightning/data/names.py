"""Names of videos, frames and sequences, which become parts of paths, and the lists that hold them."""

from pathlib import Path, PurePosixPath

from vos_lightning.errors import InputError

LONGEST = 255  # bytes of a file's name on the usual file systems
SHOWN = 40  # characters of a refused name


def checked_name(name: str, where: object) -> str:
    """The name, if it is one part of a path: 1 to 255 printable bytes without / or \\, and not . or .. alone.

    Raises InputError, which starts with `where`, for any other.
    """
    one_part = name not in (".", "..") and "/" not in name and "\\" not in name
    if one_part and name.isprintable() and 0 < len(name.encode()) <= LONGEST:
        return name
    shown = ascii(name if len(name) <= SHOWN else f"{name[:SHOWN]}...")
    raise InputError(
        f"{where}: {shown} is no name of a video or frame; rename it to 1 to {LONGEST} printable bytes, "
        "without / or \\, other than . and .. alone."
    )


def read_names(path: Path) -> list[str]:
    """Sequence names of a split list: one a line, or the path pairs of DAVIS-2016's lists.

    Raises InputError if the list is unreadable or empty, or holds what is no name.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{path}: no readable file; a split list is text, one sequence a line.") from None
    names = list(dict.fromkeys(_name(line.split()[0], path) for line in lines if line.strip()))
    if not names:
        raise InputError(f"{path}: the list is empty; name one sequence a line.")
    return names


def _name(word: str, path: Path) -> str:
    """The name that is the word, or the folder of the frame that it is the path of."""
    if "/" not in word:
        return checked_name(word, path)
    parts = PurePosixPath(word.lstrip("/")).parts
    for part in parts:
        checked_name(part, path)
    return checked_name(parts[-2] if len(parts) > 1 else "", path)
