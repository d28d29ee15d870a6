"""What fields of a configuration may hold: fresh ones, and those read back from files of others."""

import re
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from vos_lightning import fields
from vos_lightning.apps.cli import report_errors
from vos_lightning.configuration import CONF, ROOT
from vos_lightning.errors import InputError
from vos_lightning.runs.memory import check_memory
from vos_lightning.runs.sweep import compose_train
from vos_lightning.runs.train import train

FILES = sorted(path for folder in (CONF, ROOT / "sweeps") for path in folder.rglob("*.yaml"))


def content_of(path: Path) -> dict[str, Any]:
    """What a configuration file adds to the whole, as it stands there, without its defaults list."""
    content = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(content, dict)
    content.pop("defaults", None)
    package = re.match(r"# @package (\w+)", path.read_text())
    name = package[1] if package else path.parent.name
    is_whole = name == "_global_" or path.parent in (CONF, ROOT / "sweeps")
    return content if is_whole else {} if "hydra" in path.parts else {name: content}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_key_of_every_configuration_has_a_kind_that_holds_its_value(path: Path) -> None:
    chosen = {k: v for k, v in content_of(path).items() if k not in ("hydra", "table")}
    for field, key, value in fields._leaves(chosen):
        assert key in fields.KINDS, f"{field}: add its kind to KINDS of src/vos_lightning/fields.py"
        if not any(mark in str(value) for mark in ("${", "???")):
            assert fields.KINDS[key].holds(value), field


def test_no_kind_is_of_a_key_that_is_gone() -> None:
    known = {key for path in FILES for _, key, _ in fields._leaves(content_of(path))}
    assert set(fields.KINDS) <= known | {"data_version"}
    assert not known & set(fields.GONE)


BAD = [
    *("seed=-1", "seed=a", "seed=1.5", "seed=true", "seed=4294967296", "seed=null"),
    *("data.size=64", "data.size=[64]", "data.size=[0,0]", "data.size=[a,b]", "data.size=[64,9999]"),
    *("data.batch_size=0", "data.batch_size=-1", "data.batch_size=1.5", "data.batch_size=a"),
    *("data.batch_size=null", "data.batch_size=[4]", "data.batch_size={a: 1}", "data.clip_length=1"),
    *("data.clip_length=1000", "data.clip_length=[5,3]", "data.clip_length=[3]", "data.clip_length=a"),
    *("data.val_clips=a", "data.val_clips=-1", "data.samples=-1", "data.augment=1", "data.cache=7"),
    *(
        "data.train_split=null",
        "data.val_split=../val",
        "model.name=a/b",
        "data.spec.frames=a",
        "data.spec.train=1000000",
        "data.spec=5",
    ),
    *("optim.lr=a", "optim.lr=null", "optim.lr=NaN", "optim.lr=inf", "optim.lr=-1", "optim.lr='1e-3'"),
    *("optim.warmup_steps=-1", "optim=5", "model.slots=0", "model.slots=300", "model.hidden=0"),
    *("model.hidden=7", "model.hidden=a", "model.mask_input=yes", "model.cell=[lstm]"),
    *("train.stages=null", "train.stages=[]", "train.stages=[{epochs: 0}]", "train.stages=[{epochs: a}]"),
    *("train.stages=[{epochs: 1, patience: -1}]", "train.stages={epochs: 1}", "train.stages=[abc]"),
    *("train.max_steps=0", "train.max_steps=-2", "train.gradient_clip=-1", "train.unroll=-1"),
    *("train.precision=x", "train.first=abc", "predict.given_frames=a", "predict.background=a"),
    *("predict.background=2", "predict.online.steps=-1", "predict.online.lr=a", "predict.online.pairs=0"),
    *("predict.online=5", "run.threads=0", "run.jobs=0", "run.jobs=a", "run.loader_workers=-1"),
    *("run.accelerator=tpu", "run.keep_free_gib=-1", "run.logger=5", "run.root=[]", 'run.root="a\tb"'),
    *(f"data.submit_split={name}" for name in ("masks", "..", ".", "wandb", "result.json", "a.b")),
    "data.val_split=..",
]


@pytest.fixture(scope="module")
def base() -> Any:
    return compose_train([])


@pytest.mark.parametrize("override", BAD)
def test_a_bad_value_is_one_sentence_that_names_field_and_value(base: Any, override: str) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    key, value = override.split("=")[0], OverridesParser.create().parse_override(override).value()
    cfg = base.copy()
    OmegaConf.update(cfg, key, value, merge=False)
    with pytest.raises(InputError) as raised:
        fields.check_config(cfg)
    sentence = str(raised.value)
    assert sentence.startswith(key) and "=" in sentence and sentence.count("\n") == 0
    assert re.search(r"must be|must have|unknown; choose", sentence), sentence


def test_a_number_too_long_to_be_read_is_refused_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, report_errors("vos-train"):
        compose_train(["seed=" + "9" * 5000])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.startswith("vos-train: a whole number takes more than 63 bits")


def test_a_value_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^data\.batch_size=0: must be a whole number from 1 to"):
        train(compose_train(["data.batch_size=0", f"data.cache={tmp_path}/c", f"run.root={tmp_path}/r"]))
    assert not list(tmp_path.iterdir())


def test_a_batch_that_cannot_fit_into_memory_is_refused(base: Any) -> None:
    cfg = base.copy()
    cfg.data.size, cfg.data.batch_size, cfg.data.clip_length = [4096, 4096], 4096, 200
    with pytest.raises(InputError, match=r"data\.batch_size=4096: a batch's frames .* take \d+ GiB"):
        check_memory(cfg.data)
