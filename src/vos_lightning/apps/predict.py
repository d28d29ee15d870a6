"""vos-predict: masks of videos as indexed PNGs, with the zip a server takes; or the instances in images."""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vos_lightning.apps.cli import device_named, pictures_of, report_errors, sentence
from vos_lightning.data.instances import Image
from vos_lightning.data.videos import Video, video_of
from vos_lightning.errors import InputError


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vos-predict", description=__doc__)
    parser.add_argument(
        "checkpoint", type=Path, help="a run's folder, its .ckpt, or a folder with encoder.pt and decoder.pt"
    )
    parser.add_argument(
        "out",
        type=Path,
        help="folder for SEQ/FRAME.png, or for IMAGE.json and IMAGE.png; it must not exist or be empty",
    )
    source = parser.add_argument_group("input, either a split of a data set or one folder")
    source.add_argument(
        "--root",
        type=Path,
        help="a DAVIS tree, or YouTube-VOS's folders or zips; of images, the tree of the run's data set",
    )
    source.add_argument("--split", default="val", help="its split (default: val)")
    source.add_argument("--year", type=int, choices=(2016, 2017), help="DAVIS: its lists (default: 2017)")
    source.add_argument("--all-frames", action="store_true", help="YouTube-VOS: go through SPLIT_all_frames")
    source.add_argument(
        "--frames",
        type=Path,
        help="a folder of images, or of a video's frames by name, .jpg or .png",
    )
    source.add_argument("--masks", type=Path, help="a folder of FRAME.png: each object's first mask is given")
    parser.add_argument(
        "--zip", action="store_true", help="also write OUT.zip for the server of videos, with --root"
    )
    parser.add_argument("--device", default=None, help="cpu or cuda (default: cuda where there is one)")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="such as predict.merge=argmax"
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    """Command line entry."""
    args = _parser().parse_args(argv)
    with report_errors("vos-predict"):
        _predict(args)


def _predict(args: argparse.Namespace) -> None:
    from vos_lightning.devices import choose_arithmetic
    from vos_lightning.runs.load import load_run
    from vos_lightning.runs.memory import keep_freed_memory, peak_memory
    from vos_lightning.scoring.submission import server_layout, zip_masks

    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        raise InputError(f"{args.out}: no empty folder; name a new one.")
    if args.zip and args.frames:
        raise InputError("--zip: a server takes the split of a data set; use --root in place of --frames.")
    if (args.root is None) == (args.frames is None):
        raise InputError("input: give either --root, a data set, or --frames, one folder.")
    out = args.out.resolve()  # a name also for `.`
    archive = out.with_name(out.name + ".zip")
    device = device_named(args.device)
    experiment, network = load_run(args.checkpoint, args.set)
    if args.zip and experiment.given.in_rounds:
        raise InputError("--zip: no server takes masks that were made in rounds; leave it out.")
    if experiment.prediction.partner is not None:
        raise InputError(
            "predict.refine: only vos-train refines masks, not vos-predict; give `--set predict.refine=null`."
        )
    kind = experiment.model.examples.kind
    samples = SAMPLES[kind](args, experiment)
    keep_freed_memory()
    choose_arithmetic(experiment.prediction.tf32)
    evaluation = experiment.model.evaluation(network, experiment, device)
    started = time.monotonic()
    for done, sample in enumerate(samples):
        made: Any = None
        try:
            for made in evaluation.write(sample, args.out):  # noqa: B007
                pass
        except (InputError, OSError, RuntimeError, KeyboardInterrupt) as error:
            raise InputError(_what_is_missing(error, samples, done, args.out)) from error
        timing = evaluation.timings[-1]
        found = f"{len(made)} instances" if kind is Image else f"{timing.frames} frames"
        tuning = timing.online_seconds
        more = f", after {tuning:.1f} s of online learning" if tuning else ""
        print(f"{sample.name}: {found}{more}", flush=True)
    seconds, frames = time.monotonic() - started, sum(timing.frames for timing in evaluation.timings)
    memory, unit = peak_memory(device) / 2**20, "images" if kind is Image else "frames"
    print(f"{frames} {unit}, {frames / seconds:.1f} a second with reading and writing, peak {memory:.0f} MiB")
    if args.zip:
        layout = server_layout(samples, experiment.given.has_masks)
        print(f"Written: {zip_masks(out, archive, samples, layout)}")


def _what_is_missing(error: BaseException, samples: Sequence[Any], done: int, out: Path) -> str:
    """What to say when a prediction ends early: why, which samples are not written, how to go on."""
    names = [sample.name for sample in samples[done:]]
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    reason = "Interrupted." if isinstance(error, KeyboardInterrupt) else sentence(error)
    unit = "images" if isinstance(samples[0], Image) else "videos"
    return f"{reason} {done} of {len(samples)} {unit} are written, {shown} not; remove {out} and run again."


def _videos(args: argparse.Namespace, experiment: Any) -> Sequence[Video]:
    videos = _videos_there(args)
    for video in videos:
        if (experiment.given.has_masks or experiment.given.in_rounds) and not any(video.masks):
            raise InputError(f"{video.name}: no mask is given; name a folder of FRAME.png with --masks.")
    return videos


def _videos_there(args: argparse.Namespace) -> list[Video]:
    from vos_lightning.data.davis import load_davis
    from vos_lightning.data.youtube_vos import load_youtube_vos, splits_there

    if args.root is not None and splits_there(args.root):
        return load_youtube_vos(args.root, args.split, args.all_frames, first_mask_only=True)
    if args.root is not None:
        return load_davis(args.root, args.split, args.year or 2017, first_mask_only=True)
    frames = pictures_of(args.frames)
    if args.masks is not None and not args.masks.is_dir():
        raise InputError(f"{args.masks}: no such folder.")
    found = {p.stem: p for p in args.masks.glob("*.png")} if args.masks else {}
    return [video_of(args.frames.resolve().name, tuple(frames), tuple(found.get(p.stem) for p in frames))]


def _images(args: argparse.Namespace, experiment: Any) -> Sequence[Any]:
    for option in ("masks", "zip", "year", "all-frames"):
        if getattr(args, option.replace("-", "_")):
            raise InputError(f"--{option}: is for videos, and the run is one on images; leave it out.")
    data_set: Any = experiment.data_set
    if args.root is not None:
        if not hasattr(data_set, "root"):
            raise InputError(
                f"--root: the run's data set, {data_set.name}, has no tree; give --frames FOLDER."
            )
        there = replace(data_set, root=str(args.root))
        if hasattr(data_set, "only"):  # the ids of categories come from the tree
            there = replace(there, only=_categories(data_set))
        return there.samples(args.split, first_mask_only=True)
    found: dict[str, Path] = {}
    for path in pictures_of(args.frames):
        if path.stem in found:
            raise InputError(f"{path}: {found[path.stem].name} has the same name; rename one of them.")
        found[path.stem] = path
    return [Image(name, path) for name, path in found.items()]


def _categories(data_set: Any) -> tuple[str, ...] | None:
    """Those that a run was trained on, in their order; None if their tree is not there."""
    try:
        return data_set.categories or None
    except InputError:
        return None


SAMPLES: dict[type, Callable[[argparse.Namespace, Any], Sequence[Any]]] = {
    Video: _videos,
    Image: _images,
}


if __name__ == "__main__":
    main()
