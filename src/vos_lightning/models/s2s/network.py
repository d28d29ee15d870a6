"""This network is S2S (Xu et al. 2018) or its variant with a video representation (Jain).

An initialiser turns the first frame and an object's mask into the state of a ConvLSTM, which reads one
encoded frame after the other; a decoder turns its hidden state into the object's mask. Objects do not see
each other.

Shapes: B batch, T frames, O objects, C channels of the states, H W pixels of the network's input, h w cells
of the states. Objects come before the batch in the states, so that all of them are one batch of maps.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vos_lightning.layers.backbones import LEVELS, Backbone, DeepLab
from vos_lightning.layers.norms import replace_batch_norms, run_frames
from vos_lightning.layers.recurrence import SequenceConvLSTM
from vos_lightning.models.s2s.fields import S2SFields

State = tuple[Tensor, Tensor]  # cell and hidden state, (O, B, C, h, w) each


class Unit(nn.Sequential):
    """A convolution, a BatchNorm if `norm`, and a ReLU map (N, C_in, h, w) to (N, C_out, h, w)."""

    def __init__(self, in_channels: int, out_channels: int, size: int, norm: bool = False) -> None:
        conv = nn.Conv2d(in_channels, out_channels, size, padding=size // 2)
        super().__init__(conv, *([nn.BatchNorm2d(out_channels)] if norm else []), nn.ReLU(inplace=True))


class Trunk(nn.Module):
    """1x1 heads with ReLU read the deepest features of a backbone.

    Args:
        backbone: It reads the frame and perhaps a mask as a fourth channel.
        hidden: So many channels each head has.
        heads: There are so many.
        stride: A cell is so many pixels wide and high; features of another stride are averaged or repeated.
        norm: If true, heads and entry have a BatchNorm.
        entry: If true, a 3x3 unit takes frame and mask to the backbone's three channels (Jain, section 3.2).
    """

    def __init__(
        self,
        backbone: Backbone | DeepLab,
        hidden: int,
        heads: int,
        stride: int,
        norm: bool,
        entry: bool = False,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.backbone = backbone
        self.entry = Unit(4, 3, 3, norm) if entry else nn.Identity()
        self.heads = nn.ModuleList(Unit(backbone.out_channels, hidden, 1, norm) for _ in range(heads))

    def forward(self, images: Tensor, frames: int = 1) -> list[Tensor]:
        """Gives each head's maps (N, C, h, w) of images (N, 3 or 4, H, W), in the images' data type.

        The images are of `frames` frames, see `run_frames`.
        """
        dtype = next(self.parameters()).dtype
        features = self.backbone(run_frames(self.entry, images.to(dtype), frames), frames)
        cells = [-(-n // self.stride) for n in images.shape[2:]]
        if list(features.shape[2:]) != cells:
            features = F.interpolate(features, size=cells, mode="area")
        return [run_frames(head, features, frames).to(images.dtype) for head in self.heads]


class Decoder(nn.Module):
    """Layers that double the size lead to a 5x5 convolution to logits (Xu et al. 2018, section 4.1).

    Args:
        hidden: So many channels the hidden state has.
        widths: There is one layer for each number, with so many channels.
        upsampling: A `bilinear` layer resizes after 5x5 convolutions; a `transposed` one is a transposed 5x5
            convolution of stride 2.
        units: So many 5x5 convolutions a bilinear layer has.
        last_unit: If true, one more convolution follows the layers.
        norm: If true, a BatchNorm follows each convolution, the one to logits too.
    """

    def __init__(
        self, hidden: int, widths: Sequence[int], upsampling: str, units: int, last_unit: bool, norm: bool
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, width in zip((hidden, *widths), widths, strict=False):
            if upsampling == "bilinear":
                layers += [Unit(before if i == 0 else width, width, 5, norm) for i in range(units)]
                layers += [nn.Upsample(scale_factor=2, mode="bilinear")]
            else:
                layers += [nn.ConvTranspose2d(before, width, 5, 2, padding=2, output_padding=1)]
                layers += [nn.BatchNorm2d(width)] * norm + [nn.ReLU(inplace=True)]
        if last_unit:
            layers.append(Unit(widths[-1], widths[-1], 5, norm))
        self.layers = nn.Sequential(*layers)
        self.head = nn.Conv2d(widths[-1], 1, 5, padding=2)
        self.head_norm = nn.BatchNorm2d(1) if norm else nn.Identity()

    def forward(self, hidden: Tensor, frames: int = 1) -> Tensor:
        """Gives the logits (N, 1, H', W') of hidden states (N, C, h, w).

        The states are of `frames` frames, see `run_frames`.
        """
        return run_frames(self.head_norm, self.head(run_frames(self.layers, hidden, frames)), frames)


class VideoRepresentation(nn.Module):
    """A ConvLSTM reads all frames; its last hidden state joins each frame's features (Jain, section 3.8).

    Args:
        cell: It is that ConvLSTM.
        norm: If true, the unit that joins them has a BatchNorm.
    """

    def __init__(self, cell: SequenceConvLSTM, norm: bool) -> None:
        super().__init__()
        hidden, self.cell = cell.hidden, cell
        self.join = Unit(2 * hidden, hidden, 3, norm)

    def forward(self, frames: list[Tensor]) -> list[Tensor]:
        """Joins the features (B, C, h, w) of each of T frames with the representation of all of them."""
        cell = hidden = torch.zeros_like(frames[0])
        for read in self.cell.read(torch.cat(frames)).chunk(len(frames)):
            cell, hidden = self.cell(read, cell, hidden)
        joined = torch.cat([torch.cat([x, hidden], 1) for x in frames])
        return list(run_frames(self.join, joined, len(frames)).chunk(len(frames)))


class S2S(nn.Module):
    """S2S turns a sequence of frames into one of masks, of one object or of several side by side.

    A frame goes through `encode`, `read`, `advance` and `decode`; `start` gives the state before the second.

    Args:
        fields: see `S2SFields`.

    Raises:
        InputError: an unknown backbone, or weights that cannot be had.
    """

    mask_input = True  # one-shot

    def __init__(self, fields: S2SFields) -> None:
        super().__init__()
        self.fields = fields
        hidden, encoder, norm = fields.hidden, fields.encoder, fields.norm
        layers = LEVELS.index(fields.level) + 2
        self.stride = 2**layers
        self.reads_previous, self.window = encoder != "frame", fields.window
        if fields.deeplab:
            deeplab = DeepLab(fields.deeplab_network, fields.deeplab_weights)
            self.encoder = Trunk(deeplab, hidden, 1, self.stride, norm)
        else:
            self.encoder = self._trunk(self.reads_previous, 3 if encoder == "merged" else 1)
        self.initializer = None
        if fields.initializer:
            self.initializer = self.encoder if encoder == "merged" else self._trunk(True, 2)
        self.video = VideoRepresentation(self._convlstm(), norm) if fields.video != "none" else None
        self.cell = self._convlstm()
        widths = [hidden, hidden // 2, hidden // 4, hidden // 8, hidden // 8][:layers]
        self.decoder = Decoder(hidden, widths, fields.upsampling, fields.units, fields.last_unit, norm)
        replace_batch_norms(self, fields.bn)

    def _trunk(self, mask: bool, heads: int) -> Trunk:
        """A trunk that reads a mask or not."""
        fields = self.fields
        channels = 4 if mask and fields.mask_entry == "channel" else 3
        backbone = Backbone(fields.backbone, fields.weights, fields.level, channels, fields.fc6)
        entry = mask and fields.mask_entry == "unit"
        return Trunk(backbone, fields.hidden, heads, self.stride, fields.norm, entry)

    def _convlstm(self) -> SequenceConvLSTM:
        """A ConvLSTM as wide as the states."""
        hidden, cells = self.fields.hidden, self._cells(self.fields.size or (1, 1))
        return SequenceConvLSTM(hidden, hidden, self.fields.activation, self.fields.peepholes, cells)

    def _cells(self, size: Sequence[int]) -> tuple[int, int]:
        """Gives the states' (h, w) for an input of (H, W)."""
        height, width = size
        return -(-height // self.stride), -(-width // self.stride)

    def start(self, frame: Tensor, masks: Tensor) -> State:
        """Gives the states after the frame whose masks are given.

        Args:
            frame: The frame (B, 3, H, W) is normalised.
            masks: The objects' masks there, (B, O, H, W), lie in 0..1.
        """
        if self.initializer is not None:
            cell, hidden = self.initializer(_with_masks(frame, masks))[:2]
        else:
            small = F.adaptive_avg_pool2d(masks, self._cells(masks.shape[2:]))
            hidden = small.transpose(0, 1).flatten(0, 1).unsqueeze(1).repeat(1, self.cell.hidden, 1, 1)
            cell = torch.zeros_like(hidden)
        slots = masks.shape[1]
        return cell.unflatten(0, (slots, -1)), hidden.unflatten(0, (slots, -1))

    def encode(self, frames: Tensor) -> list[Tensor]:
        """Encodes a clip (B, T, 3, H, W) at once: T times (B, C, h, w).

        An encoder that reads masks too cannot do so yet; it gives the frames (B, 3, H, W) themselves.
        """
        if self.reads_previous:
            return list(frames.unbind(1))
        length = frames.shape[1]
        return list(self.encoder(frames.transpose(0, 1).flatten(0, 1), length)[0].chunk(length))

    def read(self, features: list[Tensor]) -> list[Tensor]:
        """Gives what the ConvLSTM reads of each frame, (B, 4 C, h, w), from what `encode` gave.

        With a video representation, it is of all of these frames. An encoder that reads masks too cannot
        do so yet; it gives the frames themselves.
        """
        if self.reads_previous:
            return features
        if self.video is not None:
            features = self.video(features)
        return list(self.cell.read(torch.cat(features)).chunk(len(features)))

    def advance(self, read: Tensor, state: State, previous: Tensor) -> State:
        """Gives the states after a frame; `previous` are the masks before it, (B, O, H, W) in 0..1."""
        slots = len(state[0])
        if self.reads_previous:
            own = self.cell.read(self.encoder(_with_masks(read, previous))[-1])
        else:
            own = read.expand(slots, *read.shape).flatten(0, 1)
        cell, hidden = self.cell(own, *(s.flatten(0, 1) for s in state))
        return cell.unflatten(0, (slots, -1)), hidden.unflatten(0, (slots, -1))

    def decode(self, hidden: Tensor, size: Sequence[int]) -> Tensor:
        """Gives the logits (B, O, H, W) of hidden states (O, B, C, h, w), where `size` is (H, W).

        Those of several frames, (T, O, B, C, h, w), give (T, B, O, H, W).
        """
        frames = len(hidden) if hidden.dim() == 6 else 1
        logits = self.decoder(hidden.flatten(0, -4), frames)
        if logits.shape[2:] != tuple(size):
            logits = F.interpolate(logits, size=tuple(size), mode="bilinear")
        return logits.squeeze(1).unflatten(0, hidden.shape[:-3]).transpose(-3, -4)


def _with_masks(frame: Tensor, masks: Tensor) -> Tensor:
    """Puts a frame (B, 3, H, W) beside each of its masks (B, O, H, W): (O * B, 4, H, W)."""
    per_object = masks.transpose(0, 1).unsqueeze(2)
    return torch.cat([frame.expand(len(per_object), *frame.shape), per_object], 2).flatten(0, 1)
