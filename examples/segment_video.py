"""Segments a folder of frames, given the mask of its first frame.

    python examples/segment_video.py runs/RUN frames/ first.png masks/

The mask is an indexed PNG whose pixels are object ids 1, 2, ..., or 0 where there is none. The masks are
written to masks/frames/FRAME.png. `vos-predict` does the same for whole data sets.
"""

import sys
from pathlib import Path

import torch

from vos_lightning.data.videos import video_of
from vos_lightning.runs.load import load_run


def segment(run: Path, frames: Path, first_mask: Path, out: Path) -> None:
    """Writes the masks of the frames of a folder with the network of a run."""
    experiment, network = load_run(run)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    evaluation = experiment.model.evaluation(network, experiment, device)
    paths = sorted(path for path in frames.iterdir() if path.suffix.lower() in (".jpg", ".png"))
    given = [first_mask] + [None] * (len(paths) - 1)  # a path for each frame where an object starts
    video = video_of(frames.name, tuple(paths), tuple(given))
    for t, mask in enumerate(evaluation.write(video, out)):  # (H, W) uint8 at the frame's own size
        print(f"frame {t}: {(mask > 0).mean():.0%} of the pixels belong to an object")


if __name__ == "__main__":
    segment(*map(Path, sys.argv[1:]))
