"""A trained model on whole sequences: masks on disk, scores, and the zip that a server takes.

Shapes: a mask is (h, w) uint8 at the video's own size.
"""

import shutil
from collections.abc import Iterator
from collections.abc import Sequence as Sequences
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from vos_lightning.checkpoints import load_strictly, read_model_weights
from vos_lightning.configuration import build_model
from vos_lightning.data.images import write_mask
from vos_lightning.data.sequence import Sequence
from vos_lightning.errors import InputError
from vos_lightning.models.rvos import RVOS
from vos_lightning.propagation import Protocol, propagate
from vos_lightning.runs import read_config
from vos_lightning.scoring.davis import score_sequence, summarise
from vos_lightning.submission import server_layout, zip_masks
from vos_lightning.sweep import compose_train


def predict(
    model: RVOS,
    sequence: Sequence,
    protocol: Protocol,
    device: torch.device | str,
    folder: Path,
    late_objects: bool = False,
) -> Iterator[np.ndarray]:
    """Yields the masks of a sequence from its first mask, and writes them to folder/FRAME.png.

    late_objects: give each object's first mask wherever it is; DAVIS gives those of frame 0 only.
    """
    folder.mkdir(parents=True, exist_ok=True)
    times = range(len(sequence)) if late_objects else [0]
    given = {t: sequence.mask(t) for t in times if model.mask_input and sequence.masks[t] is not None}
    frames = (sequence.frame(t) for t in range(len(sequence)))
    for path, mask in zip(sequence.frames, propagate(model, frames, given, protocol, device), strict=True):
        write_mask(folder / f"{path.stem}.png", mask)
        yield mask


def load_run(path: Path, overrides: Sequences[str] = ()) -> tuple[DictConfig, RVOS]:
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
        if not (folder / "config.yaml").is_file():
            raise InputError(f"{folder / 'config.yaml'}: no such file; give the folder of a run.")
        cfg = read_config(folder / "config.yaml")
        weights = folder / "last.ckpt" if path.is_dir() else path
    cfg.predict.setdefault("precision", "fp32")  # runs of 0.1.0 may lack it
    OmegaConf.set_struct(cfg, True)
    cfg.merge_with_dotlist(list(overrides))
    cfg.model.weights = "none"  # the checkpoint's replace them
    model = build_model(cfg.model)
    load_strictly(model, read_model_weights(weights), weights)
    return cfg, model


def predict_and_score(
    model: RVOS,
    sequences: Sequences[Sequence],
    protocol: Protocol,
    folder: Path,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Segments and scores sequences; the masks stay in folder/SEQUENCE/FRAME.png.

    model: as `for_inference` gives it.

    Returns:
        `Scores.to_dict` under the semi-supervised DAVIS protocol, or the unsupervised one for a model that
        reads no masks.
    """
    rules = "semi-supervised" if model.mask_input else "unsupervised"
    shutil.rmtree(folder, ignore_errors=True)
    scores = []
    for sequence in sequences:
        masks = predict(model, sequence, protocol, device, folder / sequence.name)
        truth = (sequence.mask(t) for t in range(len(sequence)))
        scores.append(score_sequence(truth, masks, rules, sequence.name))
    return summarise(scores).to_dict()


def write_submission(
    model: RVOS,
    sequences: Sequences[Sequence],
    protocol: Protocol,
    archive: Path,
    device: torch.device | str = "cpu",
) -> Path:
    """Segments sequences that have first masks only and zips the masks for their server, see `zip_masks`.

    model: as `for_inference` gives it.
    """
    folder = archive.with_suffix("")
    shutil.rmtree(folder, ignore_errors=True)
    for sequence in sequences:
        for _ in predict(model, sequence, protocol, device, folder / sequence.name):
            pass
    return zip_masks(folder, archive, sequences, server_layout(sequences, model.mask_input))
