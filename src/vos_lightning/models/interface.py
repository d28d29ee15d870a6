"""What a model offers to whatever trains, scores and shows it; CONTRIBUTING.md says how to add one.

A model is a folder of models/ with one instance of `Model`, which catalogue.py lists, or one that an
installed package offers as an entry point of the group `vos_lightning.models`. Nothing outside that folder
asks which model it has.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol

import torch
from torch import Tensor, nn

from vos_lightning.data.examples import Examples, Windows
from vos_lightning.data.images import Shown
from vos_lightning.data.sets import DataSet
from vos_lightning.data.videos import Given
from vos_lightning.evaluation.corrected import given_in
from vos_lightning.evaluation.propagation import Prediction, VideoPrediction
from vos_lightning.evaluation.videos import Timing
from vos_lightning.fields import ASIDE, NAME, whole
from vos_lightning.models.training import Optimisation, Training, TrainingModule
from vos_lightning.scoring.rules import Rules, rules_of


@dataclass(frozen=True, kw_only=True)
class NetworkFields:
    """What every model's node `model` holds; a model's own subclass adds the fields of its network.

    name: shown in tables and names of runs. architecture: the model's name in the catalogue. slots: objects
    that a clip may hold.
    """

    name: Annotated[str, NAME, ASIDE]
    architecture: Annotated[str, NAME]
    slots: Annotated[int, whole(1, 254)] = 10  # ids of a mask; 255 is void

    @property
    def summary(self) -> str:
        """The network in a few words, for the notes below a table."""
        return self.name


class Evaluation(Protocol):
    """A trained network that is ready to be used.

    `evaluation.videos.VideoEvaluation` is one along videos, `evaluation.rounds.RoundsEvaluation` one in
    rounds with a user, `evaluation.instances.InstanceEvaluation` one on images.
    """

    @property
    def timings(self) -> list[Timing]:
        """What each video or image cost so far."""

    def check(self, samples: Any) -> None:
        """Raises InputError for samples that cannot be scored, beyond what `Examples.check` refuses."""

    def score(self, samples: Any, rules: Rules, folder: Path) -> dict[str, Any]:
        """Predicts videos or images into a folder and scores them; returns what `rules` says of all."""

    def submit(self, samples: Any, archive: Path) -> Path:
        """Predicts videos or images and writes the zip that their server takes."""

    def write(self, sample: Any, folder: Path) -> Iterator[Any]:
        """Predicts one video or image into a folder, step by step as it is iterated."""

    def shown(self, sample: Any, folder: Path) -> Sequence[Shown]:
        """Pictures of what `write` has left in a folder, for a dashboard."""


class Model(ABC):
    """A model, the parts of a configuration that it reads, and what it makes of them.

    fields: what its network is made of, the node `model`. examples: how its training draws from a data set,
    part of the node `data`. training, prediction: the nodes `train` and `predict`. tags: fields of the
    network by which dashboards sort runs.
    """

    fields: type[NetworkFields]
    examples: type[Examples] = Windows
    training: type[Training] = Training
    prediction: type[Prediction] = VideoPrediction
    tags: tuple[str, ...] = ()

    def given(self, fields: Any, prediction: Any) -> Given:
        """What the network is told of a video or image, which decides how it is scored.

        Raises InputError as `given_in`.
        """
        return given_in(prediction, Given.MASKS)

    def classifies(self, fields: Any) -> bool:
        """Whether the network finds categories; if not, instances are scored without."""
        return False

    @abstractmethod
    def network(self, fields: Any) -> nn.Module:
        """The network; fields marked `WEIGHTS` are `none` where others will replace all its weights."""

    @abstractmethod
    def module(self, network: Any, training: Any, optimisation: Optimisation) -> TrainingModule:
        """What trains the network. Raises InputError for fields that do not go together."""

    @abstractmethod
    def evaluation(self, network: Any, experiment: "Experiment", device: torch.device | str) -> Evaluation:
        """The trained network made ready on a device; `network` stays as it is."""

    def partnered(self, evaluation: Any, partner: Evaluation) -> Evaluation:
        """An evaluation with the help of another run's, where `Prediction.partner` names one.

        Raises InputError for a run whose network cannot help.
        """
        raise TypeError(f"{type(self).__name__}: predictions with a partner need partnered()")

    def released(self, folder: Path) -> Mapping[str, Tensor] | None:
        """The authors' released weights in a folder, by the names of this network; None if it holds none."""
        return None


@dataclass(frozen=True)
class Experiment:
    """All that decides what a run finds. The parts have the types that the model names."""

    model: Model
    seed: int
    fields: NetworkFields
    data_set: DataSet
    examples: Examples
    training: Training
    optimisation: Optimisation
    prediction: Any

    @property
    def given(self) -> Given:
        """What the network is told of a video or image."""
        return self.model.given(self.fields, self.prediction)

    @property
    def rules(self) -> Rules:
        """How what it finds is scored. Raises InputError as `rules_of`."""
        return rules_of(self.data_set, self.given, self.model.classifies(self.fields))
