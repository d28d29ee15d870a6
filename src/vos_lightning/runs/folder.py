"""A folder per run, named by what the run is; everything that tables and reports know is read from it.

FOLDER/config.yaml     the resolved configuration
FOLDER/status.json     state: running, interrupted, failed (with its traceback) or finished; its last step
FOLDER/metrics.csv     one row an epoch
FOLDER/last.ckpt       where an interrupted run goes on; previous.ckpt: the one before, while it trains
FOLDER/best-stageN.ckpt    the epoch that stage N keeps, unless that is its last
FOLDER/masks/          the predicted masks of the scored split
FOLDER/result.json     scores, protocol, checkpoint, versions, time, memory; its presence means finished
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf

from vos_lightning import __version__
from vos_lightning.atomic import unwritable, write_text
from vos_lightning.errors import InputError
from vos_lightning.fields import GONE, check, plain_values
from vos_lightning.layers.weights import checkpoint_hash
from vos_lightning.plain import Type, read_json, read_yaml

# What says where and how a run works or is shown, not what it is. Hashes of files stand for their places.
NOT_PART_OF_IDENTITY = ("run", "table", "hydra")
PLACES = (
    "data.root",
    "data.segtrack_root",
    "data.jumpcut_root",
    "data.youtube_objects_root",
    "data.cache",
    "train.init_from",
    "train.first",
)
NUMBER = (int, float)
# Types of result.json's keys; the first seven are always there.
RESULT: dict[str, Type] = {
    **{"scores": dict, "seed": int, "train_seconds": NUMBER, "score_seconds": NUMBER},
    **{"code_version": str, "config_hash": str, "data_version": dict},
    **{"split": str, "device": str, "checkpoint": str, "checkpoint_hash": str, "timings": list},
}


def write_json(path: Path, content: Any) -> None:
    """Writes JSON so that the file is either the old or the new one. Raises InputError if that fails."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def settings(cfg: DictConfig) -> dict[str, Any]:
    """The part of a configuration that decides a run's result, resolved.

    Raises:
        InputError: a mandatory field that is not set.
    """
    resolved = plain_values(cfg)
    for place in PLACES:
        node, key = place.split(".")
        resolved.get(node, {}).pop(key, None)
    return {key: value for key, value in resolved.items() if key not in NOT_PART_OF_IDENTITY}


def identity(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What tells a run from others: its settings less the fields of online learning where there is none."""
    predict = settings.get("predict", {})
    if predict.get("online", {}).get("enabled", True):
        return dict(settings)
    return {**settings, "predict": {**predict, "online": {"enabled": False}}}


def content_hash(content: Any) -> str:
    """8 hex digits of a JSON-like value."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def code_version() -> str:
    """The package's version and 8 hex digits of its sources."""
    digest = hashlib.sha256()
    package = Path(__file__).parents[1]
    for path in sorted(package.rglob("*.py")):
        digest.update(str(path.relative_to(package)).encode() + path.read_bytes())
    return f"{__version__}+{digest.hexdigest()[:8]}"


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{'a': {'b': 1}} to {'a.b': 1}."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


@dataclass(frozen=True)
class Run:
    """One run: its settings and its folder.

    settings: what decides its result, see `settings`. folder: run.dir, or below run.root a name that holds
    data, model, seed and the hash of the settings.
    """

    settings: dict[str, Any]
    folder: Path

    @classmethod
    def of(cls, cfg: DictConfig, data_version: dict[str, str]) -> "Run":
        """The run of a configuration on data with these fingerprints by split.

        Raises InputError if a mandatory field is not set.
        """
        chosen = settings(cfg) | {"data_version": data_version}
        names = f"{chosen['data']['name']}-{chosen['model']['name']}-s{chosen['seed']}"
        name = f"{names}-{content_hash(identity(chosen))}"
        return cls(chosen, Path(cfg.run.dir) if cfg.run.dir else Path(cfg.run.root) / name)

    @property
    def checkpoint(self) -> Path:
        """Where an interrupted run goes on."""
        return self.folder / "last.ckpt"

    @property
    def new_checkpoint(self) -> Path:
        """The next one, until the one before has its other name."""
        return self.folder / "new.ckpt"

    @property
    def previous_checkpoint(self) -> Path:
        """The one before, should that be broken."""
        return self.folder / "previous.ckpt"

    @property
    def scored_checkpoint(self) -> Path:
        """The checkpoint that is scored: the epoch that the last stage keeps, see `models.training.Stage`.

        A run that ends before a validation has no other than its last.
        """
        stages = self.settings["train"]["stages"]
        best = self.best_of_stage(len(stages) - 1)
        return best if stages[-1].get("keep", "last") != "last" and best.is_file() else self.checkpoint

    def best_of_stage(self, index: int) -> Path:
        """The checkpoint of the best epoch of a stage, 0 being the first."""
        return self.folder / f"best-stage{index + 1}.ckpt"

    def result(self) -> dict[str, Any] | None:
        """What a finished run found; None if it is not finished."""
        return read_result(self.folder)

    def status(self) -> dict[str, Any]:
        """The content of status.json; {'state': 'queued'} if there is none.

        A run that no process holds any more was interrupted.
        """
        status = read_json(self.folder / "status.json", {"state": str}, needed=1) or {"state": "queued"}
        if status["state"] == "running" and not self._is_held():
            status["state"] = "interrupted"
        return status

    def _is_held(self) -> bool:
        try:
            with FileLock(self.folder / ".lock", blocking=False):
                return False
        except (Timeout, OSError):
            return True

    def set_status(self, state: str, **more: Any) -> None:
        """Writes status.json."""
        write_json(self.folder / "status.json", {"state": state, "process": os.getpid(), **more})

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Holds the folder for this process; waits for another that does. Made if it is not there.

        Raises:
            InputError: the folder belongs to a run with other settings; says which differ. Or it cannot be
                written to.
        """
        lock = FileLock(self.folder / ".lock")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            held = lock.acquire(blocking=False)
        except Timeout:
            print(f"{self.folder}: another process works on this run; waiting for it.", flush=True)
            held = lock.acquire()
        except OSError as error:
            raise unwritable(self.folder, error) from error
        with held:
            for part in self.folder.glob(".*.partial"):  # of a process that was killed
                part.unlink()
            self.check_settings()
            path = self.folder / "config.yaml"
            if not path.is_file():
                write_text(path, OmegaConf.to_yaml(OmegaConf.create(self.settings)))
            yield

    def check_settings(self) -> None:
        """Raises InputError if the folder belongs to a run with other settings; says which differ."""
        path = self.folder / "config.yaml"
        if path.is_file():
            there, here = (flatten(identity(s)) for s in (settings(read_config(path)), self.settings))
            differing = [
                f"{key} is {there.get(key, 'absent')} there and {here.get(key, 'absent')} here"
                for key in sorted(there.keys() | here.keys())
                if there.get(key) != here.get(key)
            ]
            if differing:
                raise InputError(
                    f"{self.folder}: holds another run ({'; '.join(differing)}); choose another run.dir."
                )


def read_config(path: Path) -> DictConfig:
    """A run's config.yaml without keys that are gone; it may lack newer ones.

    Raises InputError if it holds anything but the fields that this version knows, as plain values.
    """
    content = read_yaml(path)
    for key in GONE:
        node, _, name = key.partition(".")
        if isinstance(content.get(node), dict):
            content[node].pop(name, None)
    check(content, f"{path}: ", known_only=True)
    return OmegaConf.create(content)


def read_result(folder: Path) -> dict[str, Any] | None:
    """A run's result.json; None if the run is not finished. Raises InputError for one of another shape."""
    path = folder / "result.json"
    result = read_json(path, RESULT, needed=7)
    timings = result.get("timings", []) if result else []
    keys = ("frames", "seconds", "online_seconds")
    if not all(isinstance(t, dict) and all(isinstance(t.get(k), NUMBER) for k in keys) for t in timings):
        raise InputError(f"{path}: timings must each hold {', '.join(keys)}; remove the file.")
    scores = result["scores"] if result else {}
    if wrong := [k for k, v in scores.items() if not isinstance(v, (*NUMBER, str, dict, list, type(None)))]:
        raise InputError(f"{path}: scores.{wrong[0]} is no score; remove the file.")
    return result


def scored_weights(folder: Path) -> Path:
    """The checkpoint that a run's result.json scored; last.ckpt where the run is not finished.

    Raises InputError if that file is not there, has changed, or lies elsewhere than beside the run's folder.
    """
    result = read_result(folder)
    if result is None:
        return folder / "last.ckpt"
    # Results of earlier versions do not name it.
    names = [result["checkpoint"]] if "checkpoint" in result else ["last.ckpt", "best.ckpt"]
    runs = folder.resolve().parent
    for name in names:
        path = Path(os.path.normpath(runs / folder.resolve().name / name))
        if runs not in path.parents:
            raise InputError(
                f"{folder / 'result.json'}: its checkpoint {name} is not below {runs}; give that file itself."
            )
        if path.is_file() and checkpoint_hash(path) == result.get("checkpoint_hash"):
            return path
    raise InputError(f"{folder / names[0]}: not the checkpoint that result.json scored; give a .ckpt itself.")
