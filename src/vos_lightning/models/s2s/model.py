"""S2S and its variant with a video representation as a model of the catalogue."""

import torch

from vos_lightning.data.examples import SingleObjects
from vos_lightning.evaluation.corrected import evaluation_along
from vos_lightning.layers.inference import for_inference
from vos_lightning.models.interface import Evaluation, Experiment, Model
from vos_lightning.models.s2s.fields import ObjectPrediction, ObjectTraining, S2SFields
from vos_lightning.models.s2s.module import StateTraining
from vos_lightning.models.s2s.network import S2S
from vos_lightning.models.s2s.propagate import StatePropagation
from vos_lightning.models.training import Optimisation


class S2SModel(Model):
    """See `interface.Model`."""

    fields = S2SFields
    examples = SingleObjects
    training = ObjectTraining
    prediction = ObjectPrediction
    tags = ("encoder",)

    def network(self, fields: S2SFields) -> S2S:
        """See `interface.Model`."""
        return S2S(fields)

    def module(self, network: S2S, training: ObjectTraining, optimisation: Optimisation) -> StateTraining:
        """See `interface.Model`."""
        return StateTraining(network, training, optimisation)

    def evaluation(self, network: S2S, experiment: Experiment, device: torch.device | str) -> Evaluation:
        """See `interface.Model`."""
        prediction, size = experiment.prediction, experiment.examples.size
        ready = for_inference(network, prediction.precision).to(device)
        return evaluation_along(StatePropagation(ready, prediction, size, experiment.seed, device))


MODEL = S2SModel()
