"""vos-score: J&F of a folder of predicted masks against a folder of true masks, both VIDEO/FRAME.png.

The masks are scored by a DAVIS-2017 protocol, or with --meta by one of YouTube-VOS.
"""

import argparse
import csv
import io
import json
import sys
from pathlib import Path
from typing import NamedTuple

from vos_lightning.atomic import write_text
from vos_lightning.data.files import read_file, read_names
from vos_lightning.data.youtube_meta import MetaObject, read_meta
from vos_lightning.errors import InputError
from vos_lightning.report.plots import position_curves
from vos_lightning.scoring import davis, youtube_vos
from vos_lightning.scoring.folders import score_davis, score_youtube_vos
from vos_lightning.scoring.measures import figures

COLUMNS = ("JF", "J", "JR", "JD", "F", "FR", "FD")

Meta = dict[str, dict[int, MetaObject]]
# What Report.keys name, such as the video and the id, and the figures by COLUMNS.
Row = tuple[tuple[str, ...], dict[str, float]]


class Report(NamedTuple):
    """Scores as they are printed and written.

    heading: stands above the table. keys: name what tells the rows apart. scores: are written as JSON.
    """

    heading: str
    keys: tuple[str, ...]
    objects: list[Row]
    means: list[Row]
    scores: dict


def _read_meta(path: Path) -> Meta:
    return read_meta(read_file(path), str(path))


def _seen(args: argparse.Namespace, meta: Meta) -> set[str]:
    """The categories that --seen or --seen-category name, or without these options all of `meta`."""
    categories = {o.category for objects in meta.values() for o in objects.values()}
    if args.seen:
        return {o.category for objects in _read_meta(args.seen).values() for o in objects.values()}
    unknown = set(args.seen_category or ()) - categories
    if unknown:
        raise InputError(
            f"--seen-category {min(unknown)}: no object of {args.meta} is one; "
            f"its categories are {', '.join(sorted(categories))}."
        )
    return set(args.seen_category or categories)


def _score_youtube_vos(args: argparse.Namespace, names: list[str] | None) -> Report:
    meta = _read_meta(args.meta)
    for name in names or ():
        if name not in meta:
            raise InputError(f"{args.split_list}: {args.meta} has no video {name}; remove it from the list.")
    seen = _seen(args, meta)
    chosen = {name: meta[name] for name in names or meta}
    protocol = args.frames or "without-first"
    scores = score_youtube_vos(args.truth, args.predictions, chosen, seen, protocol, args.jobs)
    result = scores.to_dict()
    objects: list[Row] = [
        ((o.video, str(o.id), o.category, group), figures(o.j, o.f))
        for group, members in scores.groups.items()
        for o in members
    ]
    means: list[Row] = [
        ((f"mean over {len(scores.groups[group])}", "", "", group), row)
        for group, row in scores.means.items()
    ]
    means.append((("G", "", "", ""), scores.overall))
    return Report(result["protocol"], ("video", "id", "category", "group"), objects, means, result)


def _score_davis(args: argparse.Namespace, names: list[str] | None) -> Report:
    protocol = args.protocol or "semi-supervised"
    scores = score_davis(args.truth, args.predictions, protocol, names, args.jobs)
    result = scores.to_dict()
    objects: list[Row] = [((o.video, str(o.id)), o.to_dict()) for o in scores.objects]
    means: list[Row] = [((f"mean over {len(objects)}", ""), result)]
    heading = f"{result['protocol']}: {davis.PROTOCOLS[protocol]}"
    return Report(heading, ("sequence", "id"), objects, means, result)


def table(report: Report) -> str:
    """The scores as text: the protocol, a line for each object, and the means."""
    rows = report.objects + report.means
    widths = [max(len(key), *(len(row[0][i]) for row in rows)) for i, key in enumerate(report.keys)]

    def line(keys: tuple[str, ...], cells: list[str]) -> str:
        left = "  ".join(f"{key:<{width}}" for key, width in zip(keys, widths, strict=True))
        return (left + "".join(f"{cell:>8}" for cell in cells)).rstrip()

    lines = [report.heading, line(report.keys, list(COLUMNS))]
    for keys, row in rows:
        lines.append(line(keys, [f"{row[column]:.4f}" if column in row else "" for column in COLUMNS]))
    return "\n".join(lines)


def _csv(report: Report) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("protocol", *report.keys, *COLUMNS))
    for keys, row in report.objects:
        writer.writerow((report.scores["protocol"], *keys, *map(row.get, COLUMNS)))
    return text.getvalue()


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1 up")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vos-score", description=__doc__.partition(": ")[2])
    add = parser.add_argument
    add("truth", type=Path, metavar="TRUTH", help="true masks, e.g. DAVIS/Annotations/480p")
    add("predictions", type=Path, metavar="PREDICTIONS", help="masks of the same sizes and names")
    add("--split-list", type=Path, metavar="FILE", help="videos; default: all in TRUTH, or in META.json")
    add("--json", type=Path, metavar="FILE", help="write the scores there")
    add("--csv", type=Path, metavar="FILE", help="write the scores of the objects there")
    add("--jobs", type=_count, default=1, metavar="N", help="processes; default: %(default)s")
    add = parser.add_argument_group("DAVIS-2017").add_argument
    add("--protocol", choices=davis.PROTOCOLS, help="default: semi-supervised")
    group = parser.add_argument_group("YouTube-VOS")
    add = group.add_argument
    add("--meta", type=Path, metavar="META.json", help="of the split that is scored")
    add(
        "--frames",
        choices=youtube_vos.PROTOCOLS,
        help="of each object; default: without-first, since the first mask is given",
    )
    add("--plot", type=Path, metavar="FILE.png", help="draw J over the position in the video there")
    add = group.add_mutually_exclusive_group().add_argument
    add("--seen", type=Path, metavar="TRAIN_META.json", help="its categories are the seen ones; default: all")
    add("--seen-category", action="append", metavar="NAME", help="a seen category; may be repeated")
    return parser


def _check_options(args: argparse.Namespace) -> None:
    """Raises InputError if an option of one data set is given for the other."""
    only_youtube = ("frames", "plot", "seen", "seen_category")
    misplaced = ["protocol"] if args.meta else only_youtube
    for name in misplaced:
        if getattr(args, name):
            needs = "is for DAVIS; use --frames with" if args.meta else "is for YouTube-VOS; add"
            raise InputError(f"--{name.replace('_', '-')}: {needs} --meta.")


def main(argv: list[str] | None = None) -> int:
    """Runs vos-score; returns the exit code, 2 for bad input."""
    args = _parser().parse_args(argv)
    try:
        _check_options(args)
        names = read_names(args.split_list) if args.split_list else None
        report = (_score_youtube_vos if args.meta else _score_davis)(args, names)
        if args.json:
            write_text(args.json, json.dumps(report.scores, indent=2) + "\n")
        if args.csv:
            write_text(args.csv, _csv(report))
        if args.plot:
            position_curves(args.plot, {args.predictions.name: report.scores["position"]})
    except InputError as error:
        print(f"vos-score: {error}", file=sys.stderr)
        return 2
    print(table(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
