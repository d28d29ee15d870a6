"""Measures how time and memory grow with frames, objects and videos."""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.inference import ready, video
from benchmarks.measure import Setup, Times, Work, alternate, duration
from benchmarks.scoring import ours as score
from benchmarks.scoring import write_videos
from vos_lightning.runs.memory import keep_freed_memory

HEADER = ("case", "number", "time", "time a unit", "by the smallest", "memory, MiB")


def segment(backbone: str, size: tuple[int, int], frames: int, objects: int) -> Work:
    """Work that segments a video of so many frames, of which one is in memory at a time."""
    along = ready(backbone, size)
    images, first = video(8, size, objects)
    keep_freed_memory()

    def work() -> int:
        repeated = (images[t % len(images)] for t in range(frames))
        return sum(1 for _ in along.masks(repeated, {0: first}))

    return work


def _cells(case: str, times: dict[str, Times]) -> list[list[str]]:
    """A line for each number; `by the smallest` is the time a unit against that of the smallest number."""
    units = {number: side.median / int(number) for number, side in times.items()}
    smallest = next(iter(units.values()))
    return [
        [
            case,
            number,
            duration(side.median),
            duration(units[number]),
            f"{units[number] / smallest:.2f}",
            f"{side.memory / 2**20:.0f}",
        ]
        for number, side in times.items()
    ]


def cells(
    frames: tuple[int, ...] = (50, 200, 800),
    objects: tuple[int, ...] = (1, 3, 10),
    videos: tuple[int, ...] = (1, 4, 16),
    small: tuple[str, tuple[int, int]] = ("shufflenet_v2_x0_5", (96, 168)),
    large: tuple[str, tuple[int, int]] = ("resnet101", (256, 448)),
    scored: tuple[int, tuple[int, int]] = (30, (480, 854)),
    repeats: int = 3,
    processes: bool = True,
) -> list[list[str]]:
    """The lines below HEADER: frames with the small network, objects with the large one, scored videos."""
    lengths: dict[str, Setup] = {str(n): partial(segment, *small, n, 2) for n in frames}
    slots: dict[str, Setup] = {str(n): partial(segment, *large, 8, n) for n in objects}
    found = _cells("inference, frames", alternate(lengths, repeats, processes=processes))
    found += _cells("inference, objects", alternate(slots, repeats, processes=processes))
    with TemporaryDirectory() as name:
        folders: dict[str, Setup] = {}
        for n in videos:
            write_videos(Path(name) / str(n), n, *scored, objects=3)
            folders[str(n)] = partial(score, Path(name) / str(n), 1)
        found += _cells("scoring, videos", alternate(folders, repeats, processes=processes))
    return found
