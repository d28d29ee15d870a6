"""vos-predict: masks of videos from their first masks, as indexed PNGs, and the zip a server takes."""

import argparse
import time
from pathlib import Path

from vos_lightning.apps.cli import report_errors
from vos_lightning.data.sequence import Sequence, sequence_of
from vos_lightning.errors import InputError


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
    import torch

    from vos_lightning.configuration import build_segmenter
    from vos_lightning.devices import choose_arithmetic
    from vos_lightning.evaluation import load_run
    from vos_lightning.memory import keep_freed_memory, peak_memory
    from vos_lightning.submission import server_layout, zip_masks

    if args.out.exists() and any(args.out.iterdir()):
        raise InputError(f"{args.out}: not empty; name a new folder.")
    if args.zip and args.frames:
        raise InputError("--zip: a server takes the split of a data set; use --root in place of --frames.")
    sequences = _sequences(args)
    device = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    cfg, model = load_run(args.checkpoint, args.set)
    for sequence in sequences:
        if model.mask_input and not any(sequence.masks):
            raise InputError(f"{sequence.name}: no mask is given; name a folder of FRAME.png with --masks.")
    keep_freed_memory()
    choose_arithmetic(cfg.predict.tf32)
    segmenter = build_segmenter(cfg, model, device)
    started = time.monotonic()
    for sequence in sequences:
        for _ in segmenter.write(sequence, args.out):
            pass
        tuning = segmenter.timings[-1].online_seconds
        more = f", after {tuning:.1f} s of online learning" if tuning else ""
        print(f"{sequence.name}: {len(sequence)} frames{more}", flush=True)
    seconds, frames = time.monotonic() - started, sum(len(sequence) for sequence in sequences)
    memory = peak_memory(device) / 2**20
    print(f"{frames} frames, {frames / seconds:.1f} a second with reading and writing, peak {memory:.0f} MiB")
    if args.zip:
        layout = server_layout(sequences, model.mask_input)
        print(f"Written: {zip_masks(args.out, args.out.with_suffix('.zip'), sequences, layout)}")


def _sequences(args: argparse.Namespace) -> list[Sequence]:
    from vos_lightning.data.davis import load_davis
    from vos_lightning.data.youtube_vos import load_youtube_vos, splits_there

    if (args.root is None) == (args.frames is None):
        raise InputError("input: give either --root, a data set, or --frames, one video.")
    if args.root is not None and splits_there(args.root):
        return load_youtube_vos(args.root, args.split, args.all_frames, first_mask_only=True)
    if args.root is not None:
        return load_davis(args.root, args.split, args.year, first_mask_only=True)
    frames = sorted(p for p in args.frames.glob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not frames:
        raise InputError(f"{args.frames}: no .jpg or .png frames there.")
    found = {p.stem: p for p in args.masks.glob("*.png")} if args.masks else {}
    return [sequence_of(args.frames.resolve().name, tuple(frames), tuple(found.get(p.stem) for p in frames))]


if __name__ == "__main__":
    main()
