"""What every model of the catalogue keeps, and one from outside that stands in tests/outside alone."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from helpers import boxes, noise, written
from vos_lightning.apps import predict, table
from vos_lightning.apps.train import help_text
from vos_lightning.configuration import CONF, compose_train
from vos_lightning.data.images import read_mask
from vos_lightning.data.videos import Video
from vos_lightning.fields import without_weights
from vos_lightning.layers.weights import read_model_weights
from vos_lightning.models.catalogue import MODELS, all_models
from vos_lightning.models.interface import Experiment
from vos_lightning.models.training import TrainingModule
from vos_lightning.runs.load import load_run
from vos_lightning.runs.run import Run
from vos_lightning.runs.settings import as_values, read_experiment, read_settings, settings_of
from vos_lightning.runs.sweep import expand
from vos_lightning.runs.train import train

OUTSIDE = Path(__file__).parent / "outside"
ARCHITECTURES = (*MODELS, "carried")
CONFIGURATIONS = sorted(
    p.stem for place in (CONF, *OUTSIDE.glob("*/conf")) for p in place.glob("model/*.yaml")
)
SMALLER = {"rvos": ["model.hidden=16"], "s2s": ["model.hidden=16", "data.samples=6"]}
SPEC = "{seed: 0, train: 3, val: 1, test: 1, frames: 5, height: 32, width: 64}"
DATA = [
    "data.size=[32,64]",
    "data.clip_length=2",
    "data.batch_size=2",
    "data.val_clips=2",
    f"data.spec={SPEC}",
]


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the package in tests/outside importable, with its entry point, as pip would."""
    monkeypatch.syspath_prepend(OUTSIDE)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[str]]:
    """Overrides of a run of seconds, for an architecture."""
    root = tmp_path_factory.mktemp("contract")
    places = [f"data.cache={root}", f"run.root={root}/runs", f"run.frame_cache={root}/frames"]
    machine = ["run.threads=1", "run.accelerator=cpu", "train.stages=[{epochs: 2}]", "train.max_steps=5"]
    return lambda architecture: [*DATA, *places, *machine, *SMALLER.get(architecture, [])]


@pytest.fixture
def video(tmp_path: Path) -> Video:
    """Five frames of noise; object 1 is there from the start, object 2 from the third frame on."""
    size = (40, 72)
    masks = {0: boxes((1, 4, 6, 20, 20), size=size)}
    masks[2] = masks[0] + boxes((2, 10, 40, 20, 20), size=size)
    return written(tmp_path / "video", noise(5, size), masks)


def test_these_are_all_models() -> None:
    assert set(ARCHITECTURES) == set(all_models())


@pytest.mark.parametrize("label", CONFIGURATIONS)
def test_a_configuration_composes_builds_and_segments_a_video(
    label: str, tiny: Callable[..., list[str]], video: Video, tmp_path: Path
) -> None:
    def experiment(*overrides: str) -> Experiment:
        return read_settings(compose_train([f"model={label}", *overrides])).experiment

    with torch.device("meta"):
        whole = experiment("scale=paper", "data=davis2017", "data.root=/d")
        whole.model.network(without_weights(whole.fields))
    small = experiment(*tiny(whole.fields.architecture))
    assert read_experiment(as_values(small)) == small
    torch.manual_seed(0)
    network = small.model.network(small.fields)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    evaluation = small.model.evaluation(network, small, "cpu")
    masks = list(evaluation.write(video, tmp_path / "masks"))
    assert [(mask.shape, mask.dtype) for mask in masks] == [((40, 72), np.uint8)] * 5
    assert set(np.unique(masks)) <= {0, 1, 2}
    np.testing.assert_array_equal(masks[0], video.mask(0))
    for path, mask in zip(sorted((tmp_path / "masks" / video.name).iterdir()), masks, strict=True):
        np.testing.assert_array_equal(read_mask(path), mask)
    assert [timing.frames for timing in evaluation.timings] == [5]
    assert before.keys() == network.state_dict().keys()
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_it_trains_resumes_to_the_same_weights_and_is_read_back(
    architecture: str, tiny: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [f"model={architecture}", *tiny(architecture)]
    whole, broken = (compose_train([*options, f"run.dir={tmp_path / name}"]) for name in ("whole", "broken"))
    result = train(whole)
    assert result["steps"] == 5 and 0 <= result["scores"]["JF"] <= 1
    ended = TrainingModule.on_train_batch_end

    def fail(self: TrainingModule, *arguments: Any) -> None:
        ended(self, *arguments)
        if self.trainer.global_step == 4:
            raise RuntimeError("interrupted")

    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "on_train_batch_end", fail)
        with pytest.raises(RuntimeError, match="interrupted"):
            train(broken)
    assert Run.of(read_settings(broken)).training.status()["step"] == 3  # the end of the first epoch
    assert train(broken)["scores"] == result["scores"]
    a, b = (read_model_weights(tmp_path / name / "last.ckpt") for name in ("whole", "broken"))
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)

    experiment, network = load_run(tmp_path / "whole")
    evaluation = experiment.model.evaluation(network, experiment, "cpu")
    (scored,) = experiment.data_set.videos("test")
    folder = Run.of(read_settings(whole)).evaluation.masks / scored.name
    for t, mask in enumerate(evaluation.write(scored, tmp_path / "again")):
        np.testing.assert_array_equal(mask, read_mask(folder / f"{scored.frames[t].stem}.png"))


def test_the_help_names_a_model_from_outside() -> None:
    assert sum("carried" in line.split(maxsplit=1)[-1] for line in help_text().splitlines() if line) == 3


def test_a_model_from_outside_stands_in_a_table_and_segments_a_video(
    tiny: Callable[..., list[str]], video: Video, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = ["sweeps=carried", *tiny("carried"), f"run.root={tmp_path}/runs"]
    for cell in expand(overrides):
        run = Run.of(settings_of(cell.config))
        assert "carried/model.py" in run.training.identity["sources"]
        train(OmegaConf.create(cell.config))
    with pytest.raises(SystemExit, match="0"):
        table.main(overrides)
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines if " 0  " in line} == {"yes", "no"}
    frames, masks = tmp_path / "frames", tmp_path / "masks"
    for folder in (frames, masks):
        folder.mkdir()
    for frame, mask in zip(video.frames, video.masks, strict=True):
        shutil.copy(frame, frames / frame.name)
        if mask is not None:
            shutil.copy(mask, masks / frame.name)
    out = tmp_path / "out"
    predict.main([*map(str, (run.training.path, out, "--frames", frames, "--masks", masks))])
    assert len(list(out.glob("frames/*.png"))) == 5
