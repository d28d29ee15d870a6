"""What every model of the catalogue keeps, and one from outside that stands in tests/outside alone."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from pycocotools import mask as rle

from helpers import boxes, noise, written
from vos_lightning.apps import predict, table
from vos_lightning.apps.train import help_text
from vos_lightning.configuration import CONF, compose_train
from vos_lightning.data.images import read_mask
from vos_lightning.data.instances import Detections, Image
from vos_lightning.data.video_frames import frames_of
from vos_lightning.data.videos import Given, Video
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
SMALLER = {
    "rvos": ["model.hidden=16"],
    "s2s": ["model.hidden=16", "data.samples=6"],
    "rsis": ["model.hidden=16"],
    "ris": ["model.hidden=8"],
    "strnn": ["model.hidden=8", "model.channels=8", "model.level=res4"],
}
SPEC = "{seed: 0, train: 3, val: 1, test: 1, frames: 5, height: 32, width: 64}"
DATA = ["data.size=[32,64]", "data.batch_size=2", "data.val_clips=2", f"data.spec={SPEC}"]
# What a model draws from -> six examples an epoch, and a data set at the paper's scale.
EXAMPLES: dict[type, str] = {Video: "data.clip_length=2", Image: "data.every=3"}
WHOLE: dict[type, str] = {Video: "data=davis2017", Image: "data=davis2017_frames"}


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
    return lambda architecture: [
        *DATA,
        EXAMPLES[all_models()[architecture].examples.kind],
        *places,
        *machine,
        *SMALLER.get(architecture, []),
    ]


@pytest.fixture
def video(tmp_path: Path) -> Video:
    """Five frames of noise; object 1 is there from the start, object 2 from the third frame on."""
    size = (40, 72)
    masks = {0: boxes((1, 4, 6, 20, 20), size=size)}
    masks[2] = masks[0] + boxes((2, 10, 40, 20, 20), size=size)
    return written(tmp_path / "video", noise(5, size), masks)


def test_these_are_all_models() -> None:
    assert set(ARCHITECTURES) == set(all_models())


@pytest.fixture
def samples(video: Video) -> dict[type, Video | Image]:
    """What a model may be used on, by kind; the image is the video's third frame."""
    (_, image) = frames_of([video], 1, ("object",))
    return {Video: video, Image: image}


def timeless(scores: dict[str, Any]) -> dict[str, Any]:
    """Scores without those of rounds that depend on how long a model took."""
    kept = {key: value for key, value in scores.items() if key not in ("AUC", "JF_60s", "curve")}
    rounds = [{**found, "seconds": 0} for found in scores.get("rounds", [])]
    return kept | {"rounds": rounds}


def check_masks(video: Video, masks: list[np.ndarray], folder: Path, given: Given) -> None:
    """Checks what was found along a video against what was written."""
    assert [(mask.shape, mask.dtype) for mask in masks] == [((40, 72), np.uint8)] * 5
    assert set(np.unique(masks)) <= {0, 1, 2}
    if given.has_masks:
        np.testing.assert_array_equal(masks[0], video.mask(0))
    for path, mask in zip(sorted((folder / video.name).iterdir()), masks, strict=True):
        np.testing.assert_array_equal(read_mask(path), mask)


def check_detections(image: Image, detections: list[Detections], folder: Path) -> None:
    """Checks what was found in an image against what was written."""
    (found,) = detections
    assert found.masks.shape == (len(found), 40, 72) and found.masks.dtype == bool
    assert ((found.scores >= 0) & (found.scores <= 1)).all()
    written = json.loads((folder / f"{image.name}.json").read_text())
    assert [entry["category_id"] for entry in written] == found.categories.tolist()
    for entry, mask in zip(written, found.masks, strict=True):
        np.testing.assert_array_equal(rle.decode(entry["segmentation"]), mask)


@pytest.mark.parametrize("label", CONFIGURATIONS)
def test_a_configuration_composes_builds_and_segments(
    label: str, tiny: Callable[..., list[str]], samples: dict[type, Any], tmp_path: Path
) -> None:
    def experiment(*overrides: str) -> Experiment:
        return read_settings(compose_train([f"model={label}", *overrides])).experiment

    architecture = compose_train([f"model={label}"]).model.architecture
    kind = all_models()[architecture].examples.kind
    with torch.device("meta"):
        whole = experiment("scale=paper", WHOLE[kind], "data.root=/d")
        whole.model.network(without_weights(whole.fields))
    small = experiment(*tiny(architecture))
    assert read_experiment(as_values(small)) == small
    torch.manual_seed(0)
    network = small.model.network(small.fields)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    evaluation = small.model.evaluation(network, small, "cpu")
    found = list(evaluation.write(samples[kind], tmp_path / "found"))
    if kind is Video:
        check_masks(samples[kind], found, tmp_path / "found", small.given)
    else:  # a model that finds no categories says 0
        check_detections(samples[kind], found, tmp_path / "found")
        assert ((found[0].categories > 0) == small.model.classifies(small.fields)).all()
    assert [timing.frames for timing in evaluation.timings] == [len(found)]
    assert before.keys() == network.state_dict().keys()
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_it_trains_resumes_to_the_same_weights_and_is_read_back(
    architecture: str, tiny: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [f"model={architecture}", *tiny(architecture)]
    whole, broken = (compose_train([*options, f"run.dir={tmp_path / name}"]) for name in ("whole", "broken"))
    result = train(whole)
    experiment = read_settings(whole).experiment
    headline = experiment.rules.headline
    assert result["steps"] == 5 and all(result["scores"][key] >= 0 for key in headline.values())
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
    assert timeless(train(broken)["scores"]) == timeless(result["scores"])
    a, b = (read_model_weights(tmp_path / name / "last.ckpt") for name in ("whole", "broken"))
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)

    experiment, network = load_run(tmp_path / "whole")
    evaluation = experiment.model.evaluation(network, experiment, "cpu")
    scored, again = experiment.data_set.samples("test")[0], tmp_path / "again"
    assert list(evaluation.write(scored, again))
    files = [path for path in again.rglob("*") if path.is_file()]
    folder = Run.of(read_settings(whole)).evaluation.masks
    assert files and all(
        path.read_bytes() == (folder / path.relative_to(again)).read_bytes() for path in files
    )


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
