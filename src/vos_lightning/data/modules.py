"""Training and validation batches of a data set, as a LightningDataModule.

Shapes: see `examples`.
"""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader

from vos_lightning.data.clips import EpochSampler
from vos_lightning.data.examples import Examples, no_epoch
from vos_lightning.data.sets import DataSet, Sample
from vos_lightning.data.small_frames import FrameCache
from vos_lightning.processes import begin_worker

# The way to start loader processes, since that of a sweep's own processes, joblib's, starts none.
START = "fork" if sys.platform == "linux" else "spawn"


@dataclass(frozen=True)
class Loading:
    """How a machine reads: `workers` processes, where 0 is the training process; the cache of resized
    frames."""

    workers: int = 0
    cache: FrameCache | None = None


class TrainingData(LightningDataModule):
    """Batches from a data set's training and validation splits, of the type that the examples have.

    Args:
        data_set: where videos or images come from.
        examples: how training draws from them.
        slots: O, how many objects an example may hold.
        seed: decides order and augmentation, with the epoch.
        loading: see `Loading`.
        every_frame: whether the clips of an epoch run over frames without annotation too; None if none do.
    """

    def __init__(
        self,
        data_set: DataSet,
        examples: Examples,
        slots: int,
        seed: int,
        loading: Loading,
        every_frame: Callable[[int], bool] | None = None,
    ) -> None:
        super().__init__()
        self.data_set, self.examples, self.loading = data_set, examples, loading
        self.slots, self.seed, self.every_frame = slots, seed, every_frame
        self.start = (0, 0)  # epoch and batch at which training goes on
        self.train_examples: Any = None

    def setup(self, stage: str | None = None) -> None:
        """Lists the examples, once. Raises InputError for a split that cannot be read or has no object."""
        if self.train_examples is not None:
            return
        how = (self.slots, self.seed, self.loading.cache)
        samples = self._samples(self.data_set.train_split, self.every_frame is not None)
        self.train_examples = self.examples.training(samples, *how)
        val = self._samples(self.data_set.val_split)
        self.val_examples, self.val_keys = self.examples.validation(val, *how)

    def _samples(self, split: str, all_frames: bool = False) -> Sequence[Sample]:
        return self.examples.usable(self.data_set.samples(split, all_frames=all_frames), split)

    @property
    def train_batches(self) -> int:
        """Optimiser steps an epoch; a last incomplete batch is left out, unless it is the only one."""
        clips = len(self._order())
        return max(clips // self.examples.batch_size, min(clips, 1))

    def state_dict(self) -> dict[str, Any]:
        """How far a checkpoint's run is."""
        return {"step": self.trainer.global_step if self.trainer else 0}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Makes training go on behind a checkpoint's last batch, without reading those before."""
        self.start = divmod(state_dict["step"], self.train_batches)

    def names(self, epoch: int, batch: int) -> list[str]:
        """The videos and frames, or the images, of a training batch."""
        size = self.examples.batch_size
        keys = self._order().keys(epoch)[batch * size :][:size]
        return [self.train_examples.name(key) for key in keys]

    def train_dataloader(self) -> DataLoader:
        """Batches in an order that seed and epoch decide, from `start` on."""
        order = self._order()
        return self._loader(self.train_examples, order, drop_last=len(order) >= self.examples.batch_size)

    def _order(self) -> EpochSampler:
        start = (self.start[0], self.start[1] * self.examples.batch_size)
        return self.examples.order(len(self.train_examples), self.seed, start, self.every_frame or no_epoch)

    def val_dataloader(self) -> DataLoader:
        """Batches of examples as they are."""
        return self._loader(self.val_examples, self.val_keys)

    def _loader(self, clips: Any, keys: Any, drop_last: bool = False) -> DataLoader:
        workers = self.loading.workers
        return DataLoader(
            clips,
            batch_size=self.examples.batch_size,
            sampler=keys,
            drop_last=drop_last,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
            worker_init_fn=partial(begin_worker, os.getpid()),
            multiprocessing_context=START if workers else None,
        )


def frame_cache(folder: str | None, keep_free_gib: float) -> FrameCache | None:
    """The cache of resized frames in a folder, or None where no folder is given."""
    return FrameCache(Path(folder), keep_free_gib * 2**30) if folder else None
