"""The network against the official RVOS code: the same weights and frames give the same masks.

fixtures/rvos_*_shot.npz hold what the official code (eval mode, float32) gave for the weights and frames
below, slots 0..3, every 8th row and column.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.models import resnet101

from helpers import official_tensor, small_rvos
from vos_lightning.errors import InputError
from vos_lightning.layers.pyramid import Features, PyramidDecoder
from vos_lightning.layers.weights import load_strictly
from vos_lightning.models.rvos.network import RVOS
from vos_lightning.models.rvos.released import released_weights

FIXTURES = Path(__file__).parent / "fixtures"
SIZE = (256, 448)
SLOTS = 10

Weights = dict[str, Tensor]


def official_encoder() -> Weights:
    with torch.device("meta"):
        base = resnet101(weights=None).state_dict()
    shapes = {f"base.{key}": tuple(value.shape) for key, value in base.items()}
    for level, (wide, narrow) in {5: (2048, 128), 4: (1024, 128), 3: (512, 64), 2: (256, 32)}.items():
        shapes |= {f"sk{level}.weight": (narrow, wide, 3, 3), f"sk{level}.bias": (narrow,)}
        shapes |= {f"bn{level}.{n}": (narrow,) for n in ("weight", "bias", "running_mean", "running_var")}
        shapes[f"bn{level}.num_batches_tracked"] = ()
    return {key: official_tensor(key, shape) for key, shape in shapes.items()}


def official_decoder(mask: int) -> Weights:
    gates = [(512, 384), (256, 384), (128, 192), (64, 96)]  # without the mask
    shapes: dict[str, tuple[int, ...]] = {"conv_out.weight": (1, 16, 3, 3), "conv_out.bias": (1,)}
    for level, (wide, narrow) in enumerate(gates):
        shapes[f"clstm_list.{level}.Gates.weight"] = (wide, narrow + mask, 3, 3)
        shapes[f"clstm_list.{level}.Gates.bias"] = (wide,)
    return {key: official_tensor(key, shape) for key, shape in shapes.items()}


@pytest.fixture(scope="module")
def encoder() -> Weights:
    return official_encoder()


@pytest.fixture(scope="module")
def folder(encoder: Weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An official one-shot checkpoint."""
    path = tmp_path_factory.mktemp("official")
    torch.save(encoder, path / "encoder.pt")
    torch.save(official_decoder(1), path / "decoder.pt")
    return path


@pytest.fixture(scope="module")
def one_shot(folder: Path) -> RVOS:
    model = small_rvos("resnet101", hidden=128).eval()
    load_strictly(model, released_weights(folder), folder)
    return model


@pytest.fixture(scope="module")
def features(one_shot: RVOS) -> list[Features]:
    frames = np.random.default_rng(0).standard_normal((1, 4, 3, *SIZE)).astype(np.float32)
    with torch.inference_mode():
        return one_shot.encode(torch.from_numpy(frames))


def difference(model: RVOS, features: list[Features], name: str) -> float:
    """The largest difference from the official masks."""
    expected = np.load(FIXTURES / f"rvos_{name}_shot.npz")["outputs"]
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    first = torch.zeros(1, SLOTS, *SIZE)
    for i in range(3):
        centre = SIZE[0] * (0.3 + 0.2 * i), SIZE[1] * (0.25 + 0.2 * i)
        disk = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= (SIZE[0] * 0.12) ** 2
        first[0, i] = torch.from_numpy(disk)
    previous, state, worst = first, None, 0.0
    with torch.inference_mode():
        for t, official in enumerate(expected):
            previous = first if t < 2 else previous
            step = model.step(features[t], SLOTS, SIZE, previous if model.mask_input else None, state)
            state, previous = step.state, torch.sigmoid(step.logits)
            worst = max(worst, float(np.abs(previous[0, :4, ::8, ::8].numpy() - official).max()))
    return worst


def test_one_shot_masks_are_the_official_ones(one_shot: RVOS, features: list[Features]) -> None:
    assert difference(one_shot, features, "one") < 1e-4


def test_zero_shot_masks_are_the_official_ones(
    encoder: Weights, one_shot: RVOS, features: list[Features], tmp_path: Path
) -> None:
    decoder = official_decoder(0) | {"fc_stop.weight": torch.zeros(1, 240), "fc_stop.bias": torch.zeros(1)}
    for file, state in (("encoder.pt", encoder), ("decoder.pt", decoder)):
        torch.save({f"module.{key}": value for key, value in state.items()}, tmp_path / file)
    model = small_rvos("resnet101", hidden=128, mask_input=False).eval()
    load_strictly(model, released_weights(tmp_path), tmp_path)
    ours, theirs = model.encoder.state_dict(), one_shot.encoder.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)  # so its features serve here too
    assert difference(model, features, "zero") < 1e-4


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        ({"clstm_list.2.Gate.bias": torch.zeros(128)}, "decoder.cells.2.Gate.bias is unexpected"),
        ({"conv_out.weight": torch.zeros(2, 16, 3, 3)}, r"decoder.conv_out.weight has shape \(2, 16, 3, 3\)"),
        ({"conv_out.bias": None}, "decoder.conv_out.bias is missing"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_by_key(
    one_shot: RVOS, folder: Path, tmp_path: Path, fault: dict, named: str
) -> None:
    (tmp_path / "encoder.pt").symlink_to(folder / "encoder.pt")
    decoder = {key: value for key, value in (official_decoder(1) | fault).items() if value is not None}
    torch.save(decoder, tmp_path / "decoder.pt")
    with pytest.raises(InputError, match=named) as error:
        load_strictly(one_shot, released_weights(tmp_path), tmp_path)
    assert str(tmp_path) in str(error.value)


def test_a_renamed_key_is_named(one_shot: RVOS, folder: Path) -> None:
    state = released_weights(folder)
    assert state is not None
    state["decoder.cells.1.gates.wait"] = state.pop("decoder.cells.1.gates.weight")
    with pytest.raises(InputError, match=r"decoder\.cells\.1\.gates\.wait is unexpected \(and 1 more\)"):
        load_strictly(one_shot, state, "x.ckpt")


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_parameter_counts_are_the_published_ones(one_shot: RVOS) -> None:
    assert parameters(one_shot.decoder) == 2_940_433
    assert parameters(one_shot.encoder.skips) == 3_908_640


@pytest.mark.parametrize("resets", [1, 2])
def test_stesa_gru_decoder_has_the_released_shapes(resets: int) -> None:
    decoder = PyramidDecoder("gru", (128, 128, 64, 32), (128, 64, 32, 16), 1, reset_gates=resets)
    below_skip_mask = (129, 257, 129, 65)
    for cell, hidden, inputs in zip(decoder.cells, (128, 64, 32, 16), below_skip_mask, strict=True):
        shapes = {n: tuple(p.shape) for n, p in cell.named_parameters() if n.endswith("weight")}
        assert shapes == {
            "gates.weight": ((1 + resets) * hidden, inputs + 2 * hidden, 3, 3),
            "current.weight": (hidden, inputs, 3, 3),
            "reset_hidden.weight": (hidden, hidden, 3, 3),
        }
    if resets == 1:
        assert parameters(decoder) == 2_009_761
