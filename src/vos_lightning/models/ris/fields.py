"""The fields of RIS: of the network, its training and its predictions."""

from dataclasses import dataclass, field
from typing import Annotated

from vos_lightning.errors import InputError
from vos_lightning.evaluation.propagation import Prediction
from vos_lightning.fields import (
    ASIDE,
    NAME,
    SIZE,
    TRUTH,
    WEIGHTS,
    WORD,
    Where,
    choice,
    or_null,
    real,
    whole,
)
from vos_lightning.layers.backbones import weights_in_words
from vos_lightning.models.interface import NetworkFields
from vos_lightning.models.training import FROM_SCRATCH, LossStage, Training

ONLY_FCN8S = Where("fcn", "fcn8s")


@dataclass(frozen=True, kw_only=True)
class RISFields(NetworkFields):
    """What `network.RIS` is made of.

    fcn: It is `small`, four 3x3 convolutions (the paper's plants), or `fcn8s`, which fuses scores of a
        backbone's stages (the paper's people).
    backbone, weights, fc6: `Backbone` explains them.
    finest: The scores of this stage and of all coarser ones are fused, and the recurrence has its scale.
    bn: `replace_batch_norms` says by which statistics training normalises; `clip` means those of a batch.
    hidden: So many channels the features and each layer's states have.
    layers: So many ConvLSTM layers stand on one another.
    recurrence: If false, every step starts from zero states, so that all steps find the same.
    feeds_mask: If true, each step also reads the mask of the step before, detached, as a further channel of
        the features; without recurrence that mask is empty.
    confidence: A step's confidence reads the hidden state max-pooled to 2x2 (`pooled`) or all of its
        `cells`.
    first_threshold: What the learned threshold of the masks starts from.
    size: With `cells` the network takes input of this (H, W) alone.

    Raises InputError for fields that do not go together.
    """

    name: Annotated[str, NAME, ASIDE] = "ris"
    architecture: Annotated[str, NAME] = "ris"
    fcn: Annotated[str, choice("small", "fcn8s")] = "fcn8s"
    backbone: Annotated[str, WORD, ONLY_FCN8S] = "vgg16"
    weights: Annotated[str, WORD, WEIGHTS, ONLY_FCN8S, *FROM_SCRATCH] = "imagenet"
    fc6: Annotated[bool, TRUTH, ONLY_FCN8S] = True
    finest: Annotated[str, choice("res2", "res3", "res4", "res5"), ONLY_FCN8S] = "res3"
    bn: Annotated[str, choice("clip", "frozen"), ONLY_FCN8S] = "clip"
    hidden: Annotated[int, whole(1, 4096)] = 100
    layers: Annotated[int, whole(1, 16)] = 2
    recurrence: Annotated[bool, TRUTH] = True
    feeds_mask: Annotated[bool, TRUTH] = False
    confidence: Annotated[str, choice("pooled", "cells")] = "pooled"
    first_threshold: Annotated[float, real(0, 100)] = 1.0
    size: Annotated[tuple[int, int] | None, or_null(SIZE), Where("confidence", "cells")] = None

    @property
    def summary(self) -> str:
        """The network in a few words, for the notes below a table."""
        backbone = f"{self.backbone} from {weights_in_words(self.weights)}"
        return f"{self.name} ({backbone if self.fcn == 'fcn8s' else 'four convolutions'})"

    def __post_init__(self) -> None:
        if self.confidence == "cells" and self.size is None:
            raise InputError("model.confidence=cells: needs model.size, the network's input.")


@dataclass(frozen=True, kw_only=True)
class Curriculum:
    """How many steps training takes at most on an image.

    start: at first; 0 takes as many as each image needs from the start. growth: so many more it takes each
    time it grows. patience: it grows once the epoch's mean training loss has not fallen by 1 % for so many
    epochs; 0: after each epoch.
    """

    start: Annotated[int, whole(0)] = 2
    growth: Annotated[int, whole(1)] = 1
    patience: Annotated[int, whole(0, 10_000)] = 2


@dataclass(frozen=True, kw_only=True)
class InstanceTraining(Training):
    """How RIS is trained on images.

    extra_steps: so many steps it takes beyond an image's number of objects, in which it learns to stop.
    confidence_weight: lambda of eq. 5, the weight of the confidences. curriculum: see `Curriculum`; a stage's
    patience counts epochs between two of its growths.
    """

    stages: tuple[LossStage, ...]
    extra_steps: Annotated[int, whole(0)] = 2
    confidence_weight: Annotated[float, real(0)] = 1.0
    curriculum: Curriculum = field(default_factory=Curriculum)


@dataclass(frozen=True, kw_only=True)
class InstancePrediction(Prediction):
    """How RIS finds the objects of an image.

    stop: it ends at the first step whose confidence is below. steps: so many it takes at most. threshold: a
    pixel is part of a mask where it is above. overlaps: a pixel is part of the `first` mask alone that holds
    it, as in the released code, which paints the last mask first; or masks are `kept` as they are.
    """

    stop: Annotated[float, real(0, 1)] = 0.5
    steps: Annotated[int, whole(1, 1000)] = 30
    threshold: Annotated[float, real(0, 1)] = 0.9
    overlaps: Annotated[str, choice("first", "kept")] = "first"
