"""Training of S2S on clips of one object (Xu et al. 2018, section 4.2).

Shapes: B batch, T frames of a clip, H W pixels of the network's input.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from vos_lightning.data.clips import Clip
from vos_lightning.models.s2s.network import S2S
from vos_lightning.models.training import TrainingModule
from vos_lightning.scoring.measures import boundary_f, jaccard


class StateTraining(TrainingModule):
    """Trains S2S by binary cross-entropy, summed over the annotated frames after the first.

    Args:
        network: what is trained.
        training: see `ObjectTraining`.
        optimisation: see `Optimisation`.
    """

    model: S2S

    def clip_loss(self, clip: Clip) -> tuple[Tensor, Tensor]:
        """Unrolls the model over a batch of clips; each frame's cost is the mean over its pixels.

        Returns:
            The costs' sum over a clip's frames, and the logits (B, T - 1, H, W) after the first frame.
        """
        truth = clip.labels.unsqueeze(2).float()
        logits = unroll(self.model, clip.frames, truth[:, 0]).transpose(0, 1).squeeze(2)
        costs = F.binary_cross_entropy_with_logits(logits, truth[:, 1:, 0], reduction="none").mean((2, 3))
        weights = clip.weights[:, 1:, 0]
        return (costs * weights).sum() / len(costs), logits

    def training_step(self, clip: Clip, _: int) -> Tensor:
        """One step; logs train/loss, the mean cost of an annotated frame."""
        loss, _logits = self.clip_loss(clip)
        frames = clip.weights[:, 1:].sum()
        self.log_loss(loss * len(clip.labels) / frames.clamp(min=1))
        return loss

    def validation_step(self, clip: Clip, _: int) -> None:
        """Logs val/loss, and val/J, val/F and val/JF of the annotated frames after the first."""
        loss, logits = self.clip_loss(clip)
        # Three waits for the device, where picking the annotated frames there would be two more.
        annotated = clip.weights[:, 1:, 0].cpu() > 0
        self.log_mean("val/loss", loss * len(clip.labels) / annotated.sum().clamp(min=1), len(clip.labels))
        truth, masks = clip.labels[:, 1:].cpu()[annotated] > 0, (logits > 0).cpu()[annotated]
        pairs = list(zip(truth.numpy(), masks.numpy(), strict=True))
        if pairs:
            j, f = (sum(measure(*p) for p in pairs) / len(pairs) for measure in (jaccard, boundary_f))
            for name, value in (("J", j), ("F", f), ("JF", (j + f) / 2)):
                self.log_mean(f"val/{name}", value, len(pairs))


def unroll(model: S2S, frames: Tensor, masks: Tensor) -> Tensor:
    """Logits (T - 1, B, O, H, W) of frames (B, T, 3, H, W) but the first, whose masks (B, O, H, W) are given.

    An encoder that reads masks gets the network's own, soft and detached.
    """
    size, state, previous = frames.shape[-2:], model.start(frames[:, 0], masks), masks
    hidden, outputs = [], []
    for read in _later_frames(model, frames):
        state = model.advance(read, state, previous)
        hidden.append(state[1])
        if model.reads_previous:
            outputs.append(model.decode(state[1], size))
            previous = torch.sigmoid(outputs[-1].detach().float())
    if outputs:
        return torch.stack(outputs).float()
    return model.decode(torch.stack(hidden), size).float()  # one batch of all frames


def _later_frames(model: S2S, frames: Tensor) -> list[Tensor]:
    """What the ConvLSTM reads of each frame but the first, which a video representation takes in too."""
    if model.video is not None:
        return model.read(model.encode(frames))[1:]
    return model.read(model.encode(frames[:, 1:]))
