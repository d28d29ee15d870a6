"""Training clips, validation clips and whole videos of a data set, as a LightningDataModule.

Shapes: see `clips`.
"""

import hashlib
import os
import sys
from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader

from vos_lightning.data.clips import Augmentation, ClipDataset, EpochSampler, FixedSampler
from vos_lightning.data.files import file_size
from vos_lightning.data.object_clips import Draw, DrawSampler, ObjectClips
from vos_lightning.data.small_frames import FrameCache
from vos_lightning.data.videos import Video
from vos_lightning.errors import InputError, one_of
from vos_lightning.processes import begin_worker
from vos_lightning.scoring.rules import DavisRules, Rules

# The way to start loader processes, since that of a sweep's own processes, joblib's, starts none.
START = "fork" if sys.platform == "linux" else "spawn"


class VideoData(LightningDataModule):
    """Clips of two splits for training and validation.

    Args:
        size: (H, W) of the network's input, pixels.
        clip_length: the shortest and the longest T of a clip; windows take the longest.
        batch_size: B, clips of a training step.
        slots: O, the highest object id that is accepted.
        augment: whether training clips are flipped and warped.
        train_split, val_split: names of split lists.
        val_clips: at most so many validation clips, spread evenly; 0: all.
        seed: decides order and augmentation, with the epoch.
        workers: loader processes; 0 loads in the training process.
        frame_cache: of resized frames, None for none.
        one_object: whether training clips hold one object each, see `ObjectClips`, rather than all
            objects in fixed windows, see `ClipDataset`.
        samples: clips of one object an epoch; 0: as many as `draw` has objects or videos.
        every_frame: whether training clips of one object may run over frames without annotation.
        draw: of `ObjectClips`, in training. clip_start: its `start`.
        image_warp: of `Augmentation`.
        weigh_absent: of `ClipDataset`.

    Raises:
        InputError: an unknown `image_warp`.
    """

    def __init__(
        self,
        size: tuple[int, int],
        clip_length: tuple[int, int],
        batch_size: int,
        slots: int,
        augment: bool,
        train_split: str,
        val_split: str,
        val_clips: int,
        seed: int,
        workers: int,
        frame_cache: FrameCache | None = None,
        one_object: bool = False,
        samples: int = 0,
        every_frame: bool = False,
        draw: str = "object",
        clip_start: str = "random",
        image_warp: str = "nearest",
        weigh_absent: bool = True,
    ) -> None:
        super().__init__()
        one_of("data.image_warp", image_warp, ("nearest", "bilinear"))
        self.image_warp, self.weigh_absent = image_warp, weigh_absent
        self.draw, self.clip_start = draw, clip_start
        self.one_object, self.samples, self.every_frame = one_object, samples, every_frame
        self.size, self.clip_length, self.batch_size, self.slots = size, clip_length, batch_size, slots
        self.augment, self.train_split, self.val_split = augment, train_split, val_split
        self.val_clips, self.seed, self.workers = val_clips, seed, workers
        self.frame_cache = frame_cache
        self.every_frame_at: Callable[[int], bool] = lambda epoch: False  # set by what trains
        self.start = (0, 0)  # epoch and batch at which training goes on

    @abstractmethod
    def videos(self, split: str, first_mask_only: bool = False, all_frames: bool = False) -> list[Video]:
        """The videos of a split.

        first_mask_only: accept those without masks after an object's first. all_frames: with the frames
        between annotated ones, where a data set has such.
        """

    def rules(self, one_shot: bool) -> Rules:
        """How its videos are scored: DAVIS's semi-supervised or, without given masks, unsupervised way."""
        return DavisRules("semi-supervised" if one_shot else "unsupervised")

    @abstractmethod
    def splits(self) -> list[str]:
        """Names of the split lists that are there."""

    def setup(self, stage: str | None = None) -> None:
        """Lists the clips. Raises InputError for a split that cannot be read or has no object."""
        augmentation = Augmentation(image_warp=self.image_warp) if self.augment else None
        self.train_clips = self._clips(self.train_split, augmentation, self.every_frame, self.draw)
        self.val_windows = self._clips(self.val_split)

    def _clips(
        self,
        split: str,
        augmentation: Augmentation | None = None,
        all_frames: bool = False,
        draw: str = "object",
    ) -> ObjectClips | ClipDataset:
        videos = self.videos(split, all_frames=all_frames)
        if not any(video.objects for video in videos):
            raise InputError(
                f"Data split {split}: none of its {len(videos)} videos has an object; check its masks."
            )
        if self.one_object:
            return ObjectClips(
                videos, self.size, augmentation, self.seed, self.frame_cache, draw, self.clip_start
            )
        return ClipDataset(
            videos,
            self.size,
            self.clip_length[1],
            self.slots,
            augmentation,
            self.seed,
            self.frame_cache,
            self.weigh_absent,
        )

    @property
    def train_batches(self) -> int:
        """Optimiser steps an epoch; a last incomplete batch is left out, unless it is the only one."""
        clips = len(self._sampler())
        return max(clips // self.batch_size, min(clips, 1))

    def state_dict(self) -> dict[str, Any]:
        """How far a checkpoint's run is."""
        return {"step": self.trainer.global_step if self.trainer else 0}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Makes training go on behind a checkpoint's last batch, without reading those before."""
        self.start = divmod(state_dict["step"], self.train_batches)

    def names(self, epoch: int, batch: int) -> list[str]:
        """The videos and frames of a training batch."""
        first = batch * self.batch_size
        return [self.train_clips.name(key) for key in self._sampler().keys(epoch)[first:][: self.batch_size]]

    def train_dataloader(self) -> DataLoader:
        """Batches of `Clip`, in an order that seed and epoch decide, from `start` on."""
        sampler = self._sampler()
        return self._loader(self.train_clips, sampler, drop_last=len(sampler) >= self.batch_size)

    def _sampler(self) -> EpochSampler:
        clips, start = self.train_clips, (self.start[0], self.start[1] * self.batch_size)
        if not isinstance(clips, ObjectClips):
            return EpochSampler(len(clips), self.seed, start)
        samples = self.samples or len(clips)
        return DrawSampler(samples, self.batch_size, self.clip_length, self.seed, self.every_frame_at, start)

    def val_dataloader(self) -> DataLoader:
        """Batches of `Clip` as they are."""
        clips, sampler = self.val_windows, FixedSampler(len(self.val_windows), self.val_clips)
        if isinstance(clips, ObjectClips):
            return self._loader(clips, [Draw(0, i, self.clip_length[0]) for _, i in sampler])
        return self._loader(clips, sampler)

    def _loader(self, clips: ObjectClips | ClipDataset, sampler: Any, drop_last: bool = False) -> DataLoader:
        return DataLoader(
            clips,
            batch_size=self.batch_size,
            sampler=sampler,
            drop_last=drop_last,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
            worker_init_fn=partial(begin_worker, os.getpid()),
            multiprocessing_context=START if self.workers else None,
        )


def fingerprint(videos: list[Video]) -> str:
    """12 hex digits that change when a file of the videos is added, removed, renamed or resized.

    They also change when objects are listed in other frames or categories.
    """
    digest = hashlib.sha256()
    for video in videos:
        if video.presence is not None:
            digest.update(f"{video.presence} {video.categories}\n".encode())
        for path in (*video.frames, *video.masks):
            if path is not None:
                digest.update(f"{video.name}/{path.name} {file_size(path)}\n".encode())
    return digest.hexdigest()[:12]
