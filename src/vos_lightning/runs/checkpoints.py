"""The checkpoints of a training: written whole, and known to be usable before training goes on from one."""

import io
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import nn

from vos_lightning.atomic import replacing
from vos_lightning.errors import InputError
from vos_lightning.layers.weights import load_strictly, read_checkpoint


class WholeFiles(TorchCheckpointIO):
    """Writes Lightning's checkpoints so that a file is either the old or the new one, and whole."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes a checkpoint. Raises InputError if the file cannot be written."""
        buffer = io.BytesIO()  # torch.save hides why a disk does not take it
        torch.save(checkpoint, buffer)
        with replacing(Path(path)) as part:
            part.write_bytes(buffer.getbuffer())


def check_resumable(path: Path, task: nn.Module) -> None:
    """Loads a checkpoint's weights. Raises InputError if training cannot go on from it, broken or foreign."""
    content = read_checkpoint(path)
    parts = {"state_dict", "loops", "callbacks", "optimizer_states", "lr_schedulers", "stages", "train_loss"}
    lacking = sorted(parts - content.keys()) if isinstance(content, dict) else sorted(parts)
    if lacking:
        raise InputError(f"{path}: not a checkpoint of vos-train, {lacking[0]} is missing.")
    load_strictly(task, content["state_dict"], path)
