"""What fields of a configuration may hold, and that configurations and the parts that read them agree."""

import re
from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from vos_lightning.apps.cli import report_errors
from vos_lightning.configuration import CONF, ROOT, compose_train
from vos_lightning.data.catalogue import DATA_SETS
from vos_lightning.errors import InputError
from vos_lightning.fields import fields_of
from vos_lightning.models.catalogue import MODELS
from vos_lightning.models.training import Optimisation
from vos_lightning.runs.memory import check_memory
from vos_lightning.runs.settings import Dashboard, Machine, read_settings
from vos_lightning.runs.train import train

FILES = sorted(path for folder in (CONF, ROOT / "sweeps") for path in folder.rglob("*.yaml"))
CHOICES = {group: [path.stem for path in (CONF / group).glob("*.yaml")] for group in ("model", "data")}


@cache
def content_of(path: Path) -> dict[str, Any]:
    """A configuration file as it stands there, without what concerns Hydra."""
    content = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(content, dict)
    return content


def nodes_of(path: Path) -> dict[str, Any]:
    """Node -> the keys that a configuration file sets there."""
    content = {k: v for k, v in content_of(path).items() if k not in ("defaults", "hydra", "table")}
    package = re.match(r"# @package (\w+)", path.read_text())
    name = package[1] if package else path.parent.name
    is_whole = name == "_global_" or path.parent in (CONF, ROOT / "sweeps")
    return content if is_whole else {name: content}


def chosen(path: Path, group: str) -> list[str]:
    """The options of a group with which a file is composed."""
    if path.parent.name == group:
        return [path.stem]
    if group == "model" and path.parent == CONF and path.stem != "train":  # what some models build upon
        return [name for name in CHOICES[group] if path in options_below(group, name)]
    if path.parent.name in ("schedule", "schedule_at_scale", "model_at_scale"):  # MODEL-DATA, ...
        named = [n for n in CHOICES[group] if n in path.stem.split("-")]
        return named or CHOICES[group]
    defaults = content_of(path).get("defaults", [])
    here = [d[f"override /{group}"] for d in defaults if isinstance(d, dict) and f"override /{group}" in d]
    below = [path.with_stem(d) for d in defaults if isinstance(d, str) and d[0] not in "/_"]
    return here or (chosen(below[0], group) if below else CHOICES[group])


def option(group: str, name: str, key: str) -> str:
    """What a key of a group's option says, there or in the option that it builds upon."""
    content = content_of(CONF / group / f"{name}.yaml")
    found = (content.get("model", {}) if group == "model" else content).get(key)
    return found or option(group, content["defaults"][0], key)


def readers(model: str, data: str) -> dict[str, tuple[type, ...]]:
    """Node -> the parts that read it."""
    of = MODELS[option("model", model, "architecture")]
    return {
        "data": (DATA_SETS[option("data", data, "name")], of.examples),
        **{"model": (of.fields,), "train": (of.training,), "predict": (of.prediction,)},
        **{"optim": (Optimisation,), "run": (Machine,), "run.logger": (Dashboard,)},
    }


def check(place: str, values: dict[str, Any], parts: tuple[type, ...]) -> None:
    """That each key is a field of one of the parts, which takes the value."""
    known = {key: field for part in parts for key, field in fields_of(part).items()}
    for key, value in values.items():
        assert key in known, f"{place}.{key} is no field"
        if any(mark in str(value) for mark in ("${", "???")):
            continue
        field = known[key]
        if field.kind is not None:
            assert field.kind.holds(value), f"{place}.{key}={value}"
        else:
            assert field.part is not None
            for item in value if field.many else [value]:
                check(f"{place}.{key}", item, (field.part,))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_key_of_every_configuration_is_a_field_of_the_part_that_reads_it(path: Path) -> None:
    if "hydra" in path.parts:
        return
    for model, data in product(chosen(path, "model"), chosen(path, "data")):
        parts = readers(model, data)
        for node, found in nodes_of(path).items():
            if node == "seed":
                continue
            values = dict(found)
            if node == "run" and (logger := values.pop("logger", None)) is not None:
                check("run.logger", logger, parts["run.logger"])
            check(node, values, parts[node])


def parts_below(parts: tuple[type, ...]) -> Iterator[type]:
    for part in parts:
        yield part
        yield from parts_below(tuple(f.part for f in fields_of(part).values() if f.part is not None))


def options_below(group: str, name: str) -> Iterator[Path]:
    """A group's option and those that it builds upon; /NAME stands in conf/ itself."""
    path = CONF / f"{name[1:]}.yaml" if name.startswith("/") else CONF / group / f"{name}.yaml"
    yield path
    for other in content_of(path).get("defaults", []):
        if isinstance(other, str):
            yield from options_below(group, other)


def test_every_field_has_its_meaning_in_a_configuration() -> None:
    for model, data in product(CHOICES["model"], CHOICES["data"]):
        places = [CONF / "train.yaml", CONF / "logger/wandb.yaml"]
        places += [*options_below("model", model), *options_below("data", data)]
        text = "\n".join(path.read_text() for path in places)
        for part in parts_below(sum(readers(model, data).values(), ())):
            for field in fields_of(part):
                assert re.search(rf"\b{field}:\s", text), f"{part.__name__}.{field} is in no file of conf/"


BAD = [
    *("seed=-1", "seed=a", "seed=1.5", "seed=true", "seed=4294967296", "seed=null"),
    *("data.size=64", "data.size=[64]", "data.size=[0,0]", "data.size=[a,b]", "data.size=[64,9999]"),
    *("data.batch_size=0", "data.batch_size=-1", "data.batch_size=1.5", "data.batch_size=a"),
    *("data.batch_size=null", "data.batch_size=[4]", "data.batch_size={a: 1}", "data.clip_length=1"),
    *("data.clip_length=1000", "data.clip_length=[5,3]", "data.clip_length=[3]", "data.clip_length=a"),
    *("data.val_clips=a", "data.val_clips=-1", "data.augment=1", "data.cache=7"),
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
    *("train.max_steps=-2", "train.gradient_clip=-1", "train.unroll=-1"),
    *("train.precision=x", "train.first=abc", "predict.given_frames=a", "predict.background=a"),
    *(
        "predict.background=2",
        "run=5",
        "model=null",
        "data=[]",
        "train=a",
        "run.threads=0",
        "run.jobs=0",
        "run.jobs=a",
        "run.loader_workers=-1",
    ),
    *("run.accelerator=tpu", "run.keep_free_gib=-1", "run.logger=5", "run.root=[]", 'run.root="a\tb"'),
    *(f"data.submit_split={name}" for name in ("masks", "..", ".", "wandb", "result.json", "a.b")),
    "data.val_split=..",
]
OF_S2S = [
    *("data.samples=-1", "data.draw=a", "predict.online.steps=-1", "predict.online.lr=a"),
    *("predict.online.pairs=0", "predict.online=5", "train.stages=[{epochs: 1, frames: few}]"),
]
UNKNOWN = ["nothing=1", "data.nothing=1", "run.nothing=1", "train.stages=[{epochs: 1, frames: all}]"]
UNKNOWN += ["data.samples=3", "predict.online={}", "model.fc6=true", "run.logger={project: a, place: b}"]


@pytest.fixture(scope="module")
def base() -> dict[str, Any]:
    return {model: compose_train([f"model={model}"]) for model in ("stesa_gru", "s2s")}


@pytest.mark.parametrize(
    ("model", "override"), [*(("stesa_gru", each) for each in BAD), *(("s2s", each) for each in OF_S2S)]
)
def test_a_bad_value_is_one_sentence_that_names_field_and_value(
    base: dict[str, Any], model: str, override: str
) -> None:
    key, value = override.split("=")[0], OverridesParser.create().parse_override(override).value()
    cfg = base[model].copy()
    OmegaConf.update(cfg, key, value, merge=False)
    with pytest.raises(InputError) as raised:
        read_settings(cfg)
    sentence = str(raised.value)
    assert sentence.startswith(key) and "=" in sentence and sentence.count("\n") == 0
    assert re.search(r"must be|must have|unknown; choose", sentence), sentence


@pytest.mark.parametrize("override", UNKNOWN)
def test_a_key_that_no_part_reads_is_refused(base: dict[str, Any], override: str) -> None:
    key, value = override.split("=")[0], OverridesParser.create().parse_override(override).value()
    cfg = base["stesa_gru"].copy()
    OmegaConf.update(cfg, key, value, merge=False, force_add=True)
    with pytest.raises(InputError, match=rf"^{key}.*: no such field; choose some of ") as raised:
        read_settings(cfg)
    assert "\n" not in str(raised.value)


def test_a_number_too_long_to_be_read_is_refused_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, report_errors("vos-train"):
        compose_train(["seed=" + "9" * 5000])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.startswith("vos-train: a whole number takes more than 63 bits")


def test_a_value_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^data\.batch_size=0: must be a whole number from 1 to"):
        train(compose_train(["data.batch_size=0", f"data.cache={tmp_path}/c", f"run.root={tmp_path}/r"]))
    assert not list(tmp_path.iterdir())


def test_a_batch_that_cannot_fit_into_memory_is_refused(base: dict[str, Any]) -> None:
    cfg = base["s2s"].copy()
    cfg.data.size, cfg.data.batch_size, cfg.data.clip_length = [4096, 4096], 4096, 200
    with pytest.raises(InputError, match=r"data\.batch_size=4096: a batch's frames .* take \d+ GiB"):
        check_memory(read_settings(cfg).experiment.examples)
