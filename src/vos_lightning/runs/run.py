"""A run: a training and one evaluation of it, found by what they are; and why something is missing."""

import glob
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict

from vos_lightning.configuration import compose_train
from vos_lightning.data.sets import DataSet, fingerprint
from vos_lightning.errors import InputError
from vos_lightning.fields import NAME, SCORING, as_plain, decisive, flatten, shown
from vos_lightning.layers.weights import weights_hash
from vos_lightning.models.interface import Experiment
from vos_lightning.runs.folder import (
    EvaluationFolder,
    Folder,
    TrainingFolder,
    changes,
    content_hash,
    other_than_fields,
    read_identity,
)
from vos_lightning.runs.settings import Settings, as_values, parts_of, read_settings
from vos_lightning.runs.sources import evaluation_sources, training_sources

FIELDS_SAID = 3  # of those that a sentence names before it counts the rest


@dataclass(frozen=True)
class Run:
    """A run on the data and with the sources as they are now.

    settings: its configuration. training, evaluation: its folders. first: the run whose weights its training
    starts from, if there is one. partner: the run whose network helps its predictions, if there is one.
    """

    settings: Settings
    training: TrainingFolder
    evaluation: EvaluationFolder
    first: "Run | None"
    partner: "Run | None" = None

    @classmethod
    def of(cls, settings: Settings, known: dict[Any, str] | None = None) -> "Run":
        """The run of a configuration; reads the names and sizes of the data's files.

        known: fingerprints found before, for runs that share their data.

        Raises InputError for data or weights that are not there.
        """
        experiment, machine = settings.experiment, settings.machine
        known = {} if known is None else known
        first = first_run(settings, known)
        identity = training_identity(experiment, first, known)
        names = f"{experiment.data_set.name}-{experiment.fields.name}-s{experiment.seed}"
        folder = Path(machine.dir or Path(machine.root) / f"{names}-{content_hash(identity)}")
        training = TrainingFolder(folder, identity)
        partner = partner_run(settings, known)
        scored = evaluation_identity(experiment, training, partner, known)
        split = experiment.data_set.score_split
        evaluation = EvaluationFolder(folder / f"{split}-{content_hash(scored)}", scored)
        return cls(settings, training, evaluation, first, partner)

    @classmethod
    def named(cls, settings: Settings, training: str, evaluation: str) -> "Run":
        """A run of a manifest, whose folders have these names below the root."""
        folder = Path(settings.machine.root) / training
        return cls(settings, TrainingFolder(folder, {}), EvaluationFolder(folder / evaluation, {}), None)

    @property
    def name(self) -> str:
        """What the two folders are called."""
        return f"{self.training.path.name}/{self.evaluation.path.name}"

    def result(self) -> dict[str, Any] | None:
        """What the evaluation found of the weights that stand there; None if it is not finished."""
        result, outcome = self.evaluation.result(), self.training.outcome()
        if result is None or outcome is None or result["checkpoint_hash"] == outcome["checkpoint_hash"]:
            return result
        return None

    def start(self) -> Path | None:
        """The weights that the training has left, or else starts from; None for the network's own."""
        if self.training.outcome() is not None:
            return scored_checkpoint(self.training)
        if self.first is not None:
            return scored_checkpoint(self.first.training)
        init_from = self.settings.experiment.training.init_from
        return Path(init_from) if init_from else None

    def state(self) -> str:
        """How far the run is, such as queued, running, trained or finished: the evaluation, else the
        training."""
        if self.result() is not None:
            return "finished"
        state = self.evaluation.status()["state"]
        if state not in ("queued", "finished"):  # the result of a finished one was removed
            return state
        trained = self.training.status()["state"]
        return "trained" if trained == "finished" else trained


def first_run(settings: Settings, known: dict[Any, str]) -> Run | None:
    """The run that train.first composes, with this one's scale, model and seed; None if there is none.

    Its data is what train.first_data chooses, or a `data=` in train.first, or else this run's.

    Raises InputError, which begins with `train.first`, for a configuration that does not suit the model.
    """
    experiment, machine = settings.experiment, settings.machine
    first, data = experiment.training.first, experiment.training.first_data
    if not first:
        return None
    chosen = data is not None or any(override.startswith("data=") for override in first)
    place = [f"scale={machine.scale}", *(data or ([] if chosen else [f"data={experiment.data_set.name}"]))]
    cfg = compose_train([*place, *first])
    with open_dict(cfg):  # before anything is resolved, since other parts may refer to the model
        cfg.model, cfg.seed = as_plain(experiment.fields), experiment.seed
        if not chosen:
            cfg.data = {**as_values(experiment)["data"], **_own_data(cfg, place, first)}
    try:
        composed = read_settings(cfg).experiment
    except InputError as error:  # such as a field of another model
        field = "train.first_data" if data and str(error).startswith("data.") else "train.first"
        raise InputError(f"{field}: {error}") from error
    return Run.of(Settings(composed, replace(machine, dir=None), settings.dashboard), known)


def partner_run(settings: Settings, known: dict[Any, str]) -> Run | None:
    """The run that predict's partner composes, on this one's data, scale and seed; None if there is none.

    Raises InputError for a configuration that cannot be used.
    """
    experiment, machine = settings.experiment, settings.machine
    overrides = experiment.prediction.partner
    if not overrides:
        return None
    try:
        cfg = compose_train([f"scale={machine.scale}", f"data={experiment.data_set.name}", *overrides])
        with open_dict(cfg):
            cfg.seed, cfg.data = experiment.seed, OmegaConf.merge(cfg.data, as_plain(experiment.data_set))
        composed = read_settings(cfg).experiment
    except (InputError, HydraException) as error:
        raise InputError(f"The partner {' '.join(overrides)}: {error}") from error
    return Run.of(Settings(composed, replace(machine, dir=None), settings.dashboard), known)


def _own_data(cfg: DictConfig, place: list[str], first: Sequence[str]) -> dict[str, Any]:
    """What a run's overrides, experiment and schedule say of data that its data set and scale do not."""
    choices = cfg.hydra.runtime.choices
    kept = [f"{group}={choices[group]}" for group in ("model", "schedule_at_scale") if choices[group]]
    without = compose_train([*place, *kept, "~schedule"])
    own, common = (OmegaConf.to_container(c.data, resolve=False) for c in (cfg, without))
    assert isinstance(own, dict) and isinstance(common, dict)
    given = {name.split(".")[1] for override in first if (name := override.split("=")[0]).startswith("data.")}
    return {key: own[key] for key in map(str, own) if key in given or own[key] != common.get(key)}


def training_identity(experiment: Experiment, first: Run | None, known: dict[Any, str]) -> dict[str, Any]:
    """What decides a training's weights: fields, data and sources."""
    data_set, training = experiment.data_set, experiment.training
    splits = dict.fromkeys((data_set.train_split, data_set.val_split), False)
    splits[data_set.train_split] |= training.every_frame
    fields = _fields(experiment, SCORING)
    del fields["predict"]
    identity = {
        "fields": {"seed": experiment.seed, **fields},
        "data": {split: _version(data_set, split, every, known) for split, every in splits.items()},
        "sources": training_sources(experiment),
    }
    return identity if first is None else identity | {"first": first.training.hash}


def evaluation_identity(
    experiment: Experiment, training: TrainingFolder, partner: Run | None, known: dict[Any, str]
) -> dict[str, Any]:
    """What decides an evaluation's scores: its training, fields, data and sources, and its partner."""
    data_set, every = experiment.data_set, experiment.prediction.all_frames
    split = data_set.score_split
    trained, fields = _fields(experiment, SCORING), _fields(experiment)
    scored = {
        node: {key: value for key, value in fields[node].items() if key not in trained[node]}
        for node in ("data", "model")  # whose other fields are part of the training
    }
    identity = {
        "fields": {**scored, "predict": fields["predict"]},
        "data": {split: _version(data_set, split, every, known, experiment.given.in_rounds)},
        "sources": evaluation_sources(experiment),
        "training": training.hash,
    }
    return identity if partner is None else identity | {"partner": partner.evaluation.hash}


def _fields(experiment: Experiment, *aside: str) -> dict[str, dict[str, Any]]:
    """The fields of each part that decide something, see `decisive`."""
    parts = parts_of(experiment)
    fields = {node: decisive(part, weights_hash, parts, *aside) for node, part in parts.items()}
    return fields | {"data": fields.pop("data_set") | fields.pop("examples")}


def _version(
    data_set: DataSet, split: str, all_frames: bool, known: dict[Any, str], in_rounds: bool = False
) -> str:
    key = data_set, split, all_frames, in_rounds
    if key not in known:
        known[key] = fingerprint(data_set.samples(split, all_frames=all_frames), in_rounds)
    return known[key]


def scored_checkpoint(training: TrainingFolder) -> Path:
    """The checkpoint that a finished training gives to be scored, or to start others from.

    Raises InputError if the training is not finished or that file is not there or has changed.
    """
    outcome = training.outcome()
    if outcome is None:
        raise InputError(f"{training.path}: not trained yet; run vos-train for it.")
    return known_weights(training.path, outcome)


def known_weights(folder: Path, record: Mapping[str, Any]) -> Path:
    """The checkpoint in a training's folder that a training.json or a result.json names.

    Raises InputError if that file is not there or has changed.
    """
    name = Path(record["checkpoint"]).name
    path = folder / name
    if not NAME.holds(name) or not path.is_file() or weights_hash(path) != record["checkpoint_hash"]:
        raise InputError(
            f"{folder}/{shown(name)}: not the weights that training left; put them back, or remove the run."
        )
    return path


def why_train(training: TrainingFolder) -> str:
    """Why a training is done: in what one with the same fields differs, or that there is none."""
    name = training.path.name.rpartition("-")[0]
    others = training.path.parent.glob(f"{glob.escape(name)}-*")
    return _why("trained", training, others, "training.json", {"fields": training.identity["fields"]})


def why_evaluate(evaluation: EvaluationFolder) -> str:
    """Why an evaluation is done: in what the nearest one of the same training differs."""
    return _why("scored", evaluation, evaluation.path.parent.iterdir(), "result.json")


def _why(
    done: str, wanted: Folder, others: Iterable[Path], record: str, same: Mapping[str, Any] | None = None
) -> str:
    """In what the nearest of other folders differs whose identity has what is in `same`."""
    identities = [_identity_of(path) for path in others if (path / record).is_file()]
    found = [
        (changes(there, wanted.identity), there)
        for there in identities
        if there is not None and all(there.get(key) == value for key, value in (same or {}).items())
    ]
    if not found:
        return f"not {done} before"
    changed, there = min(found, key=lambda pair: sum(map(len, pair[0].values())))
    before, now = flatten(there["fields"]), flatten(wanted.identity["fields"])
    both = [name for name in changed.pop("fields", []) if name in before and name in now]
    fields = [f"{name}={shown(before[name])}" for name in both]
    if len(fields) > FIELDS_SAID:
        fields[FIELDS_SAID:] = [f"{len(fields) - FIELDS_SAID} more"]
    words = [", ".join(fields), *other_than_fields(changed)]
    return f"{done} before with {' and '.join(filter(None, words)) or 'other fields'}"


def _identity_of(folder: Path) -> dict[str, Any] | None:
    """The identity of a folder; None where it cannot be read, which is no reason to stop."""
    try:
        return read_identity(folder)
    except InputError:
        return None
