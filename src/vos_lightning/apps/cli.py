"""What the command line tools share: errors of input as one sentence."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from vos_lightning.errors import InputError


@contextmanager
def report_errors(program: str) -> Iterator[None]:
    """Prints an error of input to stderr as `program: sentence` and exits with code 2."""
    try:
        yield
    except (InputError, HydraException, OmegaConfBaseException) as error:
        print(f"{program}: {sentence(error)}", file=sys.stderr)
        sys.exit(2)


def sentence(error: BaseException) -> str:
    """An error's message on one line, without the traceback that a loader process puts before it."""
    return " ".join(str(error).rsplit("InputError: ")[-1].split()) or type(error).__name__
