"""What the command line tools share: errors of input as one sentence."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from vos_lightning.errors import InputError
from vos_lightning.processes import Interrupted

if TYPE_CHECKING:
    import torch

SUFFIXES = (".jpg", ".jpeg", ".png")  # of frames and images


@contextmanager
def report_errors(program: str) -> Iterator[None]:
    """Prints an error of input, files or disks to stderr as `program: sentence` and exits with code 2.

    So it does with a signal, and exits with 128 and the signal's number.
    """
    try:
        yield
    except (Interrupted, KeyboardInterrupt) as error:
        stop = error if isinstance(error, Interrupted) else Interrupted(signal.SIGINT)
        print(f"{program}: {stop.sentence}", file=sys.stderr)
        sys.exit(128 + stop.number)
    except BrokenPipeError:  # whoever read the output, such as `head`, wants no more of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except ValueError as error:
        if "integer string conversion" not in str(error):
            raise
        print(f"{program}: a whole number takes more than 63 bits; write a smaller one.", file=sys.stderr)
        sys.exit(2)
    except (InputError, HydraException, OmegaConfBaseException, OSError) as error:
        print(f"{program}: {sentence(error)}", file=sys.stderr)
        sys.exit(2)


def sentence(error: BaseException) -> str:
    """An error's message on one line of printable letters, without the traceback of a loader process."""
    if isinstance(error, OSError) and error.strerror:
        place = f"{str(error.filename)[:200]}: " if error.filename else ""
        return f"{place}{error.strerror}; choose another place or make room."
    line = " ".join(str(error).rsplit("InputError: ")[-1].split()) or type(error).__name__
    return "".join(letter if letter.isprintable() else "?" for letter in line)


def device_named(name: str | None) -> "torch.device":
    """cpu, cuda or cuda:N, or the default. Raises InputError for another or one that is not there."""
    import torch

    there = torch.cuda.device_count()
    if name is None:
        return torch.device("cuda" if there else "cpu")
    known = ["cpu", *(["cuda"] if there else []), *(f"cuda:{i}" for i in range(there))]
    if name not in known:
        raise InputError(f"--device={name[:60]}: not on this machine; choose one of {', '.join(known)}.")
    return torch.device(name)


def pictures_of(folder: Path) -> list[Path]:
    """The image files of a folder in order of name. Raises InputError if there is none."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder.")
    found = sorted(path for path in folder.glob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise InputError(f"{folder}: no .jpg or .png frames there.")
    return found
