"""The fields of the spatio-temporal RNN: of the network, its training and its sessions with a user."""

from dataclasses import dataclass
from typing import Annotated

from vos_lightning.evaluation.propagation import Prediction
from vos_lightning.fields import (
    ASIDE,
    NAME,
    TRUTH,
    WEIGHTS,
    WORD,
    Where,
    choice,
    list_of,
    or_null,
    real,
    whole,
)
from vos_lightning.layers.backbones import weights_in_words
from vos_lightning.models.interface import NetworkFields
from vos_lightning.models.training import FROM_SCRATCH, LossStage, Training

ENSEMBLE = Where("ensemble", True)
RECURRENT = Where("recurrence", "spatio_temporal", "spatial")


@dataclass(frozen=True, kw_only=True)
class STRNNFields(NetworkFields):
    """What `network.STRNN` is made of.

    backbone, weights: of the features, see `network.Features`.
    ensemble: If true, there is a second network, whose scores are averaged with those of the first.
    second, second_weights: its backbone and weights.
    level: The features have the scale of this stage, where the backbone is no DeepLab.
    hidden, predecessors, activation: `SpatioTemporalRNN` explains them.
    channels: So many the layer gives for a pixel to be classified by.
    recurrence: It is `spatio_temporal`, `spatial` (no state passes between frames), or `none`, where a 1x1
        convolution stands for the layer.
    bn: `replace_batch_norms` says by which statistics training normalises.
    """

    name: Annotated[str, NAME, ASIDE] = "strnn"
    architecture: Annotated[str, NAME] = "strnn"
    backbone: Annotated[str, WORD] = "deeplabv3_resnet101"
    weights: Annotated[str, WORD, WEIGHTS, *FROM_SCRATCH] = "coco"
    ensemble: Annotated[bool, TRUTH] = False
    second: Annotated[str, WORD, ENSEMBLE] = "deeplabv3_mobilenet_v3_large"
    second_weights: Annotated[str, WORD, WEIGHTS, ENSEMBLE, *FROM_SCRATCH] = "coco"
    level: Annotated[str, choice("res2", "res3", "res4", "res5")] = "res3"
    hidden: Annotated[int, whole(1, 4096)] = 256
    channels: Annotated[int, whole(1, 4096)] = 256
    recurrence: Annotated[str, choice("spatio_temporal", "spatial", "none")] = "spatio_temporal"
    predecessors: Annotated[int, whole(2, 3), RECURRENT] = 3
    activation: Annotated[str, choice("tanh", "relu"), RECURRENT] = "tanh"
    bn: Annotated[str, choice("clip", "frozen")] = "frozen"

    @property
    def summary(self) -> str:
        """The network in a few words, for the notes below a table."""
        backbones = [f"{self.backbone} from {weights_in_words(self.weights)}"]
        if self.ensemble:
            backbones.append(f"{self.second} from {weights_in_words(self.second_weights)}")
        return f"{self.name} ({' and '.join(backbones)})"


@dataclass(frozen=True, kw_only=True)
class PartStage(LossStage):
    """A stage, of which `part` says what learns (section 2.4.1).

    It is `spatial`, backbone and layer without its temporal connections; or `spatio_temporal`, the layer with
    them, on a backbone that stays as it is.
    """

    part: Annotated[str, choice("spatial", "spatio_temporal")] = "spatial"


@dataclass(frozen=True, kw_only=True)
class MetricTraining(Training):
    """How features are learnt, see `module.pull_and_push`.

    anchor_frames: frames of a clip whose objects are anchors; the others make the pools. anchors, pool:
    pixels of an object, and of each of its pools, that count at most, drawn at random. alpha: see
    `pull_and_push`.
    """

    stages: tuple[PartStage, ...]
    anchor_frames: Annotated[int, whole(1, 100)] = 1
    anchors: Annotated[int, whole(1, 100_000)] = 256
    pool: Annotated[int, whole(1, 100_000)] = 1024
    alpha: Annotated[float, real(1e-12, 1e6)] = 1e-6


@dataclass(frozen=True, kw_only=True)
class ScribblePrediction(Prediction):
    """How masks follow from scribbles (section 2.3).

    penalty: lambda of equation 3. margin: by how much the boxes of scribbles are expanded, outside of which
    background is drawn. refine: overrides of another run, such as [model=NAME]; after the last interaction
    its network takes the masks of the frames with scribbles along the video. None leaves that out.
    """

    penalty: Annotated[float, real(0)] = 1.0
    margin: Annotated[float, real(1, 100)] = 1.2
    refine: Annotated[tuple[str, ...] | None, or_null(list_of(WORD)), ASIDE] = None

    @property
    def partner(self) -> tuple[str, ...] | None:
        """See `Prediction.partner`."""
        return self.refine
