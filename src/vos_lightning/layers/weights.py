"""Weights are read from files, the official RVOS checkpoints among them.

Loading is strict, and its errors name the key.
"""

import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import Tensor, nn

from vos_lightning.atomic import replacing
from vos_lightning.errors import InputError


def read_checkpoint(path: Path) -> Any:
    """Reads a torch file onto the CPU. Raises InputError if it is missing or cannot be read."""
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint file.")
    try:
        _check_size(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise InputError(f"{path}: not a readable checkpoint ({reason}).") from error


def _check_size(path: Path) -> None:
    """Raises an error if torch's zip, which is never compressed, would take more memory than its file."""
    with path.open("rb") as file:
        if file.read(4) != b"PK\3\4":  # by which torch tells a zip
            return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
    if not stored or sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise ValueError("a compressed zip, which torch does not write")


def checkpoint_hash(path: Path) -> str:
    """Hashes a checkpoint's content, a file's or a folder's encoder.pt and decoder.pt, to 8 hex digits.

    Raises InputError if it is not there.
    """
    digest = hashlib.sha256()
    for file in [path / "encoder.pt", path / "decoder.pt"] if path.is_dir() else [path]:
        if not file.is_file():
            raise InputError(f"{file}: no such checkpoint file.")
        with file.open("rb") as content:
            hashlib.file_digest(content, lambda: digest)
    return digest.hexdigest()[:8]


def load_strictly(module: nn.Module, state: Any, source: Path | str) -> None:
    """Loads a state dict whose keys, shapes and types must all fit, and whose numbers must be finite.

    Raises:
        InputError: A key is missing, unexpected or unfit. The message names the file, the first such key,
            and how many more there are.
    """
    check_fits(module, state, source)
    expected = module.state_dict()
    for key, value in state.items():
        if not value.to(expected[key].dtype).isfinite().all():
            raise InputError(f"{source}: {key} is not finite; training diverged, or the file is damaged.")
    module.load_state_dict(state)


def check_fits(module: nn.Module, state: Any, source: Path | str) -> None:
    """Raises the InputError of `load_strictly` unless keys, shapes and types fit.

    The module may be on the `meta` device.
    """
    if not isinstance(state, Mapping):
        raise InputError(f"{source}: holds a {type(state).__name__}, not weights by name.")
    expected = module.state_dict()
    faults = [f"{key} is missing" for key in expected.keys() - state.keys()]
    faults += [f"{str(key)[:80]} is unexpected" for key in state.keys() - expected.keys()]
    faults += [
        f"{key} {fault}"
        for key in expected.keys() & state.keys()
        if (fault := _fault(state[key], expected[key])) is not None
    ]
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise InputError(f"{source}: a checkpoint of another model, {min(faults)}{more}.")


class WholeFiles(TorchCheckpointIO):
    """Writes Lightning's checkpoints so that a file is either the old or the new one, and whole."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes a checkpoint. Raises InputError if the file cannot be written."""
        buffer = io.BytesIO()  # torch.save hides why a disk does not take it
        torch.save(checkpoint, buffer)
        with replacing(Path(path)) as part:
            part.write_bytes(buffer.getbuffer())


def check_resumable(path: Path, task: nn.Module) -> None:
    """Loads a checkpoint's weights.

    Raises InputError if it is broken or foreign, so that training cannot go on from it.
    """
    content = read_checkpoint(path)
    parts = {"state_dict", "loops", "callbacks", "optimizer_states", "lr_schedulers", "stages", "train_loss"}
    lacking = sorted(parts - content.keys()) if isinstance(content, dict) else sorted(parts)
    if lacking:
        raise InputError(f"{path}: not a checkpoint of vos-train, {lacking[0]} is missing.")
    load_strictly(task, content["state_dict"], path)


def _fault(value: Any, expected: Tensor) -> str | None:
    """Says what is wrong with a value as a weight, or gives None if nothing is."""
    if (
        not isinstance(value, Tensor)
        or value.is_nested
        or value.layout != torch.strided
        or value.is_quantized
    ):
        return f"is a {type(value).__name__} and not a plain tensor"
    if value.device.type != "cpu" or value.is_floating_point() != expected.is_floating_point():
        return f"has type {value.dtype} on {value.device}, the model {expected.dtype}"
    if value.shape != expected.shape:
        return f"has shape {tuple(value.shape)}, the model {tuple(expected.shape)}"
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        return "repeats its numbers"
    return None


def read_model_weights(path: Path) -> dict[str, Tensor]:
    """Reads a model's weights: a checkpoint written by `vos-train`, or a folder with the official RVOS files.

    Args:
        path: It is a .ckpt file, or a folder that holds encoder.pt and decoder.pt.

    Returns:
        The weights by their names in the model's own state dict; of a folder, in that of `RVOS`.

    Raises:
        InputError: A file is missing, cannot be read or holds no weights.
    """
    if path.is_dir():
        return _official_rvos(path)
    checkpoint = read_checkpoint(path)
    state = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict):
        raise InputError(f"{path}: holds no `state_dict`; give a checkpoint that vos-train wrote.")
    named = {str(key): value for key, value in state.items()}
    return {key.removeprefix("model."): value for key, value in named.items() if key.startswith("model.")}


def _official_rvos(folder: Path) -> dict[str, Tensor]:
    """Renames the keys of imatge-upc/rvos checkpoints; an optional `module.` prefix is dropped."""
    state = {}
    for file, rename in (("encoder.pt", _encoder_key), ("decoder.pt", _decoder_key)):
        content = read_checkpoint(folder / file)
        if not isinstance(content, dict):
            raise InputError(
                f"{folder / file}: holds a {type(content).__name__} in place of weights by name."
            )
        for key, value in content.items():
            name = rename(str(key).removeprefix("module."))
            if name is not None:
                state[name] = value
    return state


def _encoder_key(key: str) -> str | None:
    head, _, rest = key.partition(".")
    if head == "base":
        return None if rest.startswith("fc.") else f"encoder.backbone.body.{rest}"
    if head[:2] in ("sk", "bn"):  # sk5 and bn5 belong to res5
        return f"encoder.skips.res{head[2:]}.{'conv' if head[:2] == 'sk' else 'norm'}.{rest}"
    return f"encoder.{key}"


def _decoder_key(key: str) -> str | None:
    if "fc_stop" in key:
        return None
    return "decoder." + key.replace("clstm_list.", "cells.").replace(".Gates.", ".gates.")
