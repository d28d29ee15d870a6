"""The device of a run and how it computes there."""

import platform
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from vos_lightning.errors import InputError, one_of


def choose_device(accelerator: str, index: int | None = None) -> torch.device:
    """The device of `run.accelerator` and `run.device`; `index` counts the visible GPUs, None is the first.

    Raises:
        InputError: an unknown accelerator or a GPU that is not there.
    """
    one_of("run.accelerator", accelerator, ("auto", "cpu", "cuda"))
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if accelerator == "cpu" or (accelerator == "auto" and not there):
        return torch.device("cpu")
    if not 0 <= (index or 0) < there:
        raise InputError(
            f"run.device={index or 0}: there are {there} CUDA devices, counted from 0; choose one of them or "
            "run.accelerator=cpu."
        )
    return torch.device("cuda", index or 0)


def device_name(device: torch.device) -> str:
    """The model of a GPU or of this machine's processor.

    Trainings that are equal otherwise end in the same weights on one model; on another, rounding differs.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def choose_arithmetic(tf32: bool) -> None:
    """Decides on TF32 in convolutions and matrix products and lets cuDNN time its kernels, on CUDA.

    Sizes are fixed in training and along a video, so that the timing pays. A CPU's results stay as they are.
    """
    # The older of torch's two interfaces: Lightning reads it, which fails after the newer one was used.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True


def upload(x: Tensor, device: torch.device | str) -> Tensor:
    """A tensor of main memory on the device; on CUDA the copy runs in the background."""
    if torch.device(device).type == "cuda":
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)
