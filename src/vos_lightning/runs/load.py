"""Networks with weights: those that a training starts from, and trained ones read back from files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vos_lightning.configuration import compose_train, plain_values
from vos_lightning.errors import InputError
from vos_lightning.fields import without_weights
from vos_lightning.layers.weights import check_fits, load_strictly, read_model_weights
from vos_lightning.models.catalogue import all_models
from vos_lightning.models.interface import Experiment
from vos_lightning.plain import parse_yaml, read_yaml
from vos_lightning.runs.folder import TrainingFolder, read_identity, read_result
from vos_lightning.runs.run import known_weights, scored_checkpoint
from vos_lightning.runs.settings import PARTS, as_values, read_experiment


def build_network(experiment: Experiment, start: Path | None) -> nn.Module:
    """The network of an experiment with the weights that its training starts from.

    start: a checkpoint or a folder of released weights; None for the network's own.

    Raises:
        InputError: weights that cannot be read or do not fit.
    """
    fields = experiment.fields if start is None else without_weights(experiment.fields)
    network = experiment.model.network(fields)
    if start is not None:
        state = experiment.model.released(start) if start.is_dir() else read_model_weights(start)
        if state is None:
            raise InputError(
                f"train.init_from={start}: holds no released weights of {experiment.fields.name}."
            )
        load_strictly(network, state, start)
    return network.to(memory_format=torch.channels_last)


def load_run(path: Path, overrides: Sequence[str] = ()) -> tuple[Experiment, nn.Module]:
    """The experiment and the network of a checkpoint, which may come from strangers.

    Args:
        path: a run's folder, that of one of its evaluations, one of its checkpoints, or a folder with the
            weights that a model's authors released.
        overrides: KEY=VALUE, on the configuration.

    Raises:
        InputError: no configuration or weights there, a configuration that holds anything but the fields of
            its model as plain values, or weights that do not fit.
    """
    for name, model in all_models().items():
        state = model.released(path) if path.is_dir() else None
        if state is not None:
            stages = "train.stages=[{epochs: 1}]"  # of no use here, but a configuration needs some
            values = plain_values(compose_train([f"model={name}", "scale=paper", stages]))
            experiment = read_experiment({part: values[part] for part in PARTS})
            return _loaded(_overridden(experiment, overrides), state, path)
    folder = path if path.is_dir() else path.parent
    config = folder / "config.yaml"
    if not config.is_file():
        raise InputError(f"{config}: no such file; give the folder of a run.")
    read_identity(folder)
    experiment = read_experiment(read_yaml(config), f"{config}: ")
    weights = _weights(path)
    return _loaded(_overridden(experiment, overrides), read_model_weights(weights), weights)


def _weights(path: Path) -> Path:
    """The checkpoint that a path stands for."""
    if not path.is_dir():
        return path
    result = read_result(path)
    if result is None:
        return scored_checkpoint(TrainingFolder(path, {}))
    return known_weights(path.resolve().parent, result)  # beside the folder of the evaluation


def _loaded(experiment: Experiment, state: Any, source: Path) -> tuple[Experiment, nn.Module]:
    fields = without_weights(experiment.fields)
    with torch.device("meta"):  # which takes no memory, whatever sizes a stranger's configuration names
        like = experiment.model.network(fields)
    check_fits(like, state, source)
    network = experiment.model.network(fields)
    load_strictly(network, state, source)
    return experiment, network


def _overridden(experiment: Experiment, overrides: Sequence[str]) -> Experiment:
    """An experiment with fields set as KEY=VALUE, where VALUE is YAML. Raises InputError for others."""
    values = as_values(experiment)
    for text in overrides:
        key, equals, value = text.partition("=")
        *nodes, field = key.split(".")
        part: Any = values
        for node in nodes:
            part = part.get(node) if isinstance(part, dict) else None
        if not equals or not isinstance(part, dict) or field not in part:
            raise InputError(f"--set {text[:60]}: give KEY=VALUE, such as predict.merge=argmax.")
        part[field] = parse_yaml(value, f"--set {text[:60]}")
    return read_experiment(values, "--set " if overrides else "")
