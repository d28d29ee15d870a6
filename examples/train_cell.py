"""Trains a network with one recurrent cell for a few steps, in Python and without a run's folder.

    python examples/train_cell.py model.cell=gru model.reset_gates=2

The options are those of vos-train, and the data is the embedded one unless they name another. `vos-train`
with the same options also keeps checkpoints, goes on after an interruption, and scores.
"""

import sys

from pytorch_lightning import Trainer, seed_everything

from vos_lightning.configuration import compose_train
from vos_lightning.data.modules import TrainingData
from vos_lightning.runs.load import build_network
from vos_lightning.runs.settings import read_settings

STEPS = "train.max_steps=20"


def train(overrides: list[str]) -> dict[str, float]:
    """Returns the last losses and the validation's J, F and J&F."""
    settings = read_settings(compose_train([STEPS, *overrides]))
    experiment = settings.experiment
    seed_everything(experiment.seed)
    network = build_network(experiment, start=None)
    module = experiment.model.module(network, experiment.training, experiment.optimisation)
    data_set, slots = experiment.data_set, experiment.fields.slots
    data = TrainingData(data_set, experiment.examples, slots, experiment.seed, settings.machine.loading)
    trainer = Trainer(max_epochs=experiment.training.epochs, logger=False, enable_checkpointing=False)
    trainer.fit(module, datamodule=data)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


if __name__ == "__main__":
    print(train(sys.argv[1:]))
