"""A trained model on whole videos: masks on disk, scores, and the zip that a server takes.

Shapes: a mask is (h, w) uint8 at the video's own size.
"""

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from vos_lightning.configuration import build_model
from vos_lightning.data.images import write_mask
from vos_lightning.data.videos import Video
from vos_lightning.errors import InputError
from vos_lightning.evaluation.propagation import Protocol, propagate
from vos_lightning.fields import override
from vos_lightning.layers.weights import check_fits, load_strictly, read_model_weights
from vos_lightning.models.rvos.network import RVOS
from vos_lightning.models.s2s.network import S2S
from vos_lightning.models.s2s.online import OnlineLearning, tune
from vos_lightning.runs.folder import read_config, scored_weights
from vos_lightning.runs.sweep import compose_train
from vos_lightning.scoring.rules import Rules
from vos_lightning.scoring.submission import server_layout, zip_masks


@dataclass
class Timing:
    """What one video cost: its frames, seconds of segmenting it and, before, of online learning."""

    video: str
    frames: int = 0
    seconds: float = 0.0
    online_seconds: float = 0.0


@dataclass
class Segmenter:
    """A model that segments videos under a protocol.

    Args:
        model: as `for_inference` gives it.
        protocol: see `Protocol`.
        device: where the model is.
        online: of S2S, from the first frame with objects, for each video anew; None for none.
        timings: of the videos segmented so far.
    """

    model: RVOS | S2S
    protocol: Protocol
    device: torch.device | str = "cpu"
    online: OnlineLearning | None = None
    timings: list[Timing] = field(default_factory=list)

    @property
    def takes_given(self) -> bool:
        """Whether given masks name the objects, so that they are scored and handed in one-shot."""
        return self.protocol.takes_given(self.model)

    def masks(self, video: Video) -> Iterator[np.ndarray]:
        """Yields the mask of every frame, (h, w) uint8, from the objects' first masks."""
        timing, started = Timing(video.name), time.monotonic()
        self.timings.append(timing)
        given = video.given() if self.takes_given else {}
        model = self.model
        if self.online and isinstance(model, S2S) and video.objects:
            t, size = min(video.starts.values()), self.protocol.size
            model = tune(model, video.frame(t), given[t], size, self.online, self.device)
            timing.online_seconds = time.monotonic() - started
        frames = (video.frame(t) for t in range(len(video)))
        masks = propagate(model, frames, given, self.protocol, self.device)
        started = time.monotonic()
        for mask in masks:
            timing.seconds += time.monotonic() - started
            timing.frames += 1
            yield mask
            started = time.monotonic()

    def write(self, video: Video, folder: Path) -> Iterator[np.ndarray]:
        """Yields the masks of the frames asked for and writes them to folder/VIDEO/FRAME.png."""
        (folder / video.name).mkdir(parents=True, exist_ok=True)
        for t, mask in enumerate(self.masks(video)):
            if t in video.asked:
                write_mask(folder / video.name / f"{video.frames[t].stem}.png", mask)
                yield mask


def load_run(path: Path, overrides: Sequence[str] = ()) -> tuple[DictConfig, RVOS | S2S]:
    """The configuration and the model of a checkpoint.

    Args:
        path: a run's folder, one of its checkpoints, or a folder with the official encoder.pt and decoder.pt.
        overrides: KEY=VALUE, on the configuration.

    Raises:
        InputError: no configuration or weights there, an unknown key, or weights that do not fit.
    """
    if (path / "encoder.pt").is_file():
        cfg, weights = compose_train(["model=rvos", "scale=paper"]), path
    else:
        folder = path if path.is_dir() else path.parent
        config = folder / "config.yaml"
        if not config.is_file():
            raise InputError(f"{config}: no such file; give the folder of a run.")
        cfg = _with_defaults(read_config(config), config)
        weights = scored_weights(folder) if path.is_dir() else path
    override(cfg, overrides)
    with torch.device("meta"):  # which takes no memory, whatever sizes a stranger's configuration names
        like = build_model(cfg.model, trained=True)
    state = read_model_weights(weights)
    check_fits(like, state, weights)
    model = build_model(cfg.model, trained=True)
    load_strictly(model, state, weights)
    return cfg, model


def _with_defaults(cfg: DictConfig, path: Path) -> DictConfig:
    """A run's configuration with the fields that an earlier version did not write."""
    for key in ("model", "data.size"):
        if OmegaConf.select(cfg, key) is None:
            raise InputError(f"{path}: has no {key}; give the folder of a run.")
    defaults = compose_train([])
    known = {"seed": 0, "predict": defaults.predict, "model": {"architecture": "rvos", "slots": 10}}
    merged = OmegaConf.merge(known, cfg)
    assert isinstance(merged, DictConfig)
    return merged


def segment_and_score(
    segmenter: Segmenter, videos: Sequence[Video], rules: Rules, folder: Path
) -> dict[str, Any]:
    """Segments and scores videos; the masks stay in folder/VIDEO/FRAME.png.

    Returns:
        What `rules` makes of the scores of all videos.
    """
    _clear(folder)
    return rules.summary([rules.score(video, segmenter.write(video, folder)) for video in videos])


def _clear(folder: Path) -> None:
    if folder.is_symlink():
        folder.unlink()
    shutil.rmtree(folder, ignore_errors=True)


def write_submission(segmenter: Segmenter, videos: Sequence[Video], archive: Path) -> Path:
    """Segments videos that have first masks only and zips the masks for their server, see `zip_masks`."""
    folder = archive.with_suffix("")
    _clear(folder)
    for video in videos:
        for _ in segmenter.write(video, folder):
            pass
    return zip_masks(folder, archive, videos, server_layout(videos, segmenter.takes_given))
