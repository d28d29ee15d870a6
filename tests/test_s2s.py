"""S2S against slow direct formulas, and every field of it against its neighbours."""

import copy
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers import S2S_SIZE, SMALL_S2S, name_of, ready_s2s, s2s_clip, small_s2s, task
from vos_lightning.configuration import compose_train
from vos_lightning.data.clips import Clip
from vos_lightning.errors import InputError
from vos_lightning.fields import read, without_weights
from vos_lightning.layers.backbones import Backbone
from vos_lightning.layers.recurrence import SequenceConvLSTM
from vos_lightning.layers.weights import load_strictly
from vos_lightning.models.s2s.fields import S2SFields
from vos_lightning.models.s2s.module import unroll
from vos_lightning.models.s2s.network import S2S
from vos_lightning.runs.settings import read_settings

# Jain's network but for its backbone and its width.
JAIN: dict[str, Any] = {
    "mask_entry": "unit",
    "peepholes": "cell",
    "units": 2,
    "last_unit": True,
    "norm": True,
    "video": "clip",
}


# --- the whole network against straight formulas ---------------------------------------------------------


def slow_lstm(lstm: SequenceConvLSTM, x: Tensor, cell: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Shi et al. 2015, eq. 3."""
    gates = F.conv2d(torch.cat([x, hidden], 1), lstm.gates.weight, lstm.gates.bias, padding=1)
    i, f, o, g = gates.chunk(4, 1)
    peep = torch.zeros(3, lstm.hidden, 1, 1, dtype=x.dtype) if lstm.peepholes is None else lstm.peepholes
    cell_after = (f + peep[1] * cell).sigmoid() * cell + (i + peep[0] * cell).sigmoid() * lstm.activation(g)
    return cell_after, (o + peep[2] * cell_after).sigmoid() * lstm.activation(cell_after)


@pytest.mark.parametrize("peepholes", ["none", "channel", "cell"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_the_convlstm_follows_its_equations(activation: str, peepholes: str) -> None:
    torch.manual_seed(0)
    lstm = SequenceConvLSTM(5, 6, activation, peepholes, (4, 7)).double()
    if lstm.peepholes is not None:
        nn.init.normal_(lstm.peepholes)
    frames = torch.randn(3, 2, 5, 4, 7).double()
    cell = hidden = slow_cell = slow_hidden = torch.randn(2, 6, 4, 7).double()
    for x, share in zip(frames, lstm.read(frames.flatten(0, 1)).chunk(3), strict=True):
        cell, hidden = lstm(share, cell, hidden)
        slow_cell, slow_hidden = slow_lstm(lstm, x, slow_cell, slow_hidden)
        torch.testing.assert_close((cell, hidden), (slow_cell, slow_hidden))


def cell_means(mask: Tensor, cells: tuple[int, int]) -> Tensor:
    height, width = (n // c for n, c in zip(mask.shape, cells, strict=True))
    return torch.tensor(
        [
            [mask[y * height : (y + 1) * height, x * width : (x + 1) * width].mean() for x in range(cells[1])]
            for y in range(cells[0])
        ]
    )


def slow_unroll(model: S2S, frames: Tensor, mask: Tensor) -> Tensor:
    """Logits (T - 1, H, W) of one object in one clip: frames (T, 3, H, W), its mask (H, W)."""

    def maps(trunk, image: Tensor, *masks: Tensor) -> Tensor:
        return trunk.backbone(trunk.entry(torch.cat([image, *masks])[None]))

    if model.initializer is None:
        hidden = cell_means(mask, (4, 8)).expand(1, 32, -1, -1)
        cell = torch.zeros(1, 32, 4, 8)
    else:
        first = maps(model.initializer, frames[0], mask[None])
        cell, hidden = (model.initializer.heads[i](first) for i in (0, 1))
    if not model.reads_previous:
        inputs = [model.encoder.heads[0](maps(model.encoder, frame)) for frame in frames]
    if model.video is not None:
        video_cell = video = torch.zeros(1, 32, 4, 8)
        for x in inputs:
            video_cell, video = slow_lstm(model.video.cell, x, video_cell, video)
        inputs = [model.video.join(torch.cat([x, video], 1)) for x in inputs]
    previous, outputs = mask[None], []
    for t in range(1, len(frames)):
        if model.reads_previous:
            x = model.encoder.heads[-1](maps(model.encoder, frames[t], previous))
        else:
            x = inputs[t]
        cell, hidden = slow_lstm(model.cell, x, cell, hidden)
        logits = model.decoder(hidden)[0]
        previous = logits.sigmoid()
        outputs.append(logits[0])
    return torch.stack(outputs)


VARIANTS: list[dict[str, Any]] = [
    {},
    {"peepholes": "channel", "activation": "tanh", "units": 2, "norm": True},
    {"initializer": False, "upsampling": "transposed"},
    {"encoder": "previous_mask"},
    {"encoder": "previous_mask", "initializer": False},
    {"encoder": "merged"},
    {"encoder": "merged", "mask_entry": "unit"},
    {"video": "clip", "peepholes": "channel"},
    JAIN,
    JAIN | {"upsampling": "transposed"},
    {"deeplab": True, "level": "res4"},
]


@pytest.mark.parametrize("fields", VARIANTS[:-1], ids=name_of)
@torch.no_grad()
def test_objects_and_clips_side_by_side_are_each_alone(fields: dict) -> None:
    model = ready_s2s(**fields)
    frames, masks = s2s_clip()
    together = unroll(model, frames, masks)
    for b, o in itertools.product(range(2), range(2)):
        alone = slow_unroll(model, frames[b], masks[b, o])
        assert alone.std() > 0
        torch.testing.assert_close(together[:, b, o], alone, rtol=1e-3, atol=1e-5)


def test_without_initialiser_the_state_is_the_mask() -> None:
    _, masks = s2s_clip()
    cell, hidden = small_s2s(initializer=False).start(torch.zeros(2, 3, *S2S_SIZE), masks)
    assert not cell.any()
    for b, o in itertools.product(range(2), range(2)):
        expected = cell_means(masks[b, o], (4, 8))
        assert torch.equal(hidden[o, b], expected.expand(32, -1, -1))


@pytest.mark.parametrize("size", [(30, 50), (33, 65), (8, 8)])
def test_logits_have_the_frames_size(size: tuple[int, int]) -> None:
    for fields in ({}, {"encoder": "previous_mask"}, {"upsampling": "transposed", "initializer": False}):
        with torch.no_grad():
            logits = unroll(small_s2s(**fields), torch.randn(2, 3, 3, *size), torch.ones(2, 1, *size))
        assert logits.shape == (2, 2, 1, *size)


@pytest.mark.parametrize("fields", [{"norm": True}, JAIN], ids=["base", "jain"])
@torch.no_grad()
def test_batch_statistics_may_be_of_each_frame(fields: dict) -> None:
    """The clip at once is the clip frame by frame, as Jain's code reads it."""
    model, plain = (small_s2s(bn=bn, **fields).train() for bn in ("frame", "clip"))
    frames, masks = s2s_clip(objects=1)
    features = [plain.encode(frame[:, None])[0] for frame in frames.unbind(1)]
    if plain.video is not None:
        cell = video = torch.zeros_like(features[0])
        for x in features:
            cell, video = plain.video.cell(plain.video.cell.read(x), cell, video)
        features = [plain.video.join(torch.cat([x, video], 1)) for x in features]
    state, expected = plain.start(frames[:, 0], masks), []
    for x in features[1:]:
        state = plain.advance(plain.cell.read(x), state, masks)
        expected.append(plain.decode(state[1], S2S_SIZE))
    found = unroll(model, frames, masks)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(found, unroll(plain, frames, masks), atol=1e-2)


# --- Jain's network ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("video", "registered", "cells"), [("none", 68972536, 1), ("clip", 92571128, 2)])
def test_the_papers_scale_has_the_authors_shapes(video: str, registered: int, cells: int) -> None:
    cfg = compose_train(["model=s2s_video", "scale=paper", "data=synthetic_youtube", f"model.video={video}"])
    experiment = read_settings(cfg).experiment
    with torch.device("meta"):
        model = experiment.model.network(without_weights(experiment.fields))
    assert isinstance(model, S2S)
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    convolutions = [m for m in model.decoder.modules() if isinstance(m, nn.Conv2d)]
    widths = [(m.in_channels, m.out_channels) for m in convolutions]
    layers = [(512, 512), (512, 256), (256, 128), (128, 64), (64, 64)]
    assert widths == [w for a, b in layers for w in ((a, b), (b, b))] + [(64, 64), (64, 1)]
    assert {m.kernel_size for m in convolutions} == {(5, 5)}
    normed = sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    assert normed == 12 + 1 + 2 + 1 + (video == "clip")  # decoder, entry, initialiser, encoder, join
    assert shapes["cell.peepholes"] == (3, 512, 8, 14)
    # What the author's parts register; his peepholes are not among it, and his gates have two biases each.
    peepholes, biases = 3 * 512 * 8 * 14, 4 * 512
    assert sum(p.numel() for p in model.parameters()) == registered + cells * (peepholes - biases)


# --- fields ----------------------------------------------------------------------------------------------

NEIGHBOURS: list[dict[str, Any]] = [
    {"backbone": "shufflenet_v2_x1_0"},
    {"level": "res4"},
    {"hidden": 16},
    {"initializer": False},
    {"encoder": "previous_mask"},
    {"encoder": "merged"},
    {"mask_entry": "unit"},
    {"activation": "tanh"},
    {"peepholes": "channel"},
    {"peepholes": "cell"},
    {"upsampling": "transposed"},
    {"units": 2},
    {"last_unit": True},
    {"norm": True},
    {"video": "clip"},
    {"bn": "frozen"},
    {"bn": "frame"},
    {"deeplab": True},
    {"deeplab": True, "deeplab_network": "deeplabv3_resnet50"},
]


def test_every_field_changes_parameters_or_masks() -> None:
    frames, masks = s2s_clip(frames=3)
    seen: list[tuple[dict, dict, Tensor]] = []
    for change in [{}, *NEIGHBOURS]:
        model = small_s2s(**change).train()
        shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
        with torch.no_grad():
            logits = unroll(model, frames, masks)
        for other, other_shapes, other_logits in seen:
            same = shapes == other_shapes and torch.allclose(logits, other_logits, atol=1e-6)
            assert not same, f"{change} is the same network as {other}"
        seen.append((change, shapes, logits))


@pytest.mark.parametrize("fields", VARIANTS, ids=name_of)
def test_every_parameter_learns_but_a_deeplabs(fields: dict) -> None:
    model = small_s2s(**fields, bn="frozen").train()
    trained = task(model)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    idle = {name for name, _ in model.named_parameters()}
    frozen = {name for name in idle if fields.get("deeplab") and name.startswith("encoder.backbone.")}
    before = copy.deepcopy(model.encoder.backbone.state_dict())
    for step in range(5):
        frames, masks = s2s_clip(step, objects=1)
        labels = masks.expand(-1, frames.shape[1], -1, -1).byte()
        optimizer.zero_grad()
        trained.clip_loss(Clip(frames, labels, torch.ones(*labels.shape[:2], 1)))[0].backward()
        idle -= {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
        optimizer.step()
    assert idle == frozen
    if frozen:
        after = model.encoder.backbone.state_dict()
        assert all(torch.equal(before[key], value) for key, value in after.items())


def test_the_loss_is_the_cross_entropy_of_annotated_frames() -> None:
    model = ready_s2s()
    frames, masks = s2s_clip(objects=1)
    labels = torch.stack([masks[:, 0].roll(4 * t, -1) for t in range(4)], 1).byte()
    weights = torch.tensor([[1.0, 1, 0, 1], [1, 0, 0, 1]])
    with torch.no_grad():
        loss, _ = task(model).clip_loss(Clip(frames, labels, weights.unsqueeze(2)))
        expected = 0.0
        for b, t in ((0, 1), (0, 3), (1, 3)):
            p = slow_unroll(model, frames[b], masks[b, 0])[t - 1].sigmoid()
            y = labels[b, t].float()
            expected -= float((y * p.log() + (1 - y) * (1 - p).log()).mean()) / 2
    assert float(loss) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"encoder": "x"}, "model.encoder=x"),
        ({"mask_entry": "x"}, "model.mask_entry=x"),
        ({"upsampling": "x"}, "model.upsampling=x"),
        ({"video": "x"}, "model.video=x"),
        ({"bn": "x"}, "model.bn=x"),
        ({"peepholes": True}, "model.peepholes=true: unknown; choose one of none, channel, cell"),
        ({"peepholes": "cell", "size": None}, "model.peepholes=cell: needs model.size"),
        ({"activation": "x"}, "model.activation=x"),
        ({"level": "res1"}, "model.level=res1"),
        ({"backbone": "x"}, "model.backbone=x"),
        ({"fc6": True}, "model.fc6=true: needs model.backbone=vgg16"),
        ({"deeplab": True, "deeplab_network": "x"}, "model.deeplab_network=x"),
        ({"deeplab": True, "encoder": "merged"}, "model.deeplab=true: needs"),
        ({"video": "clip", "encoder": "merged"}, "model.video=clip: needs"),
        ({"encoder": "merged", "initializer": False}, "model.encoder=merged: needs"),
    ],
)
def test_what_cannot_be_built_is_named(fields: dict, named: str) -> None:
    with pytest.raises(InputError, match=named):
        S2S(read(S2SFields, "model", SMALL_S2S | fields))


def test_peepholes_of_each_cell_take_one_size() -> None:
    model, (frames, masks) = ready_s2s(**JAIN), s2s_clip()
    with pytest.raises(InputError, match="weights for 4x8 cells and met 4x7"):
        unroll(model, frames[..., :56], masks[..., :56])


def test_merged_has_one_backbone() -> None:
    def count(module: nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    two, one = small_s2s(encoder="previous_mask"), small_s2s(encoder="merged")
    assert count(two) - count(one) == count(two.encoder.backbone)


@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "resnet18"])
def test_an_empty_mask_channel_changes_nothing(name: str) -> None:
    backbones = []
    for channels in (3, 4):
        torch.manual_seed(0)
        backbones.append(Backbone(name, "none", "res3", channels).eval())
    plain, widened = backbones
    image, mask = torch.randn(1, 3, *S2S_SIZE), torch.zeros(1, 1, *S2S_SIZE)
    with torch.no_grad():
        torch.testing.assert_close(widened(torch.cat([image, mask], 1)), plain(image))
        assert not torch.allclose(widened(torch.cat([image, mask + 1], 1)), plain(image))


def test_fc6_is_vggs_linear_layer_at_every_place(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[nn.Linear] = []
    # torchvision draws their weights once more.
    monkeypatch.setattr(nn.Linear, "reset_parameters", lambda layer: made.append(layer))
    backbone = Backbone("vgg16", "none", in_channels=4, fc6=True)
    assert backbone.fc6 is not None
    maps = torch.rand(1, 512, 7, 7)
    with torch.no_grad():
        torch.testing.assert_close(
            backbone.fc6(maps)[..., 3, 3], made[0](maps.flatten(1)), rtol=1e-3, atol=1e-4
        )
        assert backbone(torch.randn(1, 4, 32, 64)).shape == (1, 4096, 1, 2)


# --- checkpoints -----------------------------------------------------------------------------------------


def test_a_saved_network_gives_the_same_masks(tmp_path: Path) -> None:
    fields = {"video": "clip", "peepholes": "cell", "activation": "tanh", "norm": True}
    model, other = ready_s2s(**fields), ready_s2s(1, **fields)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    load_strictly(other, torch.load(tmp_path / "weights.pt", weights_only=True), tmp_path)
    assert {"cell.peepholes", "video.cell.peepholes"} <= set(model.state_dict())
    with torch.no_grad():
        assert torch.equal(*(unroll(m, *s2s_clip()) for m in (model, other)))
