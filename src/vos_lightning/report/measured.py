"""Figures of a run's result by their keys, as tables show them.

A key is one of a score, such as `J` or `instances.1.J`, where dots lead into what the scores hold, or one of
COSTS.
"""

from collections.abc import Callable, Mapping
from statistics import mean
from typing import Any

from vos_lightning.runs.folder import NUMBER
from vos_lightning.scoring.rules import NUMBERS

Result = Mapping[str, Any]  # the content of a result.json


def figure(result: Result, key: str) -> float | None:
    """A figure of a run's result: a score in percent or as a number, or one of COSTS; None if it has none."""
    if key in COSTS:
        return COSTS[key](result)
    value: Any = result["scores"]
    for name in key.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    if not isinstance(value, NUMBER):
        return None
    return value if key in NUMBERS else 100 * value


def digits(key: str) -> int:
    """How many digits a figure is shown with."""
    return 2 if key in (*COSTS, *NUMBERS) else 1


def _seconds_per_frame(result: Result) -> float | None:
    timings = result.get("timings", [])
    frames = sum(t["frames"] for t in timings)
    return sum(t["seconds"] + t["online_seconds"] for t in timings) / frames if frames else None


def _ms_per_frame(result: Result) -> float | None:
    seconds = _seconds_per_frame(result)
    return None if seconds is None else 1000 * seconds


def _online_seconds(result: Result) -> float | None:
    timings = result.get("timings", [])
    return mean(t["online_seconds"] for t in timings) if timings else None


def _of_training(key: str, unit: float) -> Callable[[Result], float | None]:
    """A figure of the training, in a larger unit; None where it is 0, since nothing was trained."""

    def found(result: Result) -> float | None:
        value = result.get("training", {}).get(key)
        return value / unit if isinstance(value, NUMBER) and value else None

    return found


# What a run costs: seconds and milliseconds a frame, online learning included, and seconds of online learning
# a video; hours of training, of it alone and of those that it started from; and its peak of memory in GiB.
COSTS: dict[str, Callable[[Result], float | None]] = {
    "seconds_per_frame": _seconds_per_frame,
    "ms_per_frame": _ms_per_frame,
    "online_seconds": _online_seconds,
    "hours": _of_training("train_seconds", 3600),
    "first_hours": _of_training("first_seconds", 3600),
    "memory": _of_training("peak_memory_mib", 1024),
}
