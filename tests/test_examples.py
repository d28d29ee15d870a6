"""The examples that a person copies do what they say, on tiny data."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from examples.segment_video import segment
from examples.train_cell import train as train_cell
from vos_lightning.configuration import compose_train
from vos_lightning.data.images import read_mask, write_mask
from vos_lightning.models.rvos.propagate import MaskPropagation
from vos_lightning.runs.load import load_run
from vos_lightning.runs.train import train

SIZE = (48, 80)
SPEC = ["data.spec.train=2", "data.spec.val=1", "data.spec.test=1", "data.spec.frames=5"]
TINY = [*SPEC, "model.hidden=16", "data.size=[64,96]", "data.batch_size=2", "train.max_steps=1"]


@pytest.fixture
def tiny(tmp_path: Path) -> list[str]:
    return [*TINY, f"data.cache={tmp_path}/cache", f"run.root={tmp_path}/runs", "run.frame_cache=null"]


def test_a_folder_of_frames_is_segmented_with_a_runs_folder(tiny: list[str], tmp_path: Path) -> None:
    train(compose_train(tiny))
    (run,) = (path.parent for path in tmp_path.glob("runs/*/training.json"))
    frames = list(np.random.default_rng(0).integers(0, 256, (3, *SIZE, 3), dtype=np.uint8))
    first = np.zeros(SIZE, np.uint8)
    first[6:26, 8:38] = 2
    (tmp_path / "frames").mkdir()
    for t, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"frames/{t}.png")
    write_mask(tmp_path / "first.png", first)

    segment(run, tmp_path / "frames", tmp_path / "first.png", tmp_path / "masks")

    experiment, network = load_run(run)
    propagation = MaskPropagation(network.eval(), experiment.prediction, (64, 96), proposals=10)
    expected = list(propagation.masks(frames, {0: first}))
    written = [read_mask(tmp_path / f"masks/frames/{t}.png") for t in range(3)]
    assert np.array_equal(written[0], first)
    assert all((mask == other).mean() > 0.99 for mask, other in zip(written, expected, strict=True))


def test_a_cell_trains_a_few_steps(tiny: list[str]) -> None:
    figures = train_cell([*tiny, "model.cell=lstm", "train.max_steps=2"])
    assert set(figures) == {"train/loss", "val/loss", "val/J", "val/F", "val/JF"}
    assert 0 < figures["train/loss"] < 1
