"""Checks of many videos or images that open every file: they show how far they are, and skip what has
passed before.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from tqdm import tqdm

from vos_lightning.data.instances import Image
from vos_lightning.data.small_frames import FrameCache
from vos_lightning.data.videos import Video

LINE_SECONDS = 10  # between two lines where there is no terminal

Checked = TypeVar("Checked", Video, Image)


def check_each(
    samples: Iterable[Checked],
    check: Callable[[Checked], object],
    what: str,
    cache: FrameCache | None,
    label: str,
) -> None:
    """Checks videos or images, less those whose files are in the state in which they passed this before.

    Args:
        samples: the videos or images.
        check: takes one of them, and raises InputError if it is not as it should be.
        what: names the check and what decides its outcome besides the sample, such as "readable, 10 slots".
        cache: remembers which have passed; with None all are checked.
        label: is shown while the check runs, such as the name of the split.
    """
    for sample in _shown(list(samples), label):
        passed, settled = (None, False) if cache is None else cache.mark(sample, what)
        if passed is None or not passed.exists():
            check(sample)
            if cache is not None and passed is not None and settled:
                cache.set_mark(passed)


def _shown(samples: Sequence[Checked], label: str) -> Iterator[Checked]:
    """Gives the samples on; shows a bar on stderr if that is a terminal, or else a line now and then."""
    unit = type(samples[0]).__name__.lower() if samples else ""
    if sys.stderr.isatty():
        yield from tqdm(samples, f"Checking {label}", unit=unit, leave=False, delay=1, dynamic_ncols=True)
        return
    said = time.monotonic()
    for n, sample in enumerate(samples):
        if time.monotonic() - said >= LINE_SECONDS:
            print(f"Checking {label}: {n} of {len(samples)} {unit}s", file=sys.stderr, flush=True)
            said = time.monotonic()
        yield sample
