"""Times J&F of PNG masks on disk: ours against the algorithm of the DAVIS-2017 evaluation on full frames."""

from functools import partial
from math import ceil, hypot
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from benchmarks.measure import Row, Setup, Times, Work, alternate
from vos_lightning.data.images import write_mask
from vos_lightning.scoring.folders import score_davis

Size = tuple[int, int]


def write_videos(folder: Path, videos: int, frames: int, size: Size, objects: int) -> None:
    """Writes wobbling discs to folder/truth/VIDEO/FRAME.png, and a little off to folder/predicted."""
    y, x = np.mgrid[: size[0], : size[1]]
    for video in range(videos):
        for t in range(frames):
            for kind, shift in (("truth", 0.0), ("predicted", 3.0)):
                mask = np.zeros(size, np.uint8)
                for i in range(objects):
                    across, down = x - size[1] * (i + 0.5) / objects - t, y - size[0] / 2 - 5 * i + shift
                    angle = np.arctan2(down, across)
                    radius = size[0] * (0.2 + 0.03 * np.sin(7 * angle + t / 3 + video) + 0.004 * shift)
                    mask[np.hypot(down, across) < radius] = i + 1
                path = folder / kind / f"video{video}" / f"{t:05d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_mask(path, mask)


def _outline(mask: np.ndarray) -> np.ndarray:
    """Pixels that differ from their east, south or south-east neighbour, over the whole frame."""
    east, south, both = (np.zeros_like(mask) for _ in range(3))
    east[:, :-1], south[:-1], both[:-1, :-1] = mask[:, 1:], mask[1:], mask[1:, 1:]
    outline = (mask ^ east) | (mask ^ south) | (mask ^ both)
    outline[-1], outline[:, -1] = mask[-1] ^ east[-1], mask[:, -1] ^ south[:, -1]
    outline[-1, -1] = False
    return outline


def _dilate(mask: np.ndarray, radius: int) -> np.ndarray:
    """Every pixel at most `radius` from one of the mask's, over the whole frame."""
    height, width = mask.shape
    wide = np.zeros((height + 2 * radius, width + 2 * radius), bool)
    for dy in range(-radius, radius + 1):
        reach = int((radius**2 - dy**2) ** 0.5)
        for dx in range(-reach, reach + 1):
            wide[radius + dy : radius + dy + height, radius + dx : radius + dx + width] |= mask
    return wide[radius:-radius, radius:-radius]


def _f(truth: np.ndarray, predicted: np.ndarray) -> float:
    radius = ceil(0.008 * hypot(*truth.shape))
    b, p = _outline(truth), _outline(predicted)
    matched_p, matched_b = p & _dilate(b, radius), b & _dilate(p, radius)
    if not b.any() or not p.any():
        return float(not b.any() and not p.any())
    precision, recall = matched_p.sum() / p.sum(), matched_b.sum() / b.sum()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def plain_score(folder: Path) -> tuple[float, float]:
    """Mean J and mean F over objects, from whole videos in memory and full frames, in one process."""
    means = []
    for truth in sorted((folder / "truth").iterdir()):
        files = sorted(truth.iterdir())[1:-1]
        pairs = [(f, folder / "predicted" / truth.name / f.name) for f in files]
        masks = np.array([[np.array(Image.open(file)) for file in pair] for pair in pairs])
        for i in range(1, masks[0, 0].max() + 1):
            of_object = masks == i
            j = [(t & p).sum() / max(1, (t | p).sum()) for t, p in of_object]
            means.append((np.mean(j), np.mean([_f(t, p) for t, p in of_object])))
    j, f = np.mean(means, axis=0).tolist()
    return j, f


def ours(folder: Path, jobs: int) -> Work:
    """Work that scores as `vos-score` does, with `jobs` processes."""

    def work() -> tuple[float, float]:
        scores = score_davis(folder / "truth", folder / "predicted", "semi-supervised", jobs=jobs)
        return scores.j.mean, scores.f.mean

    return work


def plain(folder: Path) -> Work:
    """Work that scores as the official evaluation does."""
    return partial(plain_score, folder)


def decoding(folder: Path) -> Work:
    """Work that decodes every PNG and does nothing else, the floor."""

    def work() -> None:
        for path in folder.glob("*/*/*.png"):
            Image.open(path).load()

    return work


def rows(
    videos: int = 4,
    frames: int = 30,
    size: Size = (480, 854),
    objects: int = 3,
    repeats: int = 5,
    processes: bool = True,
) -> list[Row]:
    """One row for one process and one for two. Raises AssertionError if J or F differ by 1e-12."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_videos(folder, videos, frames, size, objects)
        sides: dict[str, Setup] = {
            "one": partial(ours, folder, 1),
            "two": partial(ours, folder, 2),
            "plain": partial(plain, folder),
            "floor": partial(decoding, folder),
        }
        times = alternate(sides, repeats, processes=processes)
    for kind in ("one", "two"):
        assert np.allclose(times[kind].result, times["plain"].result, rtol=0, atol=1e-12)
    case = f"scoring, {videos} videos of {frames} frames, {size[0]}x{size[1]}, {objects} objects"
    scored = videos * (frames - 2)

    def row(case: str, kind: str, baseline: Times, target: str, processes: int) -> Row:
        note = f"J and F equal; {1000 * median(times[kind].seconds) / scored:.2f} ms a frame"
        return Row(case, times[kind], baseline, target, note, times["floor"].median / processes)

    return [
        row(f"{case}, one process", "one", times["plain"], "10", 1),
        row(f"{case}, two processes against one", "two", times["one"], "near 2", 2),
    ]
