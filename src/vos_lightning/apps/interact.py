"""vos-interact: a page on this machine to scribble on a video's objects and see the masks of all frames."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from vos_lightning.apps.cli import device_named, pictures_of, report_errors
from vos_lightning.atomic import unwritable
from vos_lightning.data.files import read_file
from vos_lightning.data.images import image_size
from vos_lightning.data.videos import Given, Video
from vos_lightning.errors import InputError

RATE = Fraction(24)  # frames a second of a folder's overlay, as DAVIS has
MOST_OBJECTS = 9  # that have a key


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vos-interact", description=__doc__)
    parser.add_argument("video", type=Path, help="a video file, or a folder of its frames, .jpg or .png")
    parser.add_argument("checkpoint", type=Path, help="a run's folder, or its .ckpt")
    parser.add_argument(
        "--out", type=Path, help="folder for scribbles.json, masks/ and overlay.mp4 (default: VIDEO-interact)"
    )
    parser.add_argument("--port", type=int, help="of 127.0.0.1 (default: that of last time, or a free one)")
    parser.add_argument("--device", default=None, help="cpu or cuda (default: cuda where there is one)")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="such as predict.tf32=true")
    parser.add_argument("--no-browser", action="store_true", help="only print the page's address")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Command line entry."""
    args = _parser().parse_args(argv)
    with report_errors("vos-interact"):
        _interact(args)


def _interact(args: argparse.Namespace) -> None:
    try:
        import av  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"{error.name}: not installed; run `pip install 'vos-lightning[interact]'`."
        ) from None
    from vos_lightning.apps.interact_server import serve
    from vos_lightning.apps.interact_work import Workshop
    from vos_lightning.devices import choose_arithmetic
    from vos_lightning.runs.load import load_run
    from vos_lightning.runs.memory import keep_freed_memory

    if args.port is not None and not 1 <= args.port < 2**16:
        raise InputError(f"--port={args.port}: not a port; choose one from 1024 to 65535.")
    experiment, network = load_run(args.checkpoint, args.set)
    if experiment.given is not Given.SCRIBBLES:
        raise InputError(
            f"{args.checkpoint}: its model, {experiment.fields.name}, takes no scribbles; "
            "give a run of a model that does."
        )
    device = device_named(args.device)
    out = (args.out or Path(f"{args.video.resolve().stem}-interact")).resolve()
    with _claimed(out):
        video, rate = video_at(args.video, out / "frames")
        keep_freed_memory()
        choose_arithmetic(experiment.prediction.tf32)
        evaluation: Any = experiment.model.evaluation(network, experiment, device)
        objects = min(MOST_OBJECTS, experiment.fields.slots)
        work = Workshop(video, objects, out, rate, lambda: evaluation.session(video))
        serve(work, args.port, browser=not args.no_browser)


@contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    """Keeps other processes from a folder, which is made if need be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock", blocking=False):
            yield
    except Timeout:
        raise InputError(
            f"{folder}: another vos-interact works there; use its page, or name another --out."
        ) from None
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise unwritable(folder, error) from error


def video_at(path: Path, folder: Path) -> tuple[Video, Fraction]:
    """The video of a folder of frames, or of a file, whose frames go to `folder`; and frames a second.

    Raises InputError for a folder without frames, frames of several sizes or of one name, and as `unpack`.
    """
    from vos_lightning.data.video_files import unpack

    if not path.is_dir():
        print(f"Reading {path}", flush=True)
        found = unpack(path, folder)
        if found.problem:
            print(found.problem, flush=True)
        return Video(path.stem, found.frames, (None,) * len(found.frames)), found.rate
    frames = pictures_of(path)
    sizes: dict[tuple[int, int], Path] = {}
    for frame in frames:
        sizes.setdefault(image_size(frame, read_file(frame)), frame)
    if len(sizes) > 1:
        one, other, *_ = sizes.values()
        raise InputError(f"{other}: another size than {one.name}; give frames of one size.")
    names: dict[str, Path] = {}
    for frame in frames:
        if names.setdefault(frame.stem, frame) != frame:
            raise InputError(f"{frame}: {names[frame.stem].name} has the same name; rename one of them.")
    return Video(path.resolve().name, tuple(frames), (None,) * len(frames)), RATE


if __name__ == "__main__":
    main()
