"""The spatio-temporal RNN as a model of the catalogue."""

from functools import partial
from typing import Any

import torch

from vos_lightning.data.videos import Given
from vos_lightning.errors import InputError
from vos_lightning.evaluation.corrected import between
from vos_lightning.evaluation.rounds import RoundsEvaluation
from vos_lightning.evaluation.videos import VideoEvaluation
from vos_lightning.layers.inference import for_inference
from vos_lightning.models.interface import Evaluation, Experiment, Model
from vos_lightning.models.strnn.fields import MetricTraining, ScribblePrediction, STRNNFields
from vos_lightning.models.strnn.module import FeatureTraining
from vos_lightning.models.strnn.network import STRNN
from vos_lightning.models.strnn.online import ScribbleSession
from vos_lightning.models.training import Optimisation


class STRNNModel(Model):
    """See `interface.Model`."""

    fields = STRNNFields
    training = MetricTraining
    prediction = ScribblePrediction
    tags = ("recurrence",)

    def given(self, fields: STRNNFields, prediction: ScribblePrediction) -> Given:
        """A user's scribbles."""
        return Given.SCRIBBLES

    def network(self, fields: STRNNFields) -> STRNN:
        """See `interface.Model`."""
        return STRNN(fields)

    def module(self, network: STRNN, training: MetricTraining, optimisation: Optimisation) -> FeatureTraining:
        """See `interface.Model`."""
        return FeatureTraining(network, training, optimisation)

    def evaluation(
        self, network: STRNN, experiment: Experiment, device: torch.device | str
    ) -> RoundsEvaluation:
        """See `interface.Model`."""
        prediction, size = experiment.prediction, experiment.examples.size
        ready = for_inference(network, prediction.precision).to(device).requires_grad_(False)
        begin = partial(ScribbleSession, ready, prediction, size, experiment.fields.slots, device)
        return RoundsEvaluation(begin, Given.SCRIBBLES)

    def partnered(self, evaluation: RoundsEvaluation, partner: Evaluation) -> RoundsEvaluation:
        """See `interface.Model`; the partner takes masks along a video."""
        if not isinstance(partner, VideoEvaluation) or partner.given is not Given.MASKS:
            raise InputError("predict.refine: needs a run whose network takes the masks of a frame.")
        begin: Any = evaluation.session
        refine = partial(between, partner.propagation)
        return RoundsEvaluation(partial(begin, refine=refine), evaluation.given)


MODEL = STRNNModel()
