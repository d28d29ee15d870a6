"""The zip that a server takes, which a finished run gets beside its scores."""

from collections.abc import Sequence
from typing import Any

import torch

from vos_lightning.data.sets import Sample
from vos_lightning.devices import choose_arithmetic, choose_device
from vos_lightning.errors import InputError
from vos_lightning.runs.callbacks import say
from vos_lightning.runs.folder import write_json
from vos_lightning.runs.load import build_network
from vos_lightning.runs.ready import evaluation_of
from vos_lightning.runs.run import Run, known_weights
from vos_lightning.runs.settings import as_values


def to_submit(run: Run) -> Sequence[Sample]:
    """What is still to be zipped for a server; if it cannot be read, nothing, and a line says why."""
    experiment, result = run.settings.experiment, run.result()
    data_set, split = experiment.data_set, experiment.data_set.submit_split
    if split is None or split not in data_set.splits() or experiment.given.in_rounds:
        return []
    if result is not None and result.get("submission") and run.evaluation.archive(split).is_file():
        return []
    try:
        return data_set.samples(split, True, experiment.prediction.all_frames)
    except InputError as error:
        say(f"No zip for {split}: {error}")
        return []


def with_submission(run: Run, result: dict[str, Any], waiting: Sequence[Sample]) -> dict[str, Any]:
    """A finished run's result with the zip for a server, whose split may have come since."""
    experiment, machine, folder = run.settings.experiment, run.settings.machine, run.evaluation
    split = experiment.data_set.submit_split or ""
    try:
        with folder.claimed(as_values(experiment)):
            experiment.examples.check(waiting, experiment.fields.slots, machine.loading.cache, split)
            network = build_network(experiment, known_weights(run.training.path, result))
            torch.set_num_threads(machine.threads)
            choose_arithmetic(experiment.prediction.tf32)
            device = choose_device(machine.accelerator, machine.device)
            evaluation = evaluation_of(run, network, device)
            result = {**result, "submission": str(evaluation.submit(waiting, folder.archive(split)))}
            write_json(folder.path / "result.json", result)
    except InputError as error:
        say(f"No zip for {split}: {error}")
    return result
