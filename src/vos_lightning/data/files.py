"""Files of a data set, in folders or inside zip archives that stay packed."""

import os
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TypeAlias
from zipfile import BadZipFile, ZipFile

from vos_lightning.data.names import checked_name
from vos_lightning.errors import InputError


@dataclass(frozen=True, slots=True)
class ZipMember:
    """A file or folder inside a zip archive, with what this package uses of a `Path`.

    archive: the zip. member: the path inside it, parts separated by slashes; empty for the top.
    """

    archive: Path
    member: str

    def __str__(self) -> str:
        return f"{self.archive}/{self.member}"

    def __truediv__(self, part: str) -> "ZipMember":
        return ZipMember(self.archive, f"{self.member}/{part}".removeprefix("/"))

    @property
    def name(self) -> str:
        """The last part."""
        return self.member.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The last part without its suffix."""
        return PurePosixPath(self.name).stem

    def read_bytes(self) -> bytes:
        """The unpacked content. Raises InputError if the archive or the file in it is missing or damaged."""
        archive = _open(self.archive)
        try:
            return archive.read(self.member)
        except KeyError:
            raise InputError(f"{self}: no such file in the archive; check the data root.") from None
        except (BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
            raise InputError(f"{self}: cannot be unpacked ({error}); fetch the archive again.") from error


File: TypeAlias = Path | ZipMember


def file_size(file: File) -> int:
    """Size in bytes, unpacked."""
    if isinstance(file, ZipMember):
        return _open(file.archive).getinfo(file.member).file_size
    return file.stat().st_size


def list_folder(folder: File, suffix: str) -> dict[str, File]:
    """Stem -> file with the suffix (such as .jpg), in order of name; nothing if there is no such folder.

    Raises InputError for an archive that cannot be read, or a name that `checked_name` refuses.
    """
    files: dict[str, File] = {}
    if isinstance(folder, ZipMember):
        files = {name: folder / name for name in _folders(folder.archive).get(folder.member, [])}
    elif folder.is_dir():
        files = {path.name: path for path in folder.iterdir()}
    chosen = sorted(name for name in files if name.endswith(suffix) and not name.startswith("."))
    return {checked_name(name, folder).removesuffix(suffix): files[name] for name in chosen}


def find_tree(root: Path, name: str, content: str) -> File | None:
    """ROOT/NAME, or else what ROOT/NAME.zip holds below its top folder, if it has one; None without either.

    content: a folder of the tree, by which the top is known.

    Raises InputError for an archive that cannot be read or holds no such folder.
    """
    folder, archive = root / name, root / f"{name}.zip"
    if folder.is_dir():
        return folder
    if not archive.is_file():
        return None
    parts = (f"/{path}".partition(f"/{content}/") for path in _folders(archive))
    tops = {top.removeprefix("/") for top, separator, _ in parts if separator}
    if not tops:
        raise InputError(f"{archive}: holds no folder {content}; give the archive as published.")
    return ZipMember(archive, min(tops, key=len))


def _open(archive: Path) -> ZipFile:
    if archive not in _archives:
        try:
            _archives[archive] = ZipFile(archive)
        except FileNotFoundError:
            raise InputError(f"{archive}: no such file; check the data root.") from None
        except (BadZipFile, OSError) as error:
            raise InputError(f"{archive}: not a whole zip archive ({error}); fetch it again.") from error
    return _archives[archive]


@cache
def _folders(archive: Path) -> dict[str, list[str]]:
    """Folder -> names of the files right in it."""
    folders: dict[str, list[str]] = {}
    members = _open(archive).namelist()
    for part in {part for member in members for part in member.removesuffix("/").split("/")}:
        checked_name(part, archive)
    for member in members:
        folder, _, name = member.rpartition("/")
        folders.setdefault(folder, []).append(name)
    return folders


_archives: dict[Path, ZipFile] = {}  # open in this process


def _reopen() -> None:
    for path, archive in _archives.items():
        archive.fp = path.open("rb")


# A forked process keeps the directories that its parent has read; a shared descriptor would mix their reads.
os.register_at_fork(after_in_child=_reopen)
