"""RIS as a model of the catalogue."""

import torch

from vos_lightning.data.instance_examples import InstanceImages
from vos_lightning.data.videos import Given
from vos_lightning.evaluation.instances import InstanceEvaluation
from vos_lightning.layers.inference import for_inference
from vos_lightning.models.interface import Experiment, Model
from vos_lightning.models.ris.detect import Detector
from vos_lightning.models.ris.fields import InstancePrediction, InstanceTraining, RISFields
from vos_lightning.models.ris.module import MatchedTraining
from vos_lightning.models.ris.network import RIS
from vos_lightning.models.training import Optimisation


class RISModel(Model):
    """See `interface.Model`."""

    fields = RISFields
    examples = InstanceImages
    training = InstanceTraining
    prediction = InstancePrediction
    tags = ("fcn", "recurrence")

    def given(self, fields: RISFields, prediction: InstancePrediction) -> Given:
        """Nothing."""
        return Given.NOTHING

    def network(self, fields: RISFields) -> RIS:
        """See `interface.Model`."""
        return RIS(fields)

    def module(self, network: RIS, training: InstanceTraining, optimisation: Optimisation) -> MatchedTraining:
        """See `interface.Model`."""
        return MatchedTraining(network, training, optimisation)

    def evaluation(
        self, network: RIS, experiment: Experiment, device: torch.device | str
    ) -> InstanceEvaluation:
        """See `interface.Model`."""
        prediction, size = experiment.prediction, experiment.examples.size
        ready = for_inference(network, prediction.precision).to(device)
        return InstanceEvaluation(Detector(ready, prediction, size, device))


MODEL = RISModel()
