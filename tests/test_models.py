"""The parts of the network against slow direct formulas, and every ablation field against its neighbours."""

import copy
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from helpers import SMALL, small_rvos, task
from vos_lightning.data.clips import Clip
from vos_lightning.errors import InputError
from vos_lightning.fields import read
from vos_lightning.layers.attention import AFFINITIES, NonLocalBlock
from vos_lightning.layers.backbones import LEVELS, Backbone
from vos_lightning.layers.norms import batch_norms
from vos_lightning.layers.pyramid import State
from vos_lightning.layers.recurrence import ConvGRU, ConvLSTM, SplitConv2d
from vos_lightning.models.rvos.fields import RVOSFields
from vos_lightning.models.rvos.network import RVOS

SIZE = (64, 96)


def small(seed: int = 0, **fields) -> RVOS:
    """A small network whose non-local block, if any, is not the identity."""
    torch.manual_seed(seed)
    model = small_rvos(**fields)
    if hasattr(model.encoder, "nonlocal_block"):
        nn.init.ones_(model.encoder.nonlocal_block.norm.weight)
    return model


def random_clip(seed: int, batch: int = 2, frames: int = 3, slots: int = 3) -> Clip:
    """Noise with a rectangle for each object."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.zeros(batch, frames, *SIZE, dtype=torch.uint8)
    for b, t, o in itertools.product(range(batch), range(frames), range(slots)):
        labels[b, t, 10 + 3 * t : 40, 5 + 30 * o + 4 * b : 25 + 30 * o] = o + 1
    noise = torch.randn(batch, frames, 3, *SIZE, generator=generator)
    return Clip(noise, labels, torch.ones(batch, frames, slots))


def masks_of(model: RVOS, frames: Tensor, first: Tensor) -> Tensor:
    """Masks (B, T, O, H, W) of frames (B, T, 3, H, W), each reading the soft masks of the one before."""
    previous, state, outputs = first, None, []
    for features in model.encode(frames):
        step = model.step(features, first.shape[1], SIZE, previous if model.mask_input else None, state)
        state, previous = step.state, torch.sigmoid(step.logits)
        outputs.append(previous)
    return torch.stack(outputs, 1)


class Casts(TorchDispatchMode):
    """Counts the casts of weights of a shape to another data type."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape, self.count = shape, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default and tuple(out.shape) == self.shape:
            self.count += out.dtype != args[0].dtype
        return out


# --- recurrent cells -------------------------------------------------------------------------------------

BELOW, SKIP, HIDDEN = 5, 4, 6


def convolve(x: Tensor, conv: nn.Conv2d) -> Tensor:
    return F.conv2d(x, conv.weight, conv.bias, padding=1)


def slow_lstm(cell: ConvLSTM, inputs: Tensor, spatial: Tensor, memory: Tensor, temporal: Tensor):
    """Ventura et al. 2019, section 3.2, one slot: the new hidden state and the new cell."""
    i, f, o, g = convolve(torch.cat([inputs, spatial, temporal], 1), cell.gates).chunk(4, 1)
    memory = f.sigmoid() * memory + i.sigmoid() * g.tanh()
    return o.sigmoid() * memory.tanh(), memory


def slow_gru(cell: ConvGRU, inputs: Tensor, spatial: Tensor, memory: Tensor, temporal: Tensor):
    """Valderrama and Rueda, eqs. 4 to 9, one slot; `released` as the released cell differs from them."""
    gates = convolve(torch.cat([inputs, spatial, temporal], 1), cell.gates).sigmoid()
    update, reset, *second = gates.chunk(gates.shape[1] // HIDDEN, 1)
    current = convolve(inputs, cell.current)
    remembered = reset * temporal + (second[0] if second else reset) * spatial
    if cell.form == "released":
        candidate = torch.tanh(current + convolve(remembered, cell.reset_hidden))
    else:
        candidate = torch.tanh(current.sigmoid() + remembered)
    return update * spatial + (1 - update) * candidate, memory


@pytest.mark.parametrize("spatial", [True, False])
@pytest.mark.parametrize("given", ["below mask temporal", "mask temporal", "below mask", "below temporal"])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (ConvLSTM, {}),
        (ConvGRU, {"reset_gates": 1}),
        (ConvGRU, {"reset_gates": 2}),
        (ConvGRU, {"reset_gates": 1, "form": "printed"}),
        (ConvGRU, {"reset_gates": 2, "form": "printed"}),
    ],
)
def test_cells_follow_the_formulas_slot_by_slot(kind, options: dict, given: str, spatial: bool) -> None:
    torch.manual_seed(1)
    slots, batch, cells = 3, 2, (5, 7)
    cell = kind(BELOW * ("below" in given), SKIP, int("mask" in given), HIDDEN, **options).double()
    skip = torch.randn(batch, SKIP, *cells).double()
    widths = {"below": BELOW, "mask": 1, "temporal": HIDDEN}
    x = {n: torch.randn(slots, batch, w, *cells).double() if n in given else None for n, w in widths.items()}
    zero = skip.new_zeros(batch, HIDDEN, *cells)
    before, memory, expected = zero, zero, []
    for slot in range(slots):
        below, mask, temporal = (None if v is None else v[slot] for v in x.values())
        inputs = torch.cat([v for v in (below, skip, mask) if v is not None], 1)
        slow = slow_lstm if kind is ConvLSTM else slow_gru
        hidden, memory = slow(cell, inputs, before, memory, zero if temporal is None else temporal)
        expected.append(hidden)
        before, memory = (hidden, memory) if spatial else (zero, zero)
    torch.testing.assert_close(cell(slots, skip, **x, spatial=spatial), torch.stack(expected))


@pytest.mark.parametrize("kind", [ConvLSTM, ConvGRU])
def test_mixed_precision_casts_a_frames_kernel_once(kind, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    cell, skip = kind(0, SKIP, 0, HIDDEN), torch.randn(2, SKIP, 5, 7)
    with torch.autocast("cpu", torch.bfloat16), Casts(cell.gates.kernel("spatial").shape) as casts:
        hidden = cell(6, skip, None, None, None)
    assert casts.count == 1

    def uncast(conv: SplitConv2d, *parts: str) -> Tensor:
        return torch.cat([conv.weight[:, conv.slices[part]] for part in parts], 1)

    monkeypatch.setattr(SplitConv2d, "kernel", uncast)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(cell(6, skip, None, None, None), hidden)


# --- non-local block -------------------------------------------------------------------------------------


@pytest.mark.parametrize("affinity", AFFINITIES)
def test_nonlocal_block_is_the_full_affinity_matrix(affinity: str) -> None:
    torch.manual_seed(2)
    block, x = NonLocalBlock(8, affinity).eval(), torch.randn(2, 8, 4, 5)
    assert torch.equal(block(x), x)
    norm = {name: torch.rand(8) + 0.5 for name in ("weight", "bias", "running_mean", "running_var")}
    block.norm.load_state_dict(norm, strict=False)
    points = x.flatten(2)  # (N, C, hw)

    def project(conv: nn.Conv2d) -> Tensor:
        return torch.einsum("oc,ncp->nop", conv.weight[:, :, 0, 0], points)

    if affinity == "gaussian":
        pairs = torch.einsum("ncp,ncq->npq", points, points)
    else:
        pairs = torch.einsum("ncp,ncq->npq", project(block.theta), project(block.phi))
    weights = pairs / 20 if affinity == "dot" else pairs.exp() / pairs.exp().sum(2, keepdim=True)
    y = torch.einsum("npq,ncq->ncp", weights, project(block.g))
    z = torch.einsum("oc,ncp->nop", block.out.weight[:, :, 0, 0], y)
    scale = norm["weight"] / (norm["running_var"] + 1e-5).sqrt()
    z = (z - norm["running_mean"][:, None]) * scale[:, None] + norm["bias"][:, None]
    torch.testing.assert_close(block(x).flatten(2), points + z, rtol=1e-4, atol=1e-4)


# --- recurrences and slots -------------------------------------------------------------------------------


@torch.no_grad()
def influence(model: RVOS, state: State | None) -> list[bool]:
    """Which of three slots change when the previous mask of slot 0 does."""
    features = model.encode(torch.randn(1, 1, 3, *SIZE))[0]
    previous = torch.rand(1, 3, *SIZE)
    other = previous.clone()
    other[:, 0] = 1 - previous[:, 0]
    a, b = (model.step(features, 3, SIZE, masks, state).logits for masks in (previous, other))
    return (a - b).abs().amax((0, 2, 3)).gt(0).tolist()


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_temporal_recurrence_keeps_slots_apart_after_frame_0(cell: str) -> None:
    model = small(cell=cell, recurrence="temporal").eval()
    clip = random_clip(0, batch=1)
    with torch.no_grad():
        state = model.step(model.encode(clip.frames)[0], 3, SIZE, clip.masks(3)[:, 0], None).state
    assert influence(model, None) == [True, True, True]
    assert influence(model, state) == [True, False, False]
    assert influence(small(cell=cell).eval(), state) == [True, True, True]


@pytest.mark.parametrize(("recurrence", "remembers"), [("spatial", False), ("spatio_temporal", True)])
def test_spatial_recurrence_forgets_earlier_frames(recurrence: str, remembers: bool) -> None:
    model = small(recurrence=recurrence).eval()
    clip, other = random_clip(0), random_clip(1)
    with torch.no_grad():
        last = []
        for first in (clip, other):
            earlier = model.step(model.encode(first.frames)[0], 3, SIZE, first.masks(3)[:, 0], None)
            features, previous = model.encode(clip.frames)[1], clip.masks(3)[:, 1]
            last.append(model.step(features, 3, SIZE, previous, earlier.state).logits)
    assert torch.equal(*last) is not remembers


@pytest.mark.parametrize("recurrence", ["spatio_temporal", "spatial", "temporal"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_empty_slots_behind_change_nothing(cell: str, recurrence: str) -> None:
    model, clip = small(cell=cell, recurrence=recurrence).eval(), random_clip(0)
    with torch.no_grad():
        alone, padded = (masks_of(model, clip.frames, clip.masks(n)[:, 0]) for n in (3, 6))
    torch.testing.assert_close(padded[:, :, :3], alone)


# --- batch statistics ------------------------------------------------------------------------------------


def features_of(model: RVOS, frames: Tensor) -> list[Tensor]:
    with torch.no_grad():
        return [torch.stack(level) for level in zip(*model.encode(frames), strict=True)]


def test_frame_statistics_are_those_of_frames_run_alone() -> None:
    model, frames = small(bn="frame", nonlocal_position="res4").train(), random_clip(0).frames
    alone = small(bn="clip", nonlocal_position="res4").train()
    together = copy.deepcopy(alone)
    by_frame = [features_of(alone, frames[:, t : t + 1]) for t in range(frames.shape[1])]
    expected = [torch.cat(level) for level in zip(*by_frame, strict=True)]
    for ours, level in zip(features_of(model, frames), expected, strict=True):
        torch.testing.assert_close(ours, level, rtol=1e-3, atol=1e-4)
    for (key, ours), other in zip(model.state_dict().items(), alone.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, other, msg=key, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(features_of(together, frames)[0], expected[0], atol=1e-2)


def test_a_pass_changes_no_norm_but_its_statistics() -> None:
    model = small(bn="frame", nonlocal_position="res4").train()
    before = [vars(norm).copy() for norm in batch_norms(model)]
    features_of(model, random_clip(0).frames)
    assert [vars(norm) for norm in batch_norms(model)] == before


def test_frozen_statistics_do_not_move() -> None:
    model, frames = small(bn="frozen").train(), random_clip(0).frames
    before = copy.deepcopy(model.state_dict())
    training = features_of(model, frames)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    for ours, evaluated in zip(training, features_of(small(bn="clip").eval(), frames), strict=True):
        torch.testing.assert_close(ours, evaluated)


# --- backbones -------------------------------------------------------------------------------------------

CHANNELS = {
    "resnet18": (64, 64, 128, 256, 512),
    "resnet50": (64, 256, 512, 1024, 2048),
    "vgg16": (64, 128, 256, 512, 512),
    "shufflenet_v2_x0_5": (24, 24, 48, 96, 192),
}


def stages(backbone: Backbone, x: Tensor) -> list[Tensor]:
    outputs = []
    with torch.no_grad():
        for level in range(4):
            x = backbone.stage(level, x)
            outputs.append(x)
    return outputs


@pytest.mark.parametrize("name", CHANNELS)
def test_backbones_give_five_scales_rounded_up(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Random numbers for 138 million unused weights of VGG's classifier would take seconds.
    monkeypatch.setattr(nn.Linear, "reset_parameters", lambda self: None)
    with torch.no_grad():
        backbone = Backbone(name, "none").eval()
    assert backbone.channels == dict(zip(("res1", *LEVELS), CHANNELS[name], strict=True))
    sizes = [(35, 45), (18, 23), (9, 12), (5, 6), (3, 3)]  # of 70x90
    expected = [(1, c, *size) for c, size in zip(CHANNELS[name], sizes, strict=True)]
    images = torch.randn(1, 3, 70, 90)
    with torch.no_grad():
        res1, res2 = backbone.first_stage(images)
    maps = stages(backbone, images)
    assert [tuple(x.shape) for x in (res1, *maps)] == expected and torch.equal(res2, maps[0])


def test_vgg_stages_are_torchvisions_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nn.Linear, "reset_parameters", lambda self: None)
    backbone = Backbone("vgg16", "none").eval()
    features = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["D"])
    features.load_state_dict(backbone.body.state_dict())
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(stages(backbone, x)[-1], features(x))


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "shufflenet_v2_x0_5"])
def test_a_local_weights_file_gives_torchvisions_network(name: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    network = torchvision.models.get_model(name, weights=None).eval()
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    x = torch.randn(2, 3, 64, 96)
    features = stages(Backbone(name, str(tmp_path / "weights.pth")).eval(), x)[-1]
    with torch.no_grad():
        pooled = network.conv5(features) if name.startswith("shufflenet") else features
        torch.testing.assert_close(network.fc(pooled.mean((2, 3))), network(x))


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(torchvision.models.shufflenet_v2_x0_5(weights=None).state_dict(), path)
    with pytest.raises(InputError, match=r"weights\.pth: a checkpoint of another model"):
        Backbone("resnet18", str(path))
    path.write_bytes(b"no weights")
    with pytest.raises(InputError, match=r"weights\.pth: not a readable checkpoint"):
        Backbone("resnet18", str(path))
    with pytest.raises(InputError, match=r"absent\.pth: no such"):
        Backbone("resnet18", str(tmp_path / "absent.pth"))


def test_imagenet_weights_without_a_network_name_file_and_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError) as error:
        Backbone("shufflenet_v2_x0_5", "imagenet")
    assert "shufflenetv2_x0.5-f707e7126e.pth" in str(error.value)
    assert str(tmp_path / "hub" / "checkpoints") in str(error.value)


# --- ablation fields -------------------------------------------------------------------------------------

BASE: dict[str, Any] = {"cell": "gru", "nonlocal_position": "res4", "bn": "clip"}
NEIGHBOURS: list[dict[str, Any]] = [
    {"cell": "lstm"},
    {"reset_gates": 2},
    {"gru_form": "printed"},
    {"recurrence": "spatial"},
    {"recurrence": "temporal"},
    {"mask_input": False},
    {"nonlocal_position": "none"},
    {"nonlocal_position": "res3"},
    {"nonlocal_position": "res5"},
    {"affinity": "gaussian"},
    {"affinity": "dot"},
    {"feeds_next_stage": True},
    {"auxiliary": True},
    {"bn": "frame"},
    {"bn": "frozen"},
]


def test_every_field_changes_parameters_or_masks() -> None:
    clip = random_clip(0)
    first = clip.masks(3)[:, 0]
    seen: list[tuple[dict, dict, Tensor]] = []
    for change in [{}, *NEIGHBOURS]:
        model = small(**(BASE | change)).train()
        shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
        with torch.no_grad():
            masks = masks_of(model, clip.frames, first)
        for other, other_shapes, other_masks in seen:
            # The same shapes are the same weights, for all are drawn from one seed.
            same = shapes == other_shapes and torch.allclose(masks, other_masks, atol=1e-5)
            assert not same, f"{change} is the same network as {other}"
        seen.append((change, shapes, masks))


TABLE_CELLS = [
    *({"cell": c, "nonlocal_position": p} for c in ("gru", "lstm") for p in ("res3", "res4", "res5")),
    {"cell": "gru", "nonlocal_position": "none", "reset_gates": 2},
    {"cell": "gru", "nonlocal_position": "res3", "auxiliary": True},
]


@pytest.mark.parametrize("fields", TABLE_CELLS, ids=lambda fields: "-".join(map(str, fields.values())))
def test_every_parameter_learns(fields: dict) -> None:
    # Frozen statistics: before a live BatchNorm a convolution's bias has gradient zero by algebra.
    torch.manual_seed(0)
    model = small_rvos(**fields, bn="frozen").train()
    trained = task(model)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    idle = {name for name, _ in model.named_parameters()}
    for step in range(5):
        optimizer.zero_grad()
        trained.clip_loss(random_clip(step), "inferred")[0].backward()
        idle -= {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
        optimizer.step()
    assert not idle


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"cell": "rnn"}, "model.cell=rnn"),
        ({"recurrence": "x"}, "model.recurrence=x"),
        ({"nonlocal_position": "res2"}, "model.nonlocal_position=res2"),
        ({"nonlocal_position": "res3", "affinity": "x"}, "model.affinity=x"),
        ({"cell": "gru", "reset_gates": 3}, "model.reset_gates=3"),
        ({"cell": "gru", "gru_form": "x"}, "model.gru_form=x"),
        ({"auxiliary": True}, "model.auxiliary=true"),
        ({"bn": "x"}, "model.bn=x"),
        ({"backbone": "x"}, "model.backbone=x"),
    ],
)
def test_unknown_values_are_named(fields: dict, named: str) -> None:
    with pytest.raises(InputError, match=named):
        RVOS(read(RVOSFields, "model", SMALL | fields))
