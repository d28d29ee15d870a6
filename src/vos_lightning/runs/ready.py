"""A run's network made ready to be used, with its partner's."""

import torch
from torch import nn

from vos_lightning.fields import without_weights
from vos_lightning.models.interface import Evaluation
from vos_lightning.runs.load import build_network
from vos_lightning.runs.run import Run, scored_checkpoint


def evaluation_of(run: Run, network: nn.Module, device: torch.device) -> Evaluation:
    """A run's network made ready, and its partner's with it, which has no weights before it is trained."""
    experiment = run.settings.experiment
    evaluation = experiment.model.evaluation(network, experiment, device)
    if run.partner is None:
        return evaluation
    other, trained = run.partner.settings.experiment, run.partner.training.outcome() is not None
    if trained:
        partner = build_network(other, scored_checkpoint(run.partner.training))
    else:
        partner = other.model.network(without_weights(other.fields))
    return experiment.model.partnered(evaluation, other.model.evaluation(partner, other, device))
