"""A configuration as typed values: what is found (`Experiment`), and where and how (`Machine`)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from omegaconf import DictConfig

from vos_lightning.configuration import plain_values
from vos_lightning.data.catalogue import data_set_named
from vos_lightning.data.modules import Loading, frame_cache
from vos_lightning.errors import InputError
from vos_lightning.fields import NAME, WORD, as_plain, choice, or_null, read, read_parts, real, shown, whole
from vos_lightning.models.catalogue import model_named
from vos_lightning.models.interface import Experiment
from vos_lightning.models.training import Optimisation

PARTS = ("seed", "data", "model", "train", "optim", "predict")  # of an experiment
SEED = whole(0, 2**32 - 1)


@dataclass(frozen=True, kw_only=True)
class Dashboard:
    """Where curves and results are sent: a project of Weights & Biases; with `mode` None, online if there is
    an account."""

    project: Annotated[str, WORD]
    mode: Annotated[str | None, or_null(choice("online", "offline", "disabled"))] = None


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where and how a run is computed: the node `run`, whose keys conf/train.yaml explains."""

    root: Annotated[str, WORD]
    dir: Annotated[str | None, or_null(WORD)]
    jobs: Annotated[int, whole(1, 1024)]
    threads: Annotated[int, whole(1, 1024)]
    accelerator: Annotated[str, choice("auto", "cpu", "cuda")]
    device: Annotated[int | None, or_null(whole(0, 1023))]
    frame_cache: Annotated[str | None, or_null(WORD)]
    keep_free_gib: Annotated[float, real(0)]
    checkpoint_minutes: Annotated[float, real(0)]
    loader_workers: Annotated[int, whole(0, 256)]
    scale: Annotated[str, NAME]
    group: Annotated[str | None, or_null(NAME)]

    @property
    def loading(self) -> Loading:
        """How data is read."""
        return Loading(self.loader_workers, frame_cache(self.frame_cache, self.keep_free_gib))


@dataclass(frozen=True)
class Settings:
    """A run's configuration; `dashboard` is None where nothing is sent to one."""

    experiment: Experiment
    machine: Machine
    dashboard: Dashboard | None


def read_settings(cfg: DictConfig) -> Settings:
    """The typed values of a composed configuration.

    Raises InputError for a value that is not allowed, missing, or without a field.
    """
    return settings_of(plain_values(cfg))


def settings_of(config: Mapping[str, Any]) -> Settings:
    """The typed values of a configuration that is given as plain values. Errors as `read_settings`."""
    values = {key: value for key, value in config.items() if key != "table"}
    run = values.pop("run", {})
    if not isinstance(run, Mapping):
        raise InputError(f"run={shown(run)}: must have fields of its own.")
    placed, logger = {key: value for key, value in run.items() if key != "logger"}, run.get("logger")
    dashboard = None if logger is None else read(Dashboard, "run.logger", logger)
    return Settings(read_experiment(values), read(Machine, "run", placed), dashboard)


def read_experiment(values: Mapping[str, Any], source: str = "") -> Experiment:
    """An experiment from plain values, of which strangers may have written some; nothing is opened.

    Args:
        values: the parts that PARTS names, no more and no less.
        source: what an error starts with, such as `FILE: `.

    Raises:
        InputError: a part or a field that is missing, unknown or has a value that is not allowed.
    """
    try:
        return _experiment(values)
    except InputError as error:
        raise InputError(f"{source}{error}") from None


def _experiment(values: Mapping[str, Any]) -> Experiment:
    if unknown := sorted(values.keys() - set(PARTS)):
        raise InputError(f"{shown(unknown[0])}: no such field; choose some of {', '.join(PARTS)}.")
    if missing := [part for part in PARTS if part not in values]:
        raise InputError(f"{missing[0]}: not set; a configuration needs it.")
    if not SEED.holds(values["seed"]):
        raise InputError(f"seed={shown(values['seed'])}: {SEED.wanted}.")
    model = model_named(_word(values, "model", "architecture"))
    data_set = data_set_named(_word(values, "data", "name"))
    if data_set.kind is not model.examples.kind:
        wanted, there = (f"{kind.__name__.lower()}s" for kind in (model.examples.kind, data_set.kind))
        raise InputError(
            f"data.name={values['data']['name']}: has {there}, and model.architecture="
            f"{values['model']['architecture']} needs {wanted}; choose a data set with them."
        )
    data = read_parts("data", values["data"], data_set, model.examples)
    return Experiment(
        model=model,
        seed=values["seed"],
        fields=read(model.fields, "model", values["model"]),
        data_set=data[0],
        examples=data[1],
        training=read(model.training, "train", values["train"]),
        optimisation=read(Optimisation, "optim", values["optim"]),
        prediction=read(model.prediction, "predict", values["predict"]),
    )


def _word(values: Mapping[str, Any], part: str, field: str) -> str:
    """The field by which a part is known."""
    fields = values[part]
    if not isinstance(fields, Mapping):
        raise InputError(f"{part}={shown(fields)}: must have fields of its own.")
    if not isinstance(fields.get(field), str):
        raise InputError(f"{part}.{field}={shown(fields.get(field))}: must be a name.")
    return fields[field]


def parts_of(experiment: Experiment) -> dict[str, Any]:
    """The parts of an experiment by node; the node `data` has two, `data_set` and `examples`."""
    return {
        "data_set": experiment.data_set,
        "examples": experiment.examples,
        "model": experiment.fields,
        "train": experiment.training,
        "optim": experiment.optimisation,
        "predict": experiment.prediction,
    }


def as_values(experiment: Experiment) -> dict[str, Any]:
    """An experiment as plain values, from which `read_experiment` makes it again."""
    values = {node: as_plain(part) for node, part in parts_of(experiment).items()}
    return {"seed": experiment.seed, "data": values.pop("data_set") | values.pop("examples"), **values}
