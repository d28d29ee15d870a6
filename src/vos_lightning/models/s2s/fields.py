"""The fields of S2S and its variant with a video representation: of network, training and predictions."""

from dataclasses import dataclass, field
from typing import Annotated

from vos_lightning import fields as kinds
from vos_lightning.errors import InputError
from vos_lightning.evaluation.propagation import VideoPrediction
from vos_lightning.fields import ASIDE, SCORING, TRUTH, WEIGHTS, WORD, Where, choice, real, whole
from vos_lightning.layers.backbones import weights_in_words
from vos_lightning.models.interface import NetworkFields
from vos_lightning.models.training import FROM_SCRATCH, Stage, Training

ONLY_BILINEAR = Where("upsampling", "bilinear")
ONLY_VIDEO = Where("video", "clip")
ONLY_DEEPLAB = Where("deeplab", True)


@dataclass(frozen=True, kw_only=True)
class S2SFields(NetworkFields):
    """What `network.S2S` is made of.

    backbone: `Backbone` lists the names; initialiser and encoder have one each.
    weights: `Backbone` says where they come from.
    level: The states have the scale of this stage; each level is one layer of the decoder.
    fc6: `Backbone` explains it.
    hidden: The states have C channels, the decoder's layers C, C/2, C/4, C/8, C/8, as many as it takes.
    initializer: If false, the hidden state starts as the mask itself and the cell state as zero.
    encoder: A `frame` encoder reads the frame alone. A `previous_mask` one also reads the object's mask
        of the frame before, and a `merged` one does so with the initialiser's own backbone.
    mask_entry: Masks enter a backbone by a fourth `channel` of its first convolution, or by a `unit`,
        the entry of `Trunk`.
    activation, peepholes: `SequenceConvLSTM` explains them.
    size: Peepholes of each cell need the input's (H, W); the network then takes no other.
    upsampling, units, last_unit: `Decoder` explains them.
    norm: If true, a BatchNorm follows every convolution of heads, entry, decoder and what joins the
        representation.
    video: With `clip`, features are joined with the representation of all frames that `read` is given;
        with `none` they are not.
    window: When a video is segmented, a representation is of so many frames; 0 means the whole video.
    bn: `replace_batch_norms` says by which statistics training normalises.
    deeplab: If true, the encoder's backbone is a `DeepLab` (setting 3).
    deeplab_network, deeplab_weights: `DeepLab` explains them.

    Raises InputError for fields that do not go together.
    """

    name: Annotated[str, kinds.NAME, ASIDE] = "s2s"
    architecture: Annotated[str, kinds.NAME] = "s2s"
    backbone: Annotated[str, WORD] = "vgg16"
    weights: Annotated[str, WORD, WEIGHTS, *FROM_SCRATCH] = "imagenet"
    level: Annotated[str, choice("res2", "res3", "res4", "res5")] = "res5"
    fc6: Annotated[bool, TRUTH] = True
    hidden: Annotated[int, whole(8, 4096, step=8)] = 512
    initializer: Annotated[bool, TRUTH] = True
    encoder: Annotated[str, choice("frame", "previous_mask", "merged")] = "frame"
    mask_entry: Annotated[str, choice("channel", "unit")] = "channel"
    activation: Annotated[str, choice("relu", "tanh")] = "relu"
    peepholes: Annotated[str, choice("none", "channel", "cell")] = "none"
    size: Annotated[tuple[int, int] | None, kinds.or_null(kinds.SIZE), Where("peepholes", "cell")] = None
    upsampling: Annotated[str, choice("bilinear", "transposed")] = "bilinear"
    units: Annotated[int, whole(1, 16), ONLY_BILINEAR] = 1
    last_unit: Annotated[bool, TRUTH] = False
    norm: Annotated[bool, TRUTH] = False
    video: Annotated[str, choice("none", "clip")] = "none"
    window: Annotated[int, whole(0), ONLY_VIDEO, SCORING] = 0
    bn: Annotated[str, choice("clip", "frame", "frozen")] = "clip"
    deeplab: Annotated[bool, TRUTH] = False
    deeplab_network: Annotated[str, WORD, ONLY_DEEPLAB] = "deeplabv3_resnet101"
    deeplab_weights: Annotated[str, WORD, WEIGHTS, ONLY_DEEPLAB, *FROM_SCRATCH] = "coco"

    @property
    def summary(self) -> str:
        """The network in a few words, for the notes below a table."""
        return f"{self.name} ({self.backbone} from {weights_in_words(self.weights)})"

    def __post_init__(self) -> None:
        if self.video != "none" and self.encoder != "frame":
            raise InputError(f"model.video={self.video}: needs model.encoder=frame.")
        if self.encoder == "merged" and not self.initializer:
            raise InputError("model.encoder=merged: needs model.initializer=true.")
        if self.deeplab and self.encoder != "frame":
            raise InputError("model.deeplab=true: needs model.encoder=frame.")
        if self.peepholes == "cell" and self.size is None:
            raise InputError("model.peepholes=cell: needs model.size, the network's input.")


@dataclass(frozen=True, kw_only=True)
class ObjectStage(Stage):
    """A stage of S2S; `frames` says over which frames its clips run: `annotated`, or `all`, where those
    without annotation have no loss."""

    frames: Annotated[str, choice("annotated", "all")] = "annotated"

    @property
    def every_frame(self) -> bool:
        """Whether its clips run over frames without annotation too."""
        return self.frames == "all"


@dataclass(frozen=True, kw_only=True)
class ObjectTraining(Training):
    """How S2S is trained, on clips of one object."""

    stages: tuple[ObjectStage, ...]


@dataclass(frozen=True, kw_only=True)
class OnlineFields:
    """How a copy of the network learns from a video's first frame, see `online.tune`.

    enabled: whether the network learns from each first frame. steps: how many steps Adam takes. lr: its
    learning rate. pairs: how many pairs of frames with masks are made for each step.
    """

    enabled: Annotated[bool, TRUTH] = False
    steps: Annotated[int, whole(1, 100_000), Where("enabled", True)] = 200
    lr: Annotated[float, real(0), Where("enabled", True)] = 1e-5
    pairs: Annotated[int, whole(1, 1024), Where("enabled", True)] = 1


@dataclass(frozen=True, kw_only=True)
class ObjectPrediction(VideoPrediction):
    """How S2S makes masks along a video.

    Raises InputError for online learning in another precision than fp32.
    """

    online: OnlineFields = field(default_factory=OnlineFields)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.online.enabled and self.precision != "fp32":
            raise InputError(f"predict.precision={self.precision}: online learning needs fp32.")
