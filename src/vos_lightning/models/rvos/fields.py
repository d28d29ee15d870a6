"""The fields of RVOS and STESA-GRU: of the network, its training and its predictions."""

from dataclasses import dataclass
from typing import Annotated

from vos_lightning.errors import InputError
from vos_lightning.evaluation.propagation import VideoPrediction
from vos_lightning.fields import ASIDE, NAME, TRUTH, WEIGHTS, WORD, Where, choice, real, whole
from vos_lightning.layers.backbones import weights_in_words
from vos_lightning.models.interface import NetworkFields
from vos_lightning.models.training import FROM_SCRATCH, Stage, Training

ONLY_GRU = Where("cell", "gru")
ONLY_NONLOCAL = Where("nonlocal_position", "res3", "res4", "res5")
ONLY_ONE_SHOT = Where("mask_input", True)
ONE_SHOT, ZERO_SHOT = Where("model.mask_input", True), Where("model.mask_input", False)


@dataclass(frozen=True, kw_only=True)
class RVOSFields(NetworkFields):
    """What `network.RVOS` is made of.

    backbone: `Backbone` lists the names.
    weights: `Backbone` says where they come from.
    hidden: So many channels the coarsest level has; the finer ones have a half, a quarter and an eighth.
    cell: It is `lstm` (RVOS) or `gru` (STESA-GRU).
    reset_gates, gru_form: `ConvGRU` explains them; they mean nothing to `lstm`.
    recurrence: It is `spatio_temporal`, `spatial` (no state passes between frames), `temporal` (no state
        passes between objects, from the second frame on) or `none`.
    mask_input: If true, the decoder is one-shot and reads the previous masks; if false, it is zero-shot.
    feeds_unstarted: If true, a slot reads its own output as previous mask before its object starts too,
        as in the released code; if false, it reads an empty mask until then.
    nonlocal_position: The skip of this stage, `res3`, `res4` or `res5`, has a non-local block; `none`
        leaves it out.
    affinity: `NonLocalBlock` explains it.
    feeds_next_stage: If true, the block's output feeds the next stage too, and not its skip alone.
    auxiliary: If true, a 1x1 head predicts masks at the block's scale (STESA-GRU, section 4.2).
    bn: `replace_batch_norms` says by which statistics training normalises.

    Raises InputError for fields that do not go together.
    """

    name: Annotated[str, NAME, ASIDE] = "rvos"
    architecture: Annotated[str, NAME] = "rvos"
    slots: Annotated[int, whole(1, 254), Where("mask_input", False)] = 10
    backbone: Annotated[str, WORD] = "resnet101"
    weights: Annotated[str, WORD, WEIGHTS, *FROM_SCRATCH] = "imagenet"
    hidden: Annotated[int, whole(8, 4096, step=8)] = 128
    cell: Annotated[str, choice("lstm", "gru")] = "lstm"
    reset_gates: Annotated[int, whole(1, 2), ONLY_GRU] = 1
    gru_form: Annotated[str, choice("released", "printed"), ONLY_GRU] = "released"
    recurrence: Annotated[str, choice("spatio_temporal", "spatial", "temporal", "none")] = "spatio_temporal"
    mask_input: Annotated[bool, TRUTH] = True
    feeds_unstarted: Annotated[bool, TRUTH, ONLY_ONE_SHOT] = True
    nonlocal_position: Annotated[str, choice("none", "res3", "res4", "res5")] = "none"
    affinity: Annotated[str, choice("embedded_gaussian", "gaussian", "dot"), ONLY_NONLOCAL] = (
        "embedded_gaussian"
    )
    feeds_next_stage: Annotated[bool, TRUTH, ONLY_NONLOCAL] = False
    auxiliary: Annotated[bool, TRUTH] = False
    bn: Annotated[str, choice("clip", "frame", "frozen")] = "frame"

    @property
    def summary(self) -> str:
        """The network in a few words, for the notes below a table."""
        return f"{self.name} ({self.backbone} from {weights_in_words(self.weights)})"

    def __post_init__(self) -> None:
        if self.auxiliary and self.nonlocal_position == "none":
            raise InputError("model.auxiliary=true: needs a non-local block; set model.nonlocal_position.")


@dataclass(frozen=True, kw_only=True)
class MaskStage(Stage):
    """previous_mask: `ground_truth`, the true mask of the frame before, or `inferred`, the network's own,
    soft and detached."""

    previous_mask: Annotated[str, choice("ground_truth", "inferred")] = "inferred"


@dataclass(frozen=True, kw_only=True)
class ClipTraining(Training):
    """How RVOS is trained, over clips.

    auxiliary_weight: the weight of the auxiliary cost (STESA-GRU, eq. 10), if the model has the head.
    unroll: through how many frames gradients flow; 0 takes the whole clip. match_valid_only: see
    `match_slots`; for zero-shot models. compile: whether torch.compile compiles the encoder.
    """

    stages: tuple[MaskStage, ...]
    auxiliary_weight: Annotated[float, real(0), Where("model.auxiliary", True)] = 1.0
    unroll: Annotated[int, whole(0)] = 0
    match_valid_only: Annotated[bool, TRUTH, ZERO_SHOT] = False
    compile: Annotated[bool, TRUTH] = False


@dataclass(frozen=True, kw_only=True)
class MaskPrediction(VideoPrediction):
    """How RVOS makes masks along a video.

    given_frames: how many frames from the start read the given mask as previous mask. The released code takes
        2, its training 1.
    start_at_given: whether the network starts at the first frame with a given mask, as its released code, and
        leaves out those before; or at frame 0, with empty masks.
    paste_given: whether the masks keep a given mask where an object starts, as its released code; or show
        what the network makes of it. In frame 0 they keep it always.
    match_given: whether the slots of a zero-shot model are named by the objects of the given masks that they
        fit best, as its released code; or are proposals, which read nothing that is given.
    """

    given_frames: Annotated[int, whole(1), ONE_SHOT] = 2
    start_at_given: Annotated[bool, TRUTH, ONE_SHOT] = True
    paste_given: Annotated[bool, TRUTH] = True
    match_given: Annotated[bool, TRUTH, ZERO_SHOT] = True
