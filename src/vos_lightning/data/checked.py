"""Checks of many videos that open every file: they show how far they are, and skip what has passed before."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from tqdm import tqdm

from vos_lightning.data.small_frames import FrameCache
from vos_lightning.data.videos import Video

LINE_SECONDS = 10  # between two lines where there is no terminal


def check_each(
    videos: Iterable[Video],
    check: Callable[[Video], object],
    what: str,
    cache: FrameCache | None,
    label: str,
) -> None:
    """Checks videos, less those whose files are in the state in which they passed this check before.

    Args:
        videos: the videos.
        check: takes one video, and raises InputError if it is not as it should be.
        what: names the check and what decides its outcome besides the video, such as "readable, 10 slots".
        cache: remembers which videos have passed; with None all are checked.
        label: is shown while the check runs, such as the name of the split.
    """
    for video in _shown(list(videos), label):
        passed, settled = (None, False) if cache is None else cache.mark(video, what)
        if passed is None or not passed.exists():
            check(video)
            if cache is not None and passed is not None and settled:
                cache.set_mark(passed)


def _shown(videos: Sequence[Video], label: str) -> Iterator[Video]:
    """Gives the videos on; shows a bar on stderr if that is a terminal, or else a line now and then."""
    if sys.stderr.isatty():
        yield from tqdm(videos, f"Checking {label}", unit="video", leave=False, delay=1, dynamic_ncols=True)
        return
    said = time.monotonic()
    for n, video in enumerate(videos):
        if time.monotonic() - said >= LINE_SECONDS:
            print(f"Checking {label}: {n} of {len(videos)} videos", file=sys.stderr, flush=True)
            said = time.monotonic()
        yield video
