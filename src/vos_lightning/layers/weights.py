"""Weights from files, loaded strictly with errors that name the key."""

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

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


def weights_hash(path: Path) -> str:
    """8 hex digits of the content of a file of weights, or of all .pt files of a folder.

    Raises InputError if there is none.
    """
    digest = hashlib.sha256()
    files = sorted(path.glob("*.pt")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise InputError(f"{path}: no such checkpoint file, and no folder of .pt files.")
    for file in files:
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
    """A network's state dict from a checkpoint that `vos-train` wrote. Raises InputError for another file."""
    checkpoint = read_checkpoint(path)
    state = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict):
        raise InputError(f"{path}: holds no `state_dict`; give a checkpoint that vos-train wrote.")
    named = {str(key): value for key, value in state.items()}
    return {key.removeprefix("model."): value for key, value in named.items() if key.startswith("model.")}
