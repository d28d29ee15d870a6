"""A run's folders, named by what is in them; everything that tables and reports know is read from there.

RUN/                       a training, named by data, model, seed and a hash of all that decides its weights
RUN/config.yaml            the configuration that it was first made for
RUN/identity.json          what decides its weights: fields, versions of data and of sources
RUN/status.json            state: running, interrupted, failed (with its traceback) or finished; its last step
RUN/metrics.csv            one row an epoch; losses.csv: the training loss every few steps
RUN/last.ckpt              where an interrupted training goes on; previous.ckpt is the one before it
RUN/best-stageN.ckpt       the epoch that stage N keeps, unless that is its last
RUN/training.json          checkpoint, steps, time and memory; its presence means trained
RUN/SPLIT-HASH/            an evaluation, named by the split and a hash of all that decides its scores
RUN/SPLIT-HASH/masks/      the predicted masks, beside config.yaml, identity.json and status.json of its own
RUN/SPLIT-HASH/result.json scores, protocol, checkpoint, versions, time; its presence means scored
"""

import glob
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import OmegaConf

from vos_lightning.atomic import unwritable, write_text
from vos_lightning.errors import InputError
from vos_lightning.fields import flatten, shown
from vos_lightning.plain import Type, read_json

NUMBER = (int, float)
# Types of the keys of training.json and of result.json; those up to the count of NEEDED are always there.
# first_seconds is the time of the trainings that a training started from.
TRAINED: dict[str, Type] = {
    **{"checkpoint": str, "checkpoint_hash": str, "steps": int, "train_seconds": NUMBER},
    **{"parameters": int, "code_version": str, "device": str, "peak_memory_mib": int},
    "first_seconds": NUMBER,
}
RESULT: dict[str, Type] = {
    **{"scores": dict, "seed": int, "train_seconds": NUMBER, "score_seconds": NUMBER},
    **{"code_version": str, "config_hash": str, "data_version": dict, "split": str},
    **{"checkpoint": str, "checkpoint_hash": str, "device": str, "timings": list},
}
WORDS = {"training": "training", "first": "first run", "partner": "partner"}
NEEDED = {"training.json": len(TRAINED) - 1, "result.json": len(RESULT)}
# Types in the scores of a result.json; the protocol is always there.
SCORES: dict[str, Type] = {
    **{"protocol": str, "JF": NUMBER, "J": NUMBER, "F": NUMBER},
    **{"per_object": dict, "instances": dict, "position": dict},
    **{"AP": (*NUMBER, type(None)), "AP50": (*NUMBER, type(None)), "SBD": NUMBER, "count_error": NUMBER},
    **{"per_image": dict, "per_category": dict},
    **{"AUC": NUMBER, "JF_60s": NUMBER, "JF_first": NUMBER, "rounds": list, "curve": dict},
    "JF_untouched": (*NUMBER, type(None)),
}
# Keys of the rows in a dict or a list of the scores.
ROWS = {
    "per_object": ("J", "F"),
    "instances": ("J", "F", "objects"),
    "per_image": ("SBD", "objects", "found"),
    "rounds": ("JF", "J", "F", "seconds"),
}
STATES = ("running", "interrupted", "failed", "finished")


def write_json(path: Path, content: Any) -> None:
    """Writes JSON so that the file is either the old or the new one. Raises InputError if that fails."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def content_hash(content: Any) -> str:
    """8 hex digits of a JSON-like value."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Folder:
    """A folder that holds what a run finds.

    path: where it is. identity: what decides what is found, as plain values: `fields`, `data` and `sources`,
    for an evaluation also `training`.
    """

    path: Path
    identity: Mapping[str, Any]

    @property
    def hash(self) -> str:
        """8 hex digits of the identity."""
        return content_hash(self.identity)

    def status(self) -> dict[str, Any]:
        """The content of status.json; {'state': 'queued'} if there is none.

        What no process works on any more was interrupted. Raises InputError for a file of another shape.
        """
        path = self.path / "status.json"
        status = read_json(path, {"state": str, "step": int}, needed=1)
        if status is None:
            return {"state": "queued"}
        if status["state"] not in STATES:
            raise InputError(f"{path}: state is none of {', '.join(STATES)}; remove the file.")
        if status["state"] == "running" and not self._is_held():
            status["state"] = "interrupted"
        return status

    def _is_held(self) -> bool:
        try:
            with FileLock(self.path / ".lock", blocking=False):
                return False
        except (Timeout, OSError):
            return True

    def set_status(self, state: str, **more: Any) -> None:
        """Writes status.json."""
        write_json(self.path / "status.json", {"state": state, "process": os.getpid(), **more})

    @contextmanager
    def claimed(self, config: Mapping[str, Any]) -> Iterator[None]:
        """Holds the folder for this process; waits for another that does. Made, with `config`, if not there.

        Raises:
            InputError: the folder holds something else; says what differs. Or it cannot be written to.
        """
        lock = FileLock(self.path / ".lock")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            held = lock.acquire(blocking=False)
        except Timeout:
            print(f"{self.path}: another process works on this run; waiting for it.", flush=True)
            held = lock.acquire()
        except OSError as error:
            raise unwritable(self.path, error) from error
        with held:
            for part in self.path.glob(".*.partial"):  # of a process that was killed
                part.unlink()
            self.check()
            if not (self.path / "identity.json").is_file():  # first, since config.yaml alone is an old folder
                write_json(self.path / "identity.json", self.identity)
            if not (self.path / "config.yaml").is_file():
                write_text(self.path / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(dict(config))))
            yield

    def check(self) -> None:
        """Raises InputError if the folder belongs to something else; says what differs."""
        there = read_identity(self.path)
        if there is not None and (differing := differences(there, self.identity)):
            raise InputError(
                f"{self.path}: holds another run ({'; '.join(differing[:5])}); choose another run.dir."
            )


@dataclass(frozen=True)
class TrainingFolder(Folder):
    """A training's folder."""

    @property
    def checkpoint(self) -> Path:
        """Where an interrupted training goes on."""
        return self.path / "last.ckpt"

    @property
    def new_checkpoint(self) -> Path:
        """The next one, until the one before has its other name."""
        return self.path / "new.ckpt"

    @property
    def previous_checkpoint(self) -> Path:
        """The one before, should that be broken."""
        return self.path / "previous.ckpt"

    def best_of_stage(self, index: int) -> Path:
        """The checkpoint of the best epoch of a stage, 0 being the first."""
        return self.path / f"best-stage{index + 1}.ckpt"

    def outcome(self) -> dict[str, Any] | None:
        """What a finished training left; None if it is not finished. Raises InputError for another shape."""
        return read_json(self.path / "training.json", TRAINED, NEEDED["training.json"])

    def first(self) -> "TrainingFolder | None":
        """The folder beside it of the training from whose weights this one starts; None if none is there."""
        hash_of_first = (read_identity(self.path) or {}).get("first")
        beside = self.path.parent.glob(f"*-{glob.escape(str(hash_of_first))}") if hash_of_first else ()
        return next((TrainingFolder(path, {}) for path in beside), None)


@dataclass(frozen=True)
class EvaluationFolder(Folder):
    """An evaluation's folder, below that of its training."""

    @property
    def masks(self) -> Path:
        """The folder of the predicted masks."""
        return self.path / "masks"

    def archive(self, split: str) -> Path:
        """The zip for the server of a split."""
        return self.path / f"{split}.zip"

    def result(self) -> dict[str, Any] | None:
        """What a finished evaluation found; None if it is not finished."""
        return read_result(self.path)


def read_identity(folder: Path) -> dict[str, Any] | None:
    """The identity of what a folder holds; None if it holds nothing.

    Raises InputError for a folder of an earlier version, or a file of another shape.
    """
    identity = read_json(folder / "identity.json", {"fields": dict, "data": dict, "sources": dict}, needed=3)
    if identity is None and (folder / "config.yaml").is_file():
        raise InputError(
            f"{folder}: has no identity.json; versions before 0.2 wrote none, and kept a training and its "
            "scores in one folder: train it again, or install such a version to use it."
        )
    return identity


def changes(there: Mapping[str, Any], here: Mapping[str, Any]) -> dict[str, list[str]]:
    """In what two identities differ: names by `fields`, `data`, `sources`, `training`, `first` or
    `partner`."""
    before, now = flatten(there), flatten(here)
    found: dict[str, list[str]] = {}
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            part, _, name = key.partition(".")
            found.setdefault(part, []).append(name)
    return found


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """In what two identities differ, in words."""
    before, now = (flatten(identity["fields"]) for identity in (there, here))
    found = changes(there, here)
    names = found.pop("fields", [])
    both = [name for name in names if name in before and name in now]
    fields = [f"{name} is {shown(before[name])} there and {shown(now[name])} here" for name in both]
    return (fields or [f"{name} is set in one alone" for name in names]) + other_than_fields(found)


def other_than_fields(found: Mapping[str, Sequence[str]]) -> list[str]:
    """Changes of data, sources and trainings, in words."""
    named = [f"other {part}: {', '.join(found[part])}" for part in ("data", "sources") if part in found]
    return named + [f"another {WORDS[part]}" for part in WORDS if part in found]


def read_result(folder: Path) -> dict[str, Any] | None:
    """A result.json; None if there is none. Raises InputError for one of another shape."""
    path = folder / "result.json"
    result = read_json(path, RESULT, NEEDED["result.json"])
    if result is None:
        return None
    keys = ("frames", "seconds", "online_seconds")
    if not all(_has_numbers(timing, keys) for timing in result["timings"]):
        raise InputError(f"{path}: timings must each hold {', '.join(keys)}; remove the file.")
    if fault := _fault(result["scores"]):
        raise InputError(f"{path}: scores.{fault} is missing or of a wrong type; remove the file.")
    return result


def _has_numbers(row: Any, keys: Iterable[str]) -> bool:
    return isinstance(row, dict) and all(isinstance(row.get(key), NUMBER) for key in keys)


def _is_curve(x: Any, y: Any) -> bool:
    return all(
        isinstance(values, list) and len(values) == len(x) and all(isinstance(v, NUMBER) for v in values)
        for values in (x, y)
    )


def _fault(scores: Mapping[str, Any]) -> str | None:
    """The first key of scores whose value is of another shape than `scoring.rules` give."""
    for key, kind in SCORES.items():
        if (key == "protocol" and key not in scores) or (key in scores and not isinstance(scores[key], kind)):
            return key
    for rows, keys in ROWS.items():
        found = scores.get(rows, [])
        if not all(_has_numbers(row, keys) for row in (found.values() if isinstance(found, dict) else found)):
            return rows
    if "curve" in scores and not _is_curve(scores["curve"].get("seconds"), scores["curve"].get("JF")):
        return "curve"
    position = scores.get("position", {})
    limits, curves = position.get("limits"), [v for k, v in position.items() if k != "limits"]
    if position and not (isinstance(limits, list) and all(isinstance(v, NUMBER) for v in limits)):
        return "position"
    fit = (isinstance(curve, list) and len(curve) == len(limits or ()) - 1 for curve in curves)
    if not all(fit) or not all(isinstance(v, (*NUMBER, type(None))) for curve in curves for v in curve):
        return "position"
    return None
