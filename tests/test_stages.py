"""Stages that end once their loss is stable or keep their best epoch, and runs interrupted between them."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig

from vos_lightning.configuration import compose_train
from vos_lightning.data.clips import Clip
from vos_lightning.data.synthetic_youtube import SyntheticYouTubeSpec, write_synthetic_youtube
from vos_lightning.layers.weights import weights_hash
from vos_lightning.models.s2s.module import StateTraining
from vos_lightning.runs.train import train

SPEC = SyntheticYouTubeSpec(train=6, valid=1, test=0, frames=4, height=32, width=64)
STAGES = "[{epochs: 4, patience: %d}, {epochs: 1, frames: all}]"
STABLE = "optim.lr=1e-5"  # an untrained network's loss is nearly the same on all clips


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cache")
    write_synthetic_youtube(path, SPEC, workers=1)
    return path


def configuration(cache: Path, folder: Path, stages: str, *overrides: str) -> DictConfig:
    spec = ", ".join(f"{key}: {value}" for key, value in vars(SPEC).items())
    return compose_train(
        [
            *("model=s2s", "data=synthetic_youtube", "scale=embedded", "model.hidden=16", "model.bn=frozen"),
            *(f"data.cache={cache}", f"data.spec={{{spec}}}", "data.size=[32, 64]", "data.augment=false"),
            *("data.clip_length=[6, 7]", "data.samples=8", "data.val_clips=1", f"train.stages={stages}"),
            *("optim.schedule=constant", "optim.warmup_steps=0", "optim.backbone_lr=${optim.lr}"),
            *(f"run.dir={folder}", "run.threads=1", "run.accelerator=cpu", f"run.frame_cache={cache}/frames"),
            *overrides,
        ]
    )


def checkpoint(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "last.ckpt", weights_only=True)


def rows(folder: Path) -> list[list[str]]:
    """The epochs of metrics.csv, without seconds."""
    with (folder / "metrics.csv").open(newline="") as file:
        return [[value for key, value in row.items() if key != "seconds"] for row in csv.DictReader(file)]


@pytest.mark.parametrize(("patience", "ends"), [(0, [4, 5]), (1, [2, 5]), (2, [3, 5]), (5, [4, 5])])
def test_a_stable_stage_leaves_its_epochs_to_the_next(
    cache: Path, tmp_path: Path, patience: int, ends: list[int]
) -> None:
    train(configuration(cache, tmp_path, STAGES % patience, STABLE))
    assert checkpoint(tmp_path)["stages"]["ends"] == ends
    assert len(rows(tmp_path)) == 5


def test_the_last_stage_ends_training_once_its_loss_is_stable(cache: Path, tmp_path: Path) -> None:
    cfg = configuration(cache, tmp_path, "[{epochs: 5, patience: 1}]", STABLE)
    train(cfg)
    ended = checkpoint(tmp_path)["stages"]["ends"][-1]
    assert ended < 5 and len(rows(tmp_path)) == ended
    (tmp_path / "training.json").unlink()  # as if it had been interrupted before that was written
    for result in tmp_path.glob("*/result.json"):
        result.unlink()
    train(cfg)
    assert len(rows(tmp_path)) == ended


def test_a_stage_whose_loss_falls_goes_on(cache: Path, tmp_path: Path) -> None:
    train(configuration(cache, tmp_path, STAGES % 1, "optim.lr=3e-3"))
    assert checkpoint(tmp_path)["stages"]["ends"] == [4, 5]


def test_an_interrupted_run_ends_with_the_same_weights(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = (
        configuration(cache, tmp_path / name, STAGES % 1, STABLE, "data.augment=true")
        for name in ("whole", "broken")
    )
    unannotated = []  # of every batch of the whole run
    training_step = StateTraining.training_step

    def watch(self, clip: Clip, index: int):
        unannotated.append(bool((clip.weights == 0).any()))
        return training_step(self, clip, index)

    with monkeypatch.context() as patch:
        patch.setattr(StateTraining, "training_step", watch)
        train(whole)
    assert unannotated == [False] * 4 + [True] * 6

    for epoch in (1, 2, 3):  # inside a stage, where the next starts early, and inside that

        def fail(self, clip: Clip, index: int, epoch: int = epoch):
            if (self.current_epoch, index) == (epoch, 1):
                raise RuntimeError("interrupted")
            return training_step(self, clip, index)

        with monkeypatch.context() as patch:
            patch.setattr(StateTraining, "training_step", fail)
            with pytest.raises(RuntimeError, match="interrupted"):
                train(broken)
        assert checkpoint(tmp_path / "broken")["epoch"] == epoch - 1
    train(broken)

    ours, expected = checkpoint(tmp_path / "broken"), checkpoint(tmp_path / "whole")
    assert ours["stages"] == expected["stages"] and ours["stages"]["ends"] == [2, 5]
    for key, value in expected["state_dict"].items():
        assert torch.equal(ours["state_dict"][key], value), key
    for run in (ours, expected):
        steps = {int(s["step"]) for s in run["optimizer_states"][0]["state"].values()}
        assert steps == {6}  # Adam began anew with the second stage
    assert rows(tmp_path / "broken") == rows(tmp_path / "whole")
    losses = [(tmp_path / name / "losses.csv").read_text() for name in ("broken", "whole")]
    assert losses[0] == losses[1] and losses[0].splitlines()[1:]


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(ours[key], value) for key, value in theirs.items())


@pytest.mark.parametrize(("keep", "best"), [("val_loss", 1), ("val_JF", 2)])
def test_a_stage_starts_from_the_epoch_that_the_one_before_keeps(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: str, best: int
) -> None:
    figures = {"val/loss": [3.0, 1.0, 2.0, 9.0, 5.0], "val/JF": [0.1, 0.2, 0.3, 0.5, 0.4]}  # by epoch

    def validate(self: StateTraining, clip: Clip, index: int) -> None:
        for name, values in figures.items():
            self.log_mean(name, values[self.current_epoch], 1)

    started: list[dict[str, torch.Tensor]] = []  # the weights of the second stage's first step
    training_step = StateTraining.training_step

    def watch(self: StateTraining, clip: Clip, index: int):
        if (self.current_epoch, index) == (3, 0):
            started.append({key: value.clone() for key, value in self.state_dict().items()})
        if (self.current_epoch, index) == (4, 1) and len(started) == 1:
            started.append({})
            raise RuntimeError("interrupted")
        return training_step(self, clip, index)

    monkeypatch.setattr(StateTraining, "validation_step", validate)
    monkeypatch.setattr(StateTraining, "training_step", watch)
    stages = f"[{{epochs: 3, keep: {keep}}}, {{epochs: 2, keep: {keep}}}]"
    cfg = configuration(cache, tmp_path, stages, "optim.lr=1e-3")
    with pytest.raises(RuntimeError, match="interrupted"):
        train(cfg)
    train(cfg)

    kept = torch.load(tmp_path / "best-stage1.ckpt", weights_only=True)
    assert kept["epoch"] == best
    assert same(started[0], kept["state_dict"])
    assert not same(started[0], weights(tmp_path / "last.ckpt"))
    scored = {"val_loss": 4, "val_JF": 3}[keep]
    assert torch.load(tmp_path / "best-stage2.ckpt", weights_only=True)["epoch"] == scored
    assert json.loads(next(tmp_path.glob("*/result.json")).read_text())["checkpoint_hash"] == weights_hash(
        tmp_path / "best-stage2.ckpt"
    )
