"""Reads the files of a data set, which lie in folders or inside zip archives that stay packed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from stat import S_ISREG
from typing import TypeAlias
from zipfile import ZipFile, ZipInfo

from vos_lightning.data.names import checked_name
from vos_lightning.errors import InputError

MOST_BYTES = 2**28  # of a frame, a mask or a meta.json


@dataclass(frozen=True, slots=True)
class ZipMember:
    """A file or folder inside a zip archive, with those methods of a `Path` that this package uses.

    archive: the zip. member: the path inside it, such as valid/meta.json, or empty for its top.
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
            return archive.read(self.info())
        except InputError:
            raise
        except Exception as error:  # zipfile raises errors of many kinds on damaged archives
            raise InputError(f"{self}: cannot be unpacked ({error}); fetch the archive again.") from error

    def info(self) -> ZipInfo:
        """What the archive's directory says of the file. Raises InputError if it does not list it."""
        try:
            return _open(self.archive).getinfo(self.member)
        except KeyError:
            raise InputError(f"{self}: no such file in the archive; check the data root.") from None


File: TypeAlias = Path | ZipMember


@contextmanager
def reading() -> Iterator[None]:
    """Turns what the system says of a file or folder that cannot be read into InputError.

    It serves as a decorator too.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"{error.filename}: no such file; check the data root and the split list.") from None
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be read ({error.strerror}); check the path.") from error


@reading()
def file_size(file: File) -> int:
    """The size of the unpacked file in bytes. Raises InputError if there is no such file."""
    return file.info().file_size if isinstance(file, ZipMember) else file.stat().st_size


@reading()
def file_state(file: File) -> tuple[str, int]:
    """A text that differs where a file's content does, and the file's last change in ns since 1970.

    The file is not opened: the text holds its path, its size and its times of change. For a file in an
    archive it holds those of the archive, and the file's name and checksum in it.

    Raises InputError if there is no such file.
    """
    path, member = (
        (file.archive, f"{file.member} {file.info().CRC}") if isinstance(file, ZipMember) else (file, "")
    )
    found = path.stat()
    times = found.st_mtime_ns, found.st_ctime_ns  # the second also tells of an edit that kept the first
    return f"{os.path.abspath(path)} {found.st_size} {times} {member}", max(times)


@reading()
def read_file(file: File, most: int | None = None) -> bytes:
    """The content of a file.

    Raises InputError if it is missing, unreadable, no file or larger than `most` bytes, or MOST_BYTES.
    """
    most = MOST_BYTES if most is None else most
    if isinstance(file, Path) and not S_ISREG(file.stat().st_mode):  # another kind might never end
        raise InputError(f"{file}: no regular file; put a file in its place.")
    if file_size(file) > most:
        raise InputError(f"{file}: larger than {most >> 20} MiB; give a smaller file.")
    return file.read_bytes()


def list_folder(folder: File, suffix: str) -> dict[str, File]:
    """The files of a folder that end in `suffix` by their stems, in order of name.

    With .jpg as suffix, 00000.jpg stands under 00000. A folder that is not there has no files.

    Raises InputError for an archive that cannot be read, or a name that `checked_name` refuses.
    """
    files: dict[str, File] = {}
    if isinstance(folder, ZipMember):
        files = {name: folder / name for name in _folders(folder.archive).get(folder.member, [])}
    elif folder.is_dir():
        files = {path.name: path for path in folder.iterdir()}
    chosen = sorted(name for name in files if name.endswith(suffix) and not name.startswith("."))
    return {checked_name(name, folder).removesuffix(suffix): files[name] for name in chosen}


def read_names(path: Path) -> list[str]:
    """The names of the videos in a split list, each once.

    A line is a name, or as in DAVIS-2016 the paths of a frame and its mask, of which the frame's folder
    counts: /JPEGImages/480p/bear/00000.jpg names bear.

    Raises InputError if the list is unreadable or empty, or if `checked_name` refuses a name.
    """
    try:
        lines = read_file(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8; a split list is text, one video a line.") from None
    names = list(dict.fromkeys(_name(line.split()[0], path) for line in lines if line.strip()))
    if not names:
        raise InputError(f"{path}: the list is empty; name one video a line.")
    return names


def _name(word: str, path: Path) -> str:
    """The word as a name, or of the path of a frame the name of its folder."""
    if "/" not in word:
        return checked_name(word, path)
    parts = PurePosixPath(word.lstrip("/")).parts
    for part in parts:
        checked_name(part, path)
    return checked_name(parts[-2] if len(parts) > 1 else "", path)


def find_tree(root: Path, name: str, content: str) -> File | None:
    """The tree in the folder ROOT/NAME, or else inside ROOT/NAME.zip; None if neither is there.

    content: a folder at the top of the tree, such as JPEGImages. An archive may hold the tree itself or
    below another folder: of valid/JPEGImages/... the tree is valid.

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
        except Exception as error:  # see `read_bytes`
            raise InputError(f"{archive}: not a whole zip archive ({error}); fetch it again.") from error
    return _archives[archive]


@cache
def _folders(archive: Path) -> dict[str, list[str]]:
    """The names of the files that lie right in each folder of an archive, by the folder."""
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
