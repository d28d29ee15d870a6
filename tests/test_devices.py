"""What is decided about CUDA devices, checked without one."""

import mmap
from types import SimpleNamespace

import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from pytorch_lightning import Trainer

from vos_lightning import configuration
from vos_lightning.apps import train as apps_train
from vos_lightning.configuration import compose_train, cores
from vos_lightning.data.modules import TrainingData
from vos_lightning.devices import choose_arithmetic, choose_device
from vos_lightning.errors import InputError
from vos_lightning.runs import train as training
from vos_lightning.runs.memory import peak_memory, restart_peak_memory
from vos_lightning.runs.settings import read_settings


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.parametrize(
    ("there", "visible", "usable"),
    [(2, None, 2), (2, "1", 1), (2, "", 0), (2, "-1", 0), (4, "2,0,-1,1", 2), (0, "0", 0), (0, None, 0)],
)
def test_gpus_are_counted_as_cuda_counts_them(monkeypatch, there, visible, usable):
    def listed(folder, pattern):
        return [folder / f"nvidia{i}" for i in range(there)] if str(folder) == "/dev" else []

    monkeypatch.setattr(configuration.Path, "glob", listed)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert configuration.gpus() == usable


def test_a_sweep_runs_one_job_a_gpu_or_one_a_core(monkeypatch):
    monkeypatch.setattr(configuration, "gpus", lambda: 3)
    assert compose_train(["scale=embedded"]).run.jobs == 3
    assert compose_train(["scale=embedded", "run.accelerator=cpu"]).run.jobs == cores()
    monkeypatch.setattr(configuration, "gpus", lambda: 0)
    assert compose_train(["scale=embedded"]).run.jobs == cores()


def test_the_device_is_the_one_asked_for(two_gpus):
    assert choose_device("auto") == choose_device("cuda", 0) == torch.device("cuda", 0)
    assert choose_device("auto", 1) == torch.device("cuda", 1)
    assert choose_device("cpu", 7) == torch.device("cpu")
    with pytest.raises(InputError, match=r"run\.device=2: there are 2 CUDA devices"):
        choose_device("auto", 2)
    with pytest.raises(InputError, match=r"run\.accelerator=tpu: "):
        choose_device("tpu")


def test_the_jobs_of_a_sweep_take_turns_on_the_gpus(two_gpus, monkeypatch):
    taken = []
    monkeypatch.setattr(training, "train", lambda cfg, *_: taken.append(cfg.run.device))
    for number, given in ((0, []), (3, []), (3, ["run.device=0"])):
        job = SimpleNamespace(mode=RunMode.MULTIRUN, job=SimpleNamespace(num=number))
        job.sweeper = SimpleNamespace(params={"model.cell": "gru"})
        job.runtime = SimpleNamespace(choices={})
        monkeypatch.setattr(HydraConfig, "get", lambda job=job: job)
        apps_train._run(compose_train(given))
    assert taken == [0, 1, 0]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_auto_is_the_cpu():
    assert choose_device("auto", 1) == torch.device("cpu")
    with pytest.raises(InputError, match="there are 0 CUDA devices"):
        choose_device("cuda")


@pytest.mark.parametrize("tf32", [True, False])
def test_tf32_is_decided_for_convolutions_and_products(tf32):
    backends = torch.backends.cudnn, torch.backends.cuda.matmul
    try:
        choose_arithmetic(not tf32)
        choose_arithmetic(tf32)
        assert [backend.allow_tf32 for backend in backends] == [tf32, tf32]
        assert torch.get_float32_matmul_precision() == ("high" if tf32 else "highest")  # Lightning asks
        assert torch.backends.cudnn.benchmark
    finally:
        choose_arithmetic(False)


def test_memory_is_pinned_for_a_run_on_cuda_alone(two_gpus, tmp_path):
    spec = "data.spec={train: 2, val: 1, test: 1, frames: 6, height: 64, width: 96, seed: 0}"
    settings = read_settings(compose_train([spec, f"data.cache={tmp_path}", f"run.frame_cache={tmp_path}"]))
    experiment = settings.experiment
    loading = settings.machine.loading
    data = TrainingData(experiment.data_set, experiment.examples, experiment.fields.slots, 0, loading)
    data.setup()
    data.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    assert not data.val_dataloader().pin_memory
    data.trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cuda", 0)))
    assert data.val_dataloader().pin_memory


def test_a_runs_peak_is_not_that_of_the_run_before():
    cpu = torch.device("cpu")
    restart_peak_memory(cpu)
    before = peak_memory(cpu)
    with mmap.mmap(-1, 2**28) as held:  # which is given back, also by an allocator that keeps memory
        held.write(bytes(2**28))
    assert peak_memory(cpu) > before + 2**27
    restart_peak_memory(cpu)
    assert peak_memory(cpu) < before + 2**27


def test_the_peak_of_a_device_starts_again_before_its_first_tensor(monkeypatch):
    asked = []
    for name in ("init", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda *_, name=name: asked.append(name))
    restart_peak_memory(torch.device("cuda", 0))
    assert asked == ["init", "reset_peak_memory_stats"]
