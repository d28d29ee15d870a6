"""RSIS as a model of the catalogue."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from vos_lightning.data.instance_examples import InstanceImages
from vos_lightning.data.sets import DataSet
from vos_lightning.data.videos import Given
from vos_lightning.errors import InputError
from vos_lightning.evaluation.instances import InstanceEvaluation
from vos_lightning.layers.inference import for_inference
from vos_lightning.models.interface import Experiment, Model
from vos_lightning.models.rsis.detect import SetDetection
from vos_lightning.models.rsis.fields import RSISFields, RSISPrediction, RSISTraining
from vos_lightning.models.rsis.module import SetTraining
from vos_lightning.models.rsis.network import RSIS
from vos_lightning.models.rsis.released import released_weights
from vos_lightning.models.training import Optimisation


class RSISModel(Model):
    """See `interface.Model`."""

    fields = RSISFields
    examples = InstanceImages
    training = RSISTraining
    prediction = RSISPrediction
    tags = ("recurrence",)

    def given(self, fields: RSISFields, prediction: RSISPrediction) -> Given:
        """Nothing."""
        return Given.NOTHING

    def classifies(self, fields: RSISFields) -> bool:
        """Unless all categories are taken for one."""
        return fields.classes > 1

    def network(self, fields: RSISFields) -> RSIS:
        """See `interface.Model`."""
        return RSIS(fields)

    def module(self, network: RSIS, training: RSISTraining, optimisation: Optimisation) -> SetTraining:
        """See `interface.Model`."""
        return SetTraining(network, training, optimisation)

    def evaluation(
        self, network: RSIS, experiment: Experiment, device: torch.device | str
    ) -> InstanceEvaluation:
        """See `interface.Model`. Raises InputError for a data set of more categories than the network has."""
        names = _categories(experiment.data_set, network.classes)
        prediction, size = experiment.prediction, experiment.examples.size
        ready = for_inference(network, prediction.precision).to(device)
        return InstanceEvaluation(SetDetection(ready, prediction, size, device), names)

    def released(self, folder: Path) -> Mapping[str, Tensor] | None:
        """The files of imatge-upc/rsis."""
        return released_weights(folder)


def _categories(data_set: DataSet, classes: int) -> tuple[str, ...]:
    """The names of the network's categories, if it has those of the data set and they can be read."""
    try:
        names = data_set.categories
    except InputError:  # predicting images of one's own needs no data set
        return ()
    if 1 < classes < len(names):
        raise InputError(
            f"model.classes={classes}: data.name={data_set.name} has {len(names)} categories; set as many, "
            "or 1 to take them all for one."
        )
    return names if classes == len(names) else ()


MODEL = RSISModel()
