"""vos-predict: masks of videos from their first masks, as indexed PNGs, and the zip a server takes."""

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from vos_lightning.apps.cli import report_errors, sentence
from vos_lightning.data.videos import Video, video_of
from vos_lightning.errors import InputError

if TYPE_CHECKING:
    import torch


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vos-predict", description=__doc__)
    parser.add_argument(
        "checkpoint", type=Path, help="a run's folder, its .ckpt, or a folder with encoder.pt and decoder.pt"
    )
    parser.add_argument("out", type=Path, help="folder for SEQ/FRAME.png; it must not exist or be empty")
    source = parser.add_argument_group("input, either a split of a data set or one video")
    source.add_argument("--root", type=Path, help="a DAVIS tree, or YouTube-VOS's folders or zips")
    source.add_argument("--split", default="val", help="its split (default: val)")
    source.add_argument(
        "--year", type=int, default=2017, choices=(2016, 2017), help="DAVIS: its lists (default: 2017)"
    )
    source.add_argument("--all-frames", action="store_true", help="YouTube-VOS: go through SPLIT_all_frames")
    source.add_argument("--frames", type=Path, help="a folder of frames, .jpg or .png, in order of name")
    source.add_argument("--masks", type=Path, help="a folder of FRAME.png: each object's first mask is given")
    parser.add_argument("--zip", action="store_true", help="also write OUT.zip for the server, with --root")
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
    out = args.out.resolve()  # a name also for `.`
    archive = out.with_name(out.name + ".zip")
    videos = _sequences(args)
    device = _device(args.device)
    experiment, network = load_run(args.checkpoint, args.set)
    keep_freed_memory()
    choose_arithmetic(experiment.prediction.tf32)
    evaluation = experiment.model.evaluation(network, experiment, device)
    takes_masks = experiment.given.has_masks
    for video in videos:
        if takes_masks and not any(video.masks):
            raise InputError(f"{video.name}: no mask is given; name a folder of FRAME.png with --masks.")
    started = time.monotonic()
    for done, video in enumerate(videos):
        try:
            for _ in evaluation.write(video, args.out):
                pass
        except (InputError, OSError, RuntimeError, KeyboardInterrupt) as error:
            raise InputError(_what_is_missing(error, videos, done, args.out)) from error
        tuning = evaluation.timings[-1].online_seconds
        more = f", after {tuning:.1f} s of online learning" if tuning else ""
        print(f"{video.name}: {len(video)} frames{more}", flush=True)
    seconds, frames = time.monotonic() - started, sum(len(video) for video in videos)
    memory = peak_memory(device) / 2**20
    print(f"{frames} frames, {frames / seconds:.1f} a second with reading and writing, peak {memory:.0f} MiB")
    if args.zip:
        layout = server_layout(videos, takes_masks)
        print(f"Written: {zip_masks(out, archive, videos, layout)}")


def _what_is_missing(error: BaseException, videos: list[Video], done: int, out: Path) -> str:
    """What to say when a prediction ends early: why, which videos are not written, how to go on."""
    names = [video.name for video in videos[done:]]
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    reason = "Interrupted." if isinstance(error, KeyboardInterrupt) else sentence(error)
    return f"{reason} {done} of {len(videos)} videos are written, {shown} not; remove {out} and run again."


def _device(name: str | None) -> "torch.device":
    """cpu, cuda or cuda:N, or the default. Raises InputError for another or one that is not there."""
    import torch

    there = torch.cuda.device_count()
    if name is None:
        return torch.device("cuda" if there else "cpu")
    known = ["cpu", *(["cuda"] if there else []), *(f"cuda:{i}" for i in range(there))]
    if name not in known:
        raise InputError(f"--device={name[:60]}: not on this machine; choose one of {', '.join(known)}.")
    return torch.device(name)


def _sequences(args: argparse.Namespace) -> list[Video]:
    from vos_lightning.data.davis import load_davis
    from vos_lightning.data.youtube_vos import load_youtube_vos, splits_there

    if (args.root is None) == (args.frames is None):
        raise InputError("input: give either --root, a data set, or --frames, one video.")
    if args.root is not None and splits_there(args.root):
        return load_youtube_vos(args.root, args.split, args.all_frames, first_mask_only=True)
    if args.root is not None:
        return load_davis(args.root, args.split, args.year, first_mask_only=True)
    for folder in (args.frames, args.masks):
        if folder is not None and not folder.is_dir():
            raise InputError(f"{folder}: no such folder.")
    frames = sorted(p for p in args.frames.glob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not frames:
        raise InputError(f"{args.frames}: no .jpg or .png frames there.")
    found = {p.stem: p for p in args.masks.glob("*.png")} if args.masks else {}
    return [video_of(args.frames.resolve().name, tuple(frames), tuple(found.get(p.stem) for p in frames))]


if __name__ == "__main__":
    main()
