"""vos-data says what is in a data set, and in the cache of frames.

`vos-data stats ROOT` counts a data set in the columns of S2S's Table 1. `vos-data cache` shows the cache of
frames at the network's size, which training fills, and `vos-data cache --clear` empties it.
"""

import argparse
import os
from pathlib import Path

from vos_lightning.apps.cli import report_errors
from vos_lightning.data.counts import FORMATS, PUBLISHED, Counts, formats_of
from vos_lightning.report.text import as_text


def main(argv: list[str] | None = None) -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(prog="vos-data", description=__doc__)
    commands = parser.add_subparsers(required=True)
    stats = commands.add_parser("stats", help="videos, categories, objects, annotations and minutes")
    stats.add_argument("root", type=Path, metavar="ROOT", help="the public tree of a data set")
    stats.add_argument("--format", choices=FORMATS, help="of the tree (default: as its folders tell)")
    stats.add_argument("--fps", type=float, help="frames per second (default: 20 for DAVIS, else 30)")
    stats.set_defaults(work=lambda args: _stats(args.root, args.format, args.fps))
    cache = commands.add_parser("cache", help="frames of each size, and bytes; or clear it")
    folder = Path(os.environ.get("VOS_CACHE", ".cache")) / "frames"
    cache.add_argument("--folder", type=Path, default=folder, help="run.frame_cache (default: %(default)s)")
    cache.add_argument("--clear", action="store_true", help="remove the frames; training makes them again")
    cache.set_defaults(work=lambda args: _cache(args.folder, args.clear))
    args = parser.parse_args(argv)
    with report_errors("vos-data"):
        print(args.work(args))


def _cache(folder: Path, clear: bool) -> str:
    from vos_lightning.data.small_frames import FrameCache  # imports torch, which takes seconds

    cache = FrameCache(folder, keep_free=0)
    contents = cache.contents()
    if clear:
        cache.clear()
    lines = [[size, f"{frames:,}", f"{used:,}"] for size, (frames, used) in contents.items()]
    if not lines:
        return f"{folder}: empty."
    total = [sum(column) for column in zip(*contents.values(), strict=True)]
    lines.append(["all", *(f"{number:,}" for number in total)])
    return f"{folder}{', now cleared' if clear else ''}\n" + as_text(["Size", "Frames", "Bytes"], lines)


def _stats(root: Path, name: str | None, fps: float | None) -> str:
    found = [FORMATS[key] for key in ([name] if name else formats_of(root))]
    lines = [_line(form.name, form.counts_of(root, fps or form.fps)) for form in found]
    lines += [_line(f"{label} (paper)", counts) for label, counts in PUBLISHED.items()]
    return as_text(["", "Videos", "Categories", "Objects", "Annotations", "Duration (min)"], lines)


def _line(label: str, counts: Counts) -> list[str]:
    categories = "-" if counts.categories is None else str(counts.categories)
    cells = [str(counts.videos), categories, str(counts.objects), f"{counts.annotations:,}"]
    return [label, *cells, f"{counts.minutes:.2f}"]


if __name__ == "__main__":
    main()
