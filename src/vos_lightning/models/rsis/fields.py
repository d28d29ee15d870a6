"""The fields of RSIS: of the network, its training and its predictions."""

from dataclasses import dataclass
from typing import Annotated

from vos_lightning.errors import InputError
from vos_lightning.evaluation.propagation import Prediction
from vos_lightning.fields import ASIDE, NAME, TRUTH, WEIGHTS, WORD, Where, real, whole
from vos_lightning.layers.backbones import weights_in_words
from vos_lightning.models.interface import NetworkFields
from vos_lightning.models.training import FROM_SCRATCH, LossStage, Training

ONLY_BOXES = Where("model.box_head", True)
EPOCH = whole(0, 100_000, also=-1)


@dataclass(frozen=True, kw_only=True)
class RSISFields(NetworkFields):
    """What `network.RSIS` is made of.

    slots: So many objects of an image are learnt from, the largest ones.
    steps: So many objects are looked for in an image.
    classes: So many categories there are; 1 takes all categories for one.
    backbone, weights: `Backbone` explains them.
    hidden: So many channels the coarsest level has; each finer one has half as many as the one before.
    recurrence: If false, no state passes from object to object, so that all steps find the same.
    box_head: If true, a box is predicted for each object too, which the released code does not do.

    Raises InputError for more steps than slots.
    """

    name: Annotated[str, NAME, ASIDE] = "rsis"
    architecture: Annotated[str, NAME] = "rsis"
    slots: Annotated[int, whole(1, 254)] = 20
    steps: Annotated[int, whole(1, 254)] = 10
    classes: Annotated[int, whole(1, 10_000)] = 20
    backbone: Annotated[str, WORD] = "resnet101"
    weights: Annotated[str, WORD, WEIGHTS, *FROM_SCRATCH] = "imagenet"
    hidden: Annotated[int, whole(16, 4096, step=16)] = 128
    recurrence: Annotated[bool, TRUTH] = True
    box_head: Annotated[bool, TRUTH] = False

    @property
    def summary(self) -> str:
        """The network in a few words, for the notes below a table."""
        return f"{self.name} ({self.backbone} from {weights_in_words(self.weights)})"

    def __post_init__(self) -> None:
        if self.steps > self.slots:
            raise InputError(f"model.steps={self.steps}: must be at most model.slots={self.slots}.")


@dataclass(frozen=True, kw_only=True)
class RSISTraining(Training):
    """How RSIS is trained on images; `course.Course` says when terms of the loss enter.

    class_weight, stop_weight, box_weight: of the terms beside the masks' soft IoU. stop_balance: the share
    of positions without an object in the stop term. finetune_after, box_loss_after, class_loss_after,
    stop_loss_after: the epoch from which the backbone learns or a term counts, if it has not entered on a
    plateau before; -1 leaves it out. curriculum: whether training begins with two objects of each image and
    takes one more on each plateau. min_steps: the stop term waits until more objects than these are taken.
    patience: a plateau is more epochs than these without a lower validation loss. end_patience: training
    ends after more epochs than these without one; 0: never.
    """

    stages: tuple[LossStage, ...]
    class_weight: Annotated[float, real(0)] = 0.1
    stop_weight: Annotated[float, real(0)] = 0.5
    box_weight: Annotated[float, real(0), ONLY_BOXES] = 1.0
    stop_balance: Annotated[float, real(0, 1)] = 0.5
    finetune_after: Annotated[int, EPOCH] = 0
    box_loss_after: Annotated[int, EPOCH, ONLY_BOXES] = 0
    class_loss_after: Annotated[int, EPOCH] = 20
    stop_loss_after: Annotated[int, EPOCH] = 3000
    curriculum: Annotated[bool, TRUTH] = False
    min_steps: Annotated[int, whole(1), Where("curriculum", True)] = 1
    patience: Annotated[int, whole(0)] = 15
    end_patience: Annotated[int, whole(0)] = 60


@dataclass(frozen=True, kw_only=True)
class RSISPrediction(Prediction):
    """How RSIS finds the objects of an image.

    stop: an object whose stop score is below is none. ends_at_stop: whether the search ends there; or goes on
    through all steps, as in the released code. mask: a pixel is part of an object where its mask is above.
    min_size: a mask that covers a smaller share of the image is left out.
    """

    stop: Annotated[float, real(0, 1)] = 0.5
    ends_at_stop: Annotated[bool, TRUTH] = True
    mask: Annotated[float, real(0, 1)] = 0.5
    min_size: Annotated[float, real(0, 1)] = 0.001
