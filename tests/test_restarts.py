"""Runs that are interrupted, by whatever, and go on as if they had not been."""

import csv
import errno
import json
import multiprocessing
import os
import signal
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from pytorch_lightning import Trainer

from vos_lightning.apps.cli import report_errors
from vos_lightning.configuration import compose_train
from vos_lightning.data.clips import ClipDataset
from vos_lightning.data.object_clips import ObjectClips
from vos_lightning.errors import InputError
from vos_lightning.evaluation import videos
from vos_lightning.models.rvos.module import MaskTraining
from vos_lightning.processes import Interrupted
from vos_lightning.runs.callbacks import Progress
from vos_lightning.runs.run import Run
from vos_lightning.runs.settings import read_settings
from vos_lightning.runs.train import train

Compose = Callable[..., DictConfig]

COMMON = [
    *("scale=embedded", "model.hidden=16", "data.batch_size=2", "data.val_clips=1", "data.submit_split=null"),
    *("run.threads=1", "run.accelerator=cpu"),
]
RVOS = [
    *("model=rvos", "data.spec={train: 4, val: 1, test: 2, frames: 6, height: 64, width: 96}"),
    *("data.size=[32, 64]", "data.clip_length=2", "optim.warmup_steps=5", "data.score_split=val"),
    "train.stages=[{epochs: 1, previous_mask: ground_truth, keep: val_loss}, {epochs: 1}]",
]
S2S = [
    *("model=s2s", "data=synthetic_youtube", "model.bn=frozen", "optim.lr=1e-4", "data.samples=9"),
    "data.spec={train: 4, valid: 1, test: 0, frames: 4, height: 32, width: 64}",
    *("data.size=[32, 64]", "data.clip_length=[3, 5]", "data.augment=true"),
    "train.stages=[{epochs: 2, patience: 1}, {epochs: 1, frames: all}]",
]
OFTEN = "run.checkpoint_minutes=1e-9"  # at every step


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def compose(cache: Path, tmp_path: Path) -> Compose:
    def composed(name: str, *options: str) -> DictConfig:
        places = [f"data.cache={cache}", f"run.frame_cache={cache}/frames", f"run.dir={tmp_path}/{name}"]
        return compose_train([*COMMON, *options, *places])

    return composed


def state(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "last.ckpt", weights_only=True)


def history(folder: Path) -> list[Any]:
    """metrics.csv without seconds, and losses.csv."""
    with (folder / "metrics.csv").open(newline="") as file:
        rows = [[value for key, value in row.items() if key != "seconds"] for row in csv.DictReader(file)]
    return [rows, (folder / "losses.csv").read_text()]


def status(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "status.json").read_text())


def evaluation(folder: Path) -> Path:
    """The folder of a run's only evaluation."""
    (result,) = folder.glob("*/identity.json")
    return result.parent


class Killed(BaseException):
    """Stands for what ends a process without notice."""


@pytest.mark.parametrize(
    ("options", "kills", "workers"), [(RVOS, (2, 6, 9), (0, 2, 2, 0)), (S2S, (1, 6, 11), (0, 2, 2, 2))]
)
def test_a_restart_at_any_batch_changes_nothing(
    compose: Compose,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    kills: tuple[int, ...],
    workers: tuple[int, ...],
) -> None:
    train(compose("whole", *options))
    read: list[Any] = []  # by the training process
    for dataset in (ClipDataset, ObjectClips):

        def get(self, key, get=dataset.__getitem__):
            read.append(key)
            return get(self, key)

        monkeypatch.setattr(dataset, "__getitem__", get)
    broken = [compose("broken", *options, OFTEN, f"run.loader_workers={count}") for count in workers]
    save = Trainer.save_checkpoint
    for cfg, kill in zip(broken, kills, strict=False):  # steps, inside epochs and at their ends

        def fail(self, path, kill=kill, **more):
            if self.global_step == kill:
                raise Killed
            save(self, path, **more)

        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(Trainer, "save_checkpoint", fail)
            train(cfg)
        assert status(tmp_path / "broken")["step"] == kill - 1
    read.clear()
    train(broken[-1])

    ours, expected = state(tmp_path / "broken"), state(tmp_path / "whole")
    assert ours["stages"] == expected["stages"] and ours["global_step"] == expected["global_step"]
    for key, value in expected["state_dict"].items():
        assert torch.equal(ours["state_dict"][key], value), key
    moments = (run["optimizer_states"][0]["state"] for run in (ours, expected))
    assert all(
        torch.equal(a[k], b[k]) for a, b in zip(*(m.values() for m in moments), strict=True) for k in a
    )
    assert history(tmp_path / "broken") == history(tmp_path / "whole")
    assert not list(tmp_path.glob("broken/previous.ckpt"))
    if workers[-1] == 0:  # what was trained on before is not read again: the last batches, validation's clip
        assert len(read) == 2 * (expected["global_step"] - kills[-1] + 1) + 1


def broken_by(monkeypatch: pytest.MonkeyPatch, at: int, break_model: Callable[[MaskTraining], Any]) -> None:
    """Does something before the step of this number."""
    step = MaskTraining.training_step

    def training_step(self, clip, index):
        if self.global_step == at:
            break_model(self)
        return step(self, clip, index)

    monkeypatch.setattr(MaskTraining, "training_step", training_step)


def test_a_run_of_few_steps_takes_no_epoch_twice(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(task: MaskTraining) -> None:
        raise Killed

    cfg = compose("run", *RVOS, "train.max_steps=8")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        broken_by(patch, 6, fail)  # the first step of an epoch
        train(cfg)
    for _ in range(2):  # from its epoch, and when all is trained
        assert train(cfg)["steps"] == 8
        assert [row[:2] for row in history(tmp_path / "run")[0]] == [["0", "6"], ["1", "8"]]
        (tmp_path / "run/training.json").unlink()
        (evaluation(tmp_path / "run") / "result.json").unlink()


def test_training_ends_where_the_loss_is_no_number(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = compose("run", *RVOS)
    with monkeypatch.context() as patch:
        broken_by(patch, 8, lambda task: task.model.decoder.conv_out.bias.data.fill_(float("nan")))
        keys: list[Any] = []
        get = ClipDataset.__getitem__
        patch.setattr(ClipDataset, "__getitem__", lambda self, key: keys.append(key) or get(self, key))
        with pytest.raises(SystemExit) as ended, report_errors("vos-train"):
            train(cfg)
    assert ended.value.code == 2
    said = capsys.readouterr().err.strip()
    data = read_settings(cfg).experiment
    videos = data.data_set.videos("train")
    windows = data.examples.training(videos, data.fields.slots, data.seed, None)
    clips = [key for key in keys if key[0] == 1][4:6]  # epoch 1, its third batch; step 9
    assert said.startswith("vos-train: Step 9: the loss must be finite") and said.count("\n") == 0
    assert all(windows.name(key) in said for key in clips)
    assert status(tmp_path / "run")["state"] == "failed" and not list(tmp_path.glob("run/*/result.json"))
    kept = state(tmp_path / "run")
    assert kept["global_step"] == 6
    assert all(value.isfinite().all() for value in kept["state_dict"].values())


def test_weights_that_are_no_numbers_are_not_kept(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def poison(task: MaskTraining) -> None:  # the loss stays finite, the gradient does not
        task.model.decoder.conv_out.bias.register_hook(lambda gradient: gradient * float("nan"))

    broken_by(monkeypatch, 3, poison)
    with pytest.raises(InputError, match="Step 4: the weights after it must be finite"):
        train(compose("run", *RVOS, "train.gradient_clip=0", OFTEN))
    assert state(tmp_path / "run")["global_step"] == 3


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_run_after_the_present_step(
    compose: Compose,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: int,
    code: int,
) -> None:
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    broken_by(monkeypatch, 2, lambda task: os.kill(os.getpid(), number))
    with pytest.raises(SystemExit) as ended, report_errors("vos-train"):
        train(compose("run", *RVOS))
    assert ended.value.code == code
    said = capsys.readouterr().err.strip()
    assert said == f"vos-train: {tmp_path / 'run'}: interrupted; the same command goes on from step 3."
    assert status(tmp_path / "run")["state"] == "interrupted"
    assert state(tmp_path / "run")["global_step"] == 3
    assert handlers == (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT))


@pytest.mark.parametrize(("owner", "hook"), [(MaskTraining, "validation_step"), (Progress, "on_train_end")])
def test_a_signal_outside_of_steps_ends_a_run_with_its_checkpoint(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: type, hook: str
) -> None:
    called = getattr(owner, hook)

    def signalled(self, *args):
        monkeypatch.setattr(owner, hook, called)  # a second signal would not wait
        os.kill(os.getpid(), signal.SIGTERM)
        return called(self, *args)

    cfg = compose("run", *RVOS, "data.batch_size=1", "data.val_clips=3")
    monkeypatch.setattr(owner, hook, signalled)
    with pytest.raises(Interrupted) as ended:
        train(cfg)
    step = state(tmp_path / "run")["global_step"]
    assert step > 0 and f"goes on from step {step}" in ended.value.sentence
    assert status(tmp_path / "run")["state"] == "interrupted"
    train(cfg)
    assert status(tmp_path / "run")["state"] == "finished"


def test_a_signal_to_all_processes_of_a_run_waits_for_the_present_step(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    get, this, told = ClipDataset.__getitem__, os.getpid(), tmp_path / "told"

    def signalled(self, key):
        if os.getpid() != this and not told.exists():
            told.touch()
            time.sleep(0.5)  # until the training process waits for this batch
            for pid in (this, os.getpid()):
                os.kill(pid, signal.SIGTERM)
        return get(self, key)

    monkeypatch.setattr(ClipDataset, "__getitem__", signalled)
    with pytest.raises(Interrupted):
        train(compose("run", *RVOS, "run.loader_workers=1"))
    assert told.exists() and state(tmp_path / "run")["global_step"] == 1


def test_a_killed_run_leaves_no_process_and_counts_as_interrupted(compose: Compose, tmp_path: Path) -> None:
    cfg = compose("run", *S2S, OFTEN, "run.loader_workers=2", "data.samples=400")
    run = Run.of(read_settings(cfg)).training
    process = multiprocessing.get_context("fork").Process(target=train, args=[cfg])
    process.start()
    assert process.pid
    deadline = time.monotonic() + 60
    while not run.checkpoint.is_file():
        assert time.monotonic() < deadline and process.is_alive()
        time.sleep(0.05)
    assert run.status()["state"] == "running"
    loaders = children(process.pid)
    process.kill()
    process.join()
    assert len(loaders) == 2
    while any(is_there(pid) for pid in loaders):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert run.status()["state"] == "interrupted"


class Unwanted(Exception):
    """Stands for work that must not be done."""


def unwanted(*_: Any) -> None:
    raise Unwanted


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_end_while_scoring_scores_again_without_training(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    cfg, write = compose("run", *RVOS, "train.max_steps=1"), videos.write_mask

    def signalled(path: Path, mask: Any) -> None:
        write(path, mask)
        os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(videos, "write_mask", signalled)
        process = multiprocessing.get_context("fork").Process(target=train, args=[cfg])
        process.start()
        process.join(60)
    run = Run.of(read_settings(cfg))
    assert process.exitcode == (1 if number == signal.SIGTERM else -number)
    assert run.state() == "interrupted" and run.training.status()["state"] == "finished"
    assert run.evaluation.result() is None and len(list(run.evaluation.masks.rglob("*.png"))) == 1
    weights = run.training.checkpoint.stat().st_mtime_ns
    monkeypatch.setattr(MaskTraining, "training_step", unwanted)
    assert train(cfg)["steps"] == 1 and run.state() == "finished"
    assert run.training.checkpoint.stat().st_mtime_ns == weights
    assert len(list(run.evaluation.masks.rglob("*.png"))) == 6


def children(parent: int) -> list[int]:
    tasks = Path(f"/proc/{parent}/task").iterdir()
    return [int(pid) for task in tasks for pid in (task / "children").read_text().split()]


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def interrupted(cfg: DictConfig, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        broken_by(patch, at - 1, lambda task: os.kill(os.getpid(), signal.SIGTERM))
        train(cfg)


def test_broken_checkpoints_are_set_aside(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg, folder = compose("run", *RVOS, OFTEN), tmp_path / "run"
    interrupted(cfg, monkeypatch, 3)
    for content in (b"", (folder / "last.ckpt").read_bytes()[:5000]):
        (folder / "last.ckpt").write_bytes(content)
        interrupted(cfg, monkeypatch, 4)  # from step 2, then from step 3
        assert "not a readable checkpoint" in (said := capsys.readouterr().out)
        assert said.count("goes on from previous.ckpt") == 1
        assert state(folder)["global_step"] == 4
    torch.save({"state_dict": {}}, folder / "last.ckpt")
    (folder / "previous.ckpt").unlink()
    interrupted(cfg, monkeypatch, 2)
    said = capsys.readouterr().out
    assert "not a checkpoint of vos-train" in said and "begins anew" in said
    assert state(folder)["global_step"] == 2


def test_a_full_disk_leaves_what_was_kept(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg, write = compose("run", *RVOS, OFTEN), Path.write_bytes

    def full(self: Path, content: Any) -> int:
        if status(tmp_path / "run")["step"] == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, content)

    with monkeypatch.context() as patch, pytest.raises(InputError, match=r"No space left on device"):
        patch.setattr(Path, "write_bytes", full)
        train(cfg)
    assert state(tmp_path / "run")["global_step"] == 3
    assert status(tmp_path / "run")["state"] == "failed"
    assert not list(tmp_path.glob("run/.*.partial")) and not list(tmp_path.glob("run/new.ckpt"))


def test_a_split_that_comes_after_a_run_had_finished_is_zipped(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [*RVOS, "data.submit_split=test", "train.max_steps=1"]
    cfg = compose("run", *options)
    data = type(read_settings(cfg).experiment.data_set)
    with monkeypatch.context() as patch:
        patch.setattr(data, "splits", lambda self: ["train", "val"])
        before = train(cfg)
    assert before["submission"] is None
    weights = (tmp_path / "run/last.ckpt").stat().st_mtime_ns
    after = train(cfg)
    assert after == {**before, "submission": str(evaluation(tmp_path / "run") / "test.zip")}
    assert json.loads((evaluation(tmp_path / "run") / "result.json").read_text()) == after
    assert (tmp_path / "run/last.ckpt").stat().st_mtime_ns == weights
    with zipfile.ZipFile(after["submission"]) as archive:
        assert len(archive.namelist()) == 2 * 6
