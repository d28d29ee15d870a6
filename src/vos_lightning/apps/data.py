"""vos-data: what is in a data set. `vos-data stats ROOT` counts it in the columns of S2S's Table 1."""

import argparse
from pathlib import Path

from vos_lightning.apps.cli import report_errors
from vos_lightning.data.statistics import FORMATS, PUBLISHED, Scale, formats_of
from vos_lightning.text_tables import as_text


def main(argv: list[str] | None = None) -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(prog="vos-data", description=__doc__)
    commands = parser.add_subparsers(required=True)
    stats = commands.add_parser("stats", help="videos, categories, objects, annotations and minutes")
    stats.add_argument("root", type=Path, metavar="ROOT", help="the public tree of a data set")
    stats.add_argument("--format", choices=FORMATS, help="of the tree (default: as its folders tell)")
    stats.add_argument("--fps", type=float, help="frames per second (default: 20 for DAVIS, else 30)")
    args = parser.parse_args(argv)
    with report_errors("vos-data"):
        print(_stats(args.root, args.format, args.fps))


def _stats(root: Path, name: str | None, fps: float | None) -> str:
    found = [FORMATS[key] for key in ([name] if name else formats_of(root))]
    lines = [_line(form.name, form.scale(root, fps or form.fps)) for form in found]
    lines += [_line(f"{label} (paper)", scale) for label, scale in PUBLISHED.items()]
    return as_text(["", "Videos", "Categories", "Objects", "Annotations", "Duration (min)"], lines)


def _line(label: str, scale: Scale) -> list[str]:
    categories = "-" if scale.categories is None else str(scale.categories)
    counts = [str(scale.videos), categories, str(scale.objects), f"{scale.annotations:,}"]
    return [label, *counts, f"{scale.minutes:.2f}"]


if __name__ == "__main__":
    main()
