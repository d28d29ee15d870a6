"""vos-score: J&F of a folder of predicted masks against a folder of true masks, both SEQ/FRAME.png."""

import argparse
import csv
import io
import json
import multiprocessing
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np

from vos_lightning.data.sequence import Sequence
from vos_lightning.errors import InputError
from vos_lightning.scoring.davis import PROTOCOLS, Scores, SequenceScore, score_sequence, summarise

COLUMNS = ("JF", "J", "JR", "JD", "F", "FR", "FD")


def read_names(path: Path) -> list[str]:
    """Sequence names of a split list: one a line, or the path pairs of DAVIS-2016's lists.

    Raises InputError if the list is unreadable or empty.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{path}: no readable file; a split list is text, one sequence a line.") from None
    first_words = [line.split()[0] for line in lines if line.strip()]
    if not first_words:
        raise InputError(f"{path}: the list is empty; name one sequence a line.")
    return list(dict.fromkeys(Path(w).parent.name if "/" in w else w for w in first_words))


def find_pairs(
    truth: Path, predictions: Path, protocol: str, names: list[str] | None = None
) -> list[tuple[Sequence, Sequence]]:
    """Lists the true and the predicted masks of each sequence, frame by frame; no image is opened.

    Args:
        truth: folder of SEQ/FRAME.png.
        predictions: the same for predictions; frames that the truth does not have are ignored.
        protocol: one of PROTOCOLS; frames that it does not score need no prediction.
        names: the sequences, by default all in `truth`.

    Raises:
        InputError: a folder, a sequence or a frame to be scored is missing.
    """
    for root in (truth, predictions):
        if not root.is_dir():
            raise InputError(f"{root}: no such folder; give a folder of SEQ/FRAME.png.")
    if names is None:
        names = sorted(p.name for p in truth.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not names:
        raise InputError(f"{truth}: no sequence folder; give a folder of SEQ/FRAME.png.")
    return [_find_pair(truth / name, predictions / name, protocol) for name in names]


def _find_pair(truth: Path, predictions: Path, protocol: str) -> tuple[Sequence, Sequence]:
    masks = tuple(sorted(truth.glob("*.png")))
    if not masks:
        raise InputError(f"{truth}: no PNG masks of this sequence; give a folder of SEQ/FRAME.png.")
    if not predictions.is_dir():
        raise InputError(f"{predictions}: no such folder; predict sequence {truth.name} or use --split-list.")
    files = tuple(predictions / mask.name for mask in masks)
    found = tuple(path if path.is_file() else None for path in files)
    scored = slice(1, -1) if protocol == "semi-supervised" else slice(None)
    if None in found[scored]:
        missing = files[scored][found[scored].index(None)]
        raise InputError(f"{missing}: no such file; the {protocol} protocol scores this frame.")
    return Sequence(truth.name, masks, masks), Sequence(truth.name, files, found)


def _masks(sequence: Sequence) -> Iterator[np.ndarray | None]:
    return (None if path is None else sequence.mask(t) for t, path in enumerate(sequence.masks))


def _score_pair(pair: tuple[Sequence, Sequence], protocol: str) -> SequenceScore:
    truth, predicted = pair
    true_masks = map(truth.mask, range(len(truth)))
    return score_sequence(true_masks, _masks(predicted), protocol, truth.name, predicted.frames)


def score_folders(
    truth: Path, predictions: Path, protocol: str, names: list[str] | None = None, jobs: int = 1
) -> Scores:
    """Scores a folder of predictions with `jobs` processes, a sequence each; arguments as in `find_pairs`.

    Raises InputError as `find_pairs` and `score_sequence` do, and for an unreadable image.
    """
    pairs = find_pairs(truth, predictions, protocol, names)
    score = partial(_score_pair, protocol=protocol)
    if jobs == 1:
        return summarise(map(score, pairs))
    # Nothing here has threads, and forked processes start at once.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    with ProcessPoolExecutor(jobs, context) as pool:
        return summarise(pool.map(score, pairs))


def table(scores: Scores) -> str:
    """The scores as text: the protocol, a line an object, and the mean over objects."""
    rows = [(o.sequence, str(o.id), o.to_dict()) for o in scores.objects]
    rows.append((f"mean over {len(rows)}", "", scores.to_dict()))
    width = max(len(name) for name, _, _ in rows)
    lines = [f"DAVIS-2017 {scores.protocol}: {PROTOCOLS[scores.protocol]}"]
    lines.append(f"{'sequence':<{width}}  id" + "".join(f"{column:>8}" for column in COLUMNS))
    for name, number, values in rows:
        lines.append(
            f"{name:<{width}}  {number:>2}" + "".join(f"{values[column]:8.4f}" for column in COLUMNS)
        )
    return "\n".join(lines)


def _csv(scores: Scores) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("protocol", "sequence", "id", *COLUMNS))
    for o in scores.objects:
        writer.writerow((f"DAVIS-2017 {scores.protocol}", o.sequence, o.id, *map(o.to_dict().get, COLUMNS)))
    return text.getvalue()


def _write(path: Path, text: str) -> None:
    """Writes a file whole or not at all. Raises InputError if that fails."""
    part = path.parent / f".{path.name}.{os.getpid()}"
    try:
        part.write_text(text)
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise InputError(f"{path}: cannot be written ({error.strerror}); choose another file.") from error


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1 up")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vos-score", description=__doc__.partition(": ")[2])
    parser.add_argument("truth", type=Path, metavar="TRUTH", help="true masks, e.g. DAVIS/Annotations/480p")
    parser.add_argument(
        "predictions", type=Path, metavar="PREDICTIONS", help="masks of the same sizes and names"
    )
    parser.add_argument(
        "--protocol", choices=PROTOCOLS, default="semi-supervised", help="default: %(default)s"
    )
    parser.add_argument("--split-list", type=Path, metavar="FILE", help="sequences; default: all in TRUTH")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the scores there")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the scores of the objects there")
    parser.add_argument("--jobs", type=_count, default=1, metavar="N", help="processes; default: %(default)s")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs vos-score; returns the exit code, 2 for bad input."""
    args = _parser().parse_args(argv)
    try:
        names = read_names(args.split_list) if args.split_list else None
        scores = score_folders(args.truth, args.predictions, args.protocol, names, args.jobs)
        if args.json:
            _write(args.json, json.dumps(scores.to_dict(), indent=2) + "\n")
        if args.csv:
            _write(args.csv, _csv(scores))
    except InputError as error:
        print(f"vos-score: {error}", file=sys.stderr)
        return 2
    print(table(scores))
    return 0


if __name__ == "__main__":
    sys.exit(main())
