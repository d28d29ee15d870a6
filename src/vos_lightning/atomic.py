"""Files that are written whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vos_lightning.errors import InputError


@contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[Path]:
    """Gives a path to write to, which takes the place of `path` at the end; after an exception it is removed.

    Args:
        path: what stands there stays until the new file is whole.
        durable: whether the content is on the disk before it takes the place, so that a machine that goes
            down leaves the old or the new file. Files that can be made again need not be, which saves time.

    Raises:
        InputError: the file cannot be written.
    """
    part = path.with_name(f".{secrets.token_hex(8)}.partial")
    try:
        yield part
        if durable:
            with part.open("rb+") as file:
                os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with suppress(OSError):
            part.unlink()


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text; a line ends as it does in `text`. Raises InputError if that fails."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", newline="")


def unwritable(path: Path, error: OSError) -> InputError:
    """What to say about a path that cannot be written."""
    return InputError(f"{path}: cannot be written ({error.strerror or error}); choose another place.")
