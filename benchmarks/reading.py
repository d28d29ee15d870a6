"""Times reading clips from 720p JPEGs and PNG masks: ours against full decoding and bicubic resizing."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.measure import Row, Setup, Work, alternate
from vos_lightning.data.clips import IMAGENET_MEAN, IMAGENET_STD, ClipDataset
from vos_lightning.data.images import write_mask
from vos_lightning.data.small_frames import FrameCache
from vos_lightning.data.videos import Video
from vos_lightning.runs.memory import keep_freed_memory

Size = tuple[int, int]


def write_video(folder: Path, frames: int, size: Size) -> Video:
    """Writes textured frames whose JPEGs are as large as YouTube-VOS's, and masks of three rectangles."""
    rng, (height, width) = np.random.default_rng(0), size
    coarse = rng.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
    texture = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.int16)
    jpegs, pngs = [], []
    for t in range(frames):
        noisy = np.roll(texture, 4 * t, axis=1) + rng.normal(0, 2.5, texture.shape)
        jpegs.append(folder / f"{t:05d}.jpg")
        pngs.append(folder / f"{t:05d}.png")
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(jpegs[-1], quality=80)
        mask = np.zeros(size, np.uint8)
        for i in range(3):
            mask[height // 4 : height // 2, i * width // 4 + t : (2 * i + 1) * width // 8 + t] = i + 1
        write_mask(pngs[-1], mask)
    return Video("video", tuple(jpegs), tuple(pngs))


def ours(video: Video, size: Size, cache: FrameCache | None) -> Work:
    """Work that reads as the data module does; its first call fills the cache."""
    torch.set_num_threads(1)
    keep_freed_memory()
    clips = ClipDataset([video], size, 5, slots=10, augmentation=None, seed=0, cache=cache)
    return lambda: _numpy(clips[0, i][:2] for i in range(len(clips)))


def plain(video: Video, size: Size) -> Work:
    """Work that decodes every frame and mask at its own size and then resizes it."""
    torch.set_num_threads(1)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))

    def read(t: int) -> tuple[Tensor, Tensor]:
        frame, mask = (
            Image.open(str(video.frames[t])).convert("RGB"),
            Image.open(str(video.mask_file(t))),
        )
        small = np.array(frame.resize(size[::-1], Image.Resampling.BICUBIC))
        x = (torch.from_numpy(small).permute(2, 0, 1).float() / 255 - mean) / std
        return x, torch.from_numpy(np.array(mask.resize(size[::-1], Image.Resampling.NEAREST)))

    def clip(start: int) -> tuple[Tensor, Tensor]:
        frames, labels = zip(*(read(start + t) for t in range(5)), strict=True)
        return torch.stack(frames), torch.stack(labels)

    return lambda: _numpy(clip(start) for start in range(0, len(video) - 4, 5))


def decoding(video: Video, size: Size) -> Work:
    """Work that only decodes, JPEGs at half their size, the floor."""

    def work() -> None:
        for t in range(len(video)):
            frame = Image.open(str(video.frames[t]))
            frame.draft("RGB", size[::-1])
            frame.load()
            Image.open(str(video.mask_file(t))).load()

    return work


def _numpy(clips: Iterable[tuple[Tensor, Tensor]]) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(frames.numpy(), labels.numpy()) for frames, labels in clips]


def rows(
    frames: int = 25,
    stored: Size = (720, 1280),
    size: Size = (256, 448),
    repeats: int = 7,
    processes: bool = True,
) -> list[Row]:
    """One row without the cache and one from it. Raises AssertionError if labels or colours do not agree."""
    with TemporaryDirectory() as name:
        video = write_video(Path(name), frames, stored)
        cache = FrameCache(Path(name) / "cache", keep_free=0)
        sides: dict[str, Setup] = {
            "decoded": partial(ours, video, size, None),
            "cached": partial(ours, video, size, cache),
            "plain": partial(plain, video, size),
            "floor": partial(decoding, video, size),
        }
        times = alternate(sides, repeats, processes=processes)
    colours, labels = map(np.stack, zip(*times["plain"].result, strict=True))
    found = []
    for kind, target in (("decoded", "3"), ("cached", "10")):
        ours_colours, ours_labels = map(np.stack, zip(*times[kind].result, strict=True))
        assert (ours_labels == labels).all()
        # The bicubic filter sharpens a little, half size is decoded in the JPEG's own frequencies.
        levels = 255 * float(np.mean(IMAGENET_STD)) * float(np.abs(ours_colours - colours).mean())
        assert levels < 3, f"colours differ by {levels} of 255 on average"
        found.append(
            Row(
                f"reading, {frames} frames of {stored[0]}x{stored[1]} to clips of 5, {kind}",
                times[kind],
                times["plain"],
                target,
                f"labels equal, colours within {levels:.1f} of 255 on average",
                times["floor"].median if kind == "decoded" else None,
            )
        )
    return found
