"""RVOS's convolutional cells recur over objects and over frames, S2S's over frames alone.

Shapes: B batch, O object slots, C hidden channels, h w feature cells. Slots come before the batch, so that
one slot and all slots are both plain batches of maps. The spatial state is that of the slot before in the
same frame, the temporal state that of the same slot in the frame before; a missing state is zero.

A gate reads the concatenation [below | skip | mask | spatial | temporal]. Its convolution is a sum of
convolutions over those parts, so what all slots share (skip) is computed once, what does not depend on the
slot before (below, mask, temporal) in one batch over slots, and only the spatial part slot by slot.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vos_lightning.errors import InputError, one_of


class SplitConv2d(nn.Conv2d):
    """This 3x3 convolution reads named parts of a concatenation; a part not given counts as zero.

    Args:
        parts: Each name stands before its part's channels, in the order of concatenation. An input may not
            be given for a part of no channels.
        out_channels: So many channels the result has.
    """

    def __init__(self, parts: dict[str, int], out_channels: int) -> None:
        super().__init__(sum(parts.values()), out_channels, 3, padding=1)
        self.slices, start = {}, 0
        for name, width in parts.items():
            self.slices[name] = slice(start, start + width)
            start += width

    def kernel(self, *parts: str) -> Tensor:
        """Gives the weights that act on these parts, (out, C of the parts, 3, 3), in autocast's data type.

        Autocast keeps only the casts of whole parameters; it would cast a part at each of its uses.
        """
        device = self.weight.device.type
        kernel = torch.cat([self.weight[:, self.slices[part]] for part in parts], 1)
        return kernel.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else kernel

    def over_slots(self, skip: Tensor, **inputs: Tensor | None) -> Tensor:
        """Convolves all parts but the spatial one, for all slots: (O, B, out, h, w), or (1, B, out, h, w).

        Args:
            skip: The slots share this part, (B, C, h, w).
            inputs: Each other part is (O, B, C_part, h, w), or None where it is missing.
        """
        shared = F.conv2d(skip, self.kernel("skip"), self.bias, padding=1).unsqueeze(0)
        given = {name: x.flatten(0, 1) for name, x in inputs.items() if x is not None}
        if not given:
            return shared
        own = F.conv2d(torch.cat(list(given.values()), 1), self.kernel(*given), padding=1)
        return shared + own.unflatten(0, (-1, len(skip)))


def _scan(
    update: Callable[..., tuple[Tensor, ...]], slots: int, spatial: bool, *terms: Tensor | None
) -> Tensor:
    """Runs `update(state or None, *terms of a slot)` over slots and joins its first outputs, (O, B, C, h, w).

    Without the spatial recurrence all slots are one batch.
    """
    flat = [t if t is None else t.expand(slots, -1, -1, -1, -1).flatten(0, 1) for t in terms]
    if not spatial:
        hidden = update(None, *flat)[0]
    else:
        # Unlike indexing and stacking, splitting and joining keep the memory format, forward and backward.
        per_slot = [[t] * slots if t is None else t.split(len(t) // slots) for t in flat]
        state, outputs = None, []
        for inputs in zip(*per_slot, strict=True):
            state = update(state, *inputs)
            outputs.append(state[0])
        hidden = torch.cat(outputs)
    return hidden.unflatten(0, (slots, -1))


class ConvLSTM(nn.Module):
    """RVOS's ConvLSTM has no peepholes (Ventura et al. 2019, section 3.2).

    Its gates stand in the order input, forget, output, cell. The cell state passes from object to object
    only; from frame to frame only the hidden state passes.

    Args:
        below, skip, mask, hidden: So many channels the inputs and the state have.
        temporal: If false, it recurs over objects alone and has no weights for a temporal state.
    """

    def __init__(self, below: int, skip: int, mask: int, hidden: int, temporal: bool = True) -> None:
        super().__init__()
        parts = {"below": below, "skip": skip, "mask": mask, "spatial": hidden}
        parts["temporal"] = hidden if temporal else 0
        self.gates = SplitConv2d(parts, 4 * hidden)

    def forward(
        self,
        slots: int,
        skip: Tensor,
        below: Tensor | None,
        mask: Tensor | None,
        temporal: Tensor | None,
        spatial: bool = True,
    ) -> Tensor:
        """Gives the hidden states of one frame, (O, B, C, h, w).

        Args:
            slots: There are O.
            skip: The encoder's maps are (B, C_skip, h, w).
            below: Hidden states of the level below, at this size, are (O, B, C_below, h, w); at level 0 there
                are None.
            mask: Previous masks at this size are (O, B, 1, h, w), or None if the cell reads no masks.
            temporal: Hidden states of the frame before are (O, B, C, h, w); the first frame has None.
            spatial: If true, a slot reads the state of the slot before.
        """
        gates = self.gates.over_slots(skip, below=below, mask=mask, temporal=temporal)
        update = partial(self._update, self.gates.kernel("spatial"))
        return _scan(update, slots, spatial, gates)

    def _update(
        self, kernel: Tensor, state: tuple[Tensor, Tensor] | None, gates: Tensor
    ) -> tuple[Tensor, Tensor]:
        if state is not None:
            gates = gates + F.conv2d(state[0], kernel, padding=1)
        gates, g = gates.split([3 * gates.shape[1] // 4, gates.shape[1] // 4], dim=1)
        i, f, o = torch.sigmoid(gates).chunk(3, dim=1)
        cell = i * torch.tanh(g)
        if state is not None:
            cell = cell + f * state[1]
        return o * torch.tanh(cell), cell


class ConvGRU(nn.Module):
    """STESA-GRU's cell follows eqs. 4 to 9 (Valderrama and Rueda, section 4.1).

    Args:
        below, skip, mask, hidden: So many channels the inputs and the state have.
        reset_gates: One gate acts on the sum of both states (eq. 7), or each of two on its own (Table 3).
        form: In the `released` form the current memory is linear, and a further 3x3 convolution acts on the
            reset state. The `printed` one takes eqs. 6 and 7 to the letter: it has a sigmoid and no such
            convolution.

    Raises:
        InputError: `reset_gates` or `form` is none of these.
    """

    def __init__(
        self, below: int, skip: int, mask: int, hidden: int, reset_gates: int = 1, form: str = "released"
    ) -> None:
        super().__init__()
        if reset_gates not in (1, 2):
            raise InputError(f"model.reset_gates={reset_gates}: must be 1 or 2.")
        if form not in ("released", "printed"):
            raise InputError(f"model.gru_form={form}: must be released or printed.")
        inputs = {"below": below, "skip": skip, "mask": mask}
        self.reset_gates, self.form = reset_gates, form
        self.gates = SplitConv2d(inputs | {"spatial": hidden, "temporal": hidden}, (1 + reset_gates) * hidden)
        self.current = SplitConv2d(inputs, hidden)
        if form == "released":
            self.reset_hidden = nn.Conv2d(hidden, hidden, 3, padding=1)

    def forward(
        self,
        slots: int,
        skip: Tensor,
        below: Tensor | None,
        mask: Tensor | None,
        temporal: Tensor | None,
        spatial: bool = True,
    ) -> Tensor:
        """Gives the hidden states of one frame, (O, B, C, h, w), with `ConvLSTM.forward`'s arguments."""
        gates = self.gates.over_slots(skip, below=below, mask=mask, temporal=temporal)
        current = self.current.over_slots(skip, below=below, mask=mask)
        update = partial(self._update, self.gates.kernel("spatial"))
        return _scan(update, slots, spatial, gates, current, temporal)

    def _update(
        self,
        kernel: Tensor,
        state: tuple[Tensor] | None,
        gates: Tensor,
        current: Tensor,
        temporal: Tensor | None,
    ) -> tuple[Tensor]:
        if state is not None:
            gates = gates + F.conv2d(state[0], kernel, padding=1)
        update, *resets = torch.sigmoid(gates).chunk(1 + self.reset_gates, dim=1)
        spatial = torch.zeros_like(current) if state is None else state[0]
        temporal = torch.zeros_like(current) if temporal is None else temporal
        reset_temporal, reset_spatial = resets if self.reset_gates == 2 else (resets[0], resets[0])
        reset = reset_temporal * temporal + reset_spatial * spatial
        if self.form == "released":
            candidate = torch.tanh(current + self.reset_hidden(reset))
        else:
            candidate = torch.tanh(torch.sigmoid(current) + reset)
        return (update * spatial + (1 - update) * candidate,)


CELLS = {"lstm": ConvLSTM, "gru": ConvGRU}


class SequenceConvLSTM(nn.Module):
    """S2S's ConvLSTM runs over frames and keeps cell and hidden state (Shi et al. 2015).

    Its gates stand in the order input, forget, output, cell and read the concatenation [input | hidden].

    Args:
        inputs, hidden: So many channels the input and both states have.
        activation: It acts on the candidate and on the cell's output, and is `relu` (Xu et al. 2018) or
            `tanh`.
        peepholes: With them the gates also read the cell state. There are `none`, or one weight for each
            `channel`, zero at first, or one for each channel and `cell` (Jain), drawn as the author draws
            them.
        cells: The maps are (h, w), which peepholes of each cell must know.

    Raises:
        InputError: A field has an unknown value, or the maps have other cells than the peepholes.
    """

    def __init__(
        self,
        inputs: int,
        hidden: int,
        activation: str = "relu",
        peepholes: str = "none",
        cells: tuple[int, int] = (1, 1),
    ) -> None:
        super().__init__()
        one_of("model.activation", activation, ("relu", "tanh"))
        one_of("model.peepholes", peepholes, ("none", "channel", "cell"))
        self.hidden, self.activation = hidden, getattr(torch, activation)
        self.gates = SplitConv2d({"input": inputs, "hidden": hidden}, 4 * hidden)
        self.peepholes = None
        if peepholes == "channel":
            self.peepholes = nn.Parameter(torch.zeros(3, hidden, 1, 1))
        elif peepholes == "cell":
            bound = (6 / (cells[0] * cells[1])) ** 0.5  # Kaiming's, for which a map's cells are the inputs
            self.peepholes = nn.Parameter(torch.empty(3, hidden, *cells).uniform_(-bound, bound))

    def read(self, x: Tensor) -> Tensor:
        """Gives the inputs' share of the gates, (N, 4 C, h, w), for frames (N, C_in, h, w) of any times."""
        return F.conv2d(x, self.gates.kernel("input"), self.gates.bias, padding=1)

    def forward(self, read: Tensor, cell: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Gives the next cell and hidden state (N, C, h, w) from a frame's `read` and those before."""
        self._check_cells(read.shape[2:])
        gates = read + F.conv2d(hidden, self.gates.kernel("hidden"), padding=1)
        i, f, o, g = gates.chunk(4, dim=1)
        if self.peepholes is not None:
            i, f = i + self.peepholes[0] * cell, f + self.peepholes[1] * cell
        cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * self.activation(g)
        if self.peepholes is not None:
            o = o + self.peepholes[2] * cell
        return cell, torch.sigmoid(o) * self.activation(cell)

    def _check_cells(self, cells: Sequence[int]) -> None:
        """Raises InputError if the peepholes are for maps of other than `cells` (h, w)."""
        own = (1, 1) if self.peepholes is None else tuple(self.peepholes.shape[2:])
        if own not in ((1, 1), tuple(cells)):
            raise InputError(
                f"model.peepholes=cell: the network has weights for {own[0]}x{own[1]} cells and met "
                f"{cells[0]}x{cells[1]}; leave data.size as in its training, or train with "
                "model.peepholes=channel."
            )
