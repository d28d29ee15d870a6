"""S2S and its variant with a video representation as a model of the catalogue."""

from dataclasses import replace
from pathlib import Path

import torch

from vos_lightning.data.examples import SingleObjects
from vos_lightning.data.videos import Given
from vos_lightning.evaluation.videos import VideoEvaluation
from vos_lightning.layers.inference import for_inference
from vos_lightning.models.interface import Experiment
from vos_lightning.models.s2s.fields import ObjectPrediction, ObjectTraining, S2SFields
from vos_lightning.models.s2s.module import StateTraining
from vos_lightning.models.s2s.network import S2S
from vos_lightning.models.s2s.propagate import StatePropagation
from vos_lightning.models.training import Optimisation


class S2SModel:
    """See `interface.Model`."""

    fields = S2SFields
    examples = SingleObjects
    training = ObjectTraining
    prediction = ObjectPrediction
    tags = ("encoder",)

    def given(self, fields: S2SFields, prediction: ObjectPrediction) -> Given:
        """Masks."""
        return Given.MASKS

    def network(self, fields: S2SFields, pretrained: bool) -> S2S:
        """See `interface.Model`."""
        return S2S(fields if pretrained else replace(fields, weights="none", deeplab_weights="none"))

    def module(self, network: S2S, training: ObjectTraining, optimisation: Optimisation) -> StateTraining:
        """See `interface.Model`."""
        return StateTraining(network, training, optimisation)

    def evaluation(self, network: S2S, experiment: Experiment, device: torch.device | str) -> VideoEvaluation:
        """See `interface.Model`."""
        prediction, size = experiment.prediction, experiment.examples.size
        ready = for_inference(network, prediction.precision).to(device)
        return VideoEvaluation(StatePropagation(ready, prediction, size, experiment.seed, device))

    def released(self, folder: Path) -> None:
        """None: the authors released no weights."""
        return None


MODEL = S2SModel()
