"""RVOS and STESA-GRU as a model of the catalogue."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from vos_lightning.data.examples import WeighedWindows
from vos_lightning.data.videos import Given
from vos_lightning.evaluation.corrected import evaluation_along, given_in
from vos_lightning.layers.inference import for_inference
from vos_lightning.models.interface import Evaluation, Experiment, Model
from vos_lightning.models.rvos.fields import ClipTraining, MaskPrediction, RVOSFields
from vos_lightning.models.rvos.module import MaskTraining
from vos_lightning.models.rvos.network import RVOS
from vos_lightning.models.rvos.propagate import MaskPropagation, given_to
from vos_lightning.models.rvos.released import released_weights
from vos_lightning.models.training import Optimisation


class RVOSModel(Model):
    """See `interface.Model`."""

    fields = RVOSFields
    examples = WeighedWindows
    training = ClipTraining
    prediction = MaskPrediction
    tags = ("cell", "nonlocal_position")

    def given(self, fields: RVOSFields, prediction: MaskPrediction) -> Given:
        """See `given_to` and `given_in`."""
        return given_in(prediction, given_to(fields.mask_input, prediction))

    def network(self, fields: RVOSFields) -> RVOS:
        """See `interface.Model`."""
        return RVOS(fields)

    def module(self, network: RVOS, training: ClipTraining, optimisation: Optimisation) -> MaskTraining:
        """See `interface.Model`."""
        return MaskTraining(network, training, optimisation)

    def evaluation(self, network: RVOS, experiment: Experiment, device: torch.device | str) -> Evaluation:
        """See `interface.Model`."""
        prediction, size = experiment.prediction, experiment.examples.size
        ready = for_inference(network, prediction.precision).to(device)
        return evaluation_along(MaskPropagation(ready, prediction, size, experiment.fields.slots, device))

    def released(self, folder: Path) -> Mapping[str, Tensor] | None:
        """The files of imatge-upc/rvos."""
        return released_weights(folder)


MODEL = RVOSModel()
