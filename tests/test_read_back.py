"""Folders of runs and checkpoints that come from others: what is read back from them, and what is refused."""

import errno
import json
import os
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from vos_lightning import configuration
from vos_lightning.apps.predict import main
from vos_lightning.configuration import build_model
from vos_lightning.data.davis import load_davis
from vos_lightning.data.synthetic import SyntheticSpec, write_synthetic
from vos_lightning.errors import InputError
from vos_lightning.evaluation import videos as evaluation
from vos_lightning.evaluation.videos import load_run
from vos_lightning.layers.weights import checkpoint_hash, load_strictly, read_model_weights
from vos_lightning.plain import parse_yaml
from vos_lightning.runs.folder import read_result, scored_weights, settings
from vos_lightning.runs.sweep import compose_train
from vos_lightning.scoring.rules import DavisRules

SMALL = ["scale=embedded", "model.hidden=8", "data.size=[32,64]"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder without a result."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    folder.mkdir()
    cfg = compose_train(SMALL)
    (folder / "config.yaml").write_text(json.dumps(settings(cfg) | {"data_version": {"train": "x"}}))
    state = {f"model.{key}": value for key, value in build_model(cfg.model).state_dict().items()}
    torch.save({"state_dict": state}, folder / "last.ckpt")
    return folder


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    """A copy of it whose files may be replaced."""
    folder = tmp_path / "runs" / "run"
    folder.mkdir(parents=True)
    for path in whole.iterdir():
        os.link(path, folder / path.name)
    return folder


def edited(run: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = run / "config.yaml"
    content = json.loads(path.read_text())
    edit(content)
    path.unlink()
    path.write_text(json.dumps(content))


def refusal(run: Path, *overrides: str) -> str:
    with pytest.raises(InputError) as raised:
        load_run(run, overrides)
    assert "\n" not in str(raised.value)
    return str(raised.value)


# --- config.yaml -----------------------------------------------------------------------------------------


def test_fields_that_came_later_have_their_defaults_and_those_gone_are_ignored(run: Path) -> None:
    def edit(content: dict[str, Any]) -> None:
        content["train"] |= {"channels_last": True, "evaluate": "last"}
        del content["predict"]["tf32"], content["model"]["architecture"], content["train"]["stages"]

    edited(run, edit)
    cfg, _ = load_run(run)
    assert cfg.predict.tf32 is False and cfg.model.architecture == "rvos"
    assert "evaluate" not in cfg.train and cfg.data.size == [32, 64]


LAUGHS = "a: &a [x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in pairwise("abcdefghi")
)
HOSTILE = {
    "seed: ${oc.env:HOME}": "interpolation",
    "model: {weights: 'x${oc.env:HOME}'}": "interpolation",
    "seed: !!python/object/apply:os.system [ls]": "tag",
    "seed: !!int 1": "tag",
    LAUGHS: "alias",
    "model: {_target_: os.system}": "_target_ cannot be a key",
    "model: {backbones: x}": r"model\.backbones: no such field",
    "nothing: 1": "nothing: no such field",
    '"\\e[2J": 1': r"'\\x1b\[2J': no such field",
    "1: 2": "1 cannot be a key",
    "seed: 2020-01-01": "is a date",
    "seed: [": "not readable YAML",
    "seed: a\n---\nseed: b": "not readable YAML",
    "seed: \x00": "not readable YAML",
    "[seed]": "must hold KEY: VALUE",
    "": "must hold KEY: VALUE",
    "model: 5": "model=5: must have fields",
    "model: {hidden: '8'}": r"model\.hidden=8: must be a whole number",
    "data: {size: 64}": r"data\.size=64: must be",
    "seed: 1": "has no model",
    "model: {name: x}": r"has no data\.size",
    "seed: " + "[" * 5000: "inside each other",
    "seed: " + "9" * 5000: "not readable YAML",
    "seed: 0x" + "f" * 6000: "more than 63 bits",
    "seed: {? 0x" + "f" * 6000 + " : 1}": "more than 63 bits",
    "seed: 1" + ":1" * 300 + ".5": "not readable YAML",
    "seed: '" + "9" * 70_000 + "'": "larger than 64 KiB",
}


@pytest.mark.parametrize(("text", "words"), HOSTILE.items(), ids=range(len(HOSTILE)))
def test_a_config_that_holds_more_than_plain_known_values_is_refused(
    run: Path, text: str, words: str
) -> None:
    (run / "config.yaml").unlink()
    (run / "config.yaml").write_text(text)
    with pytest.raises(InputError, match=words) as raised:
        load_run(run)
    sentence = str(raised.value)
    assert (
        sentence.startswith(f"{run / 'config.yaml'}: ")
        and os.environ["HOME"] not in sentence[len(str(run)) :]
    )


LONG = "seed=0x" + "f" * 6000


def test_numbers_are_read_as_hydra_reads_them() -> None:
    assert parse_yaml("[1e-3, 1.5e+3, -2E5, 1.0e-05]", "x") == [1e-3, 1500.0, -2e5, 1e-5]
    assert parse_yaml("[1e, e3, 1-e3]", "x") == ["1e", "e3", "1-e3"]


@pytest.mark.parametrize(
    "override", ["a", "predict.merge", "a=1", "seed=[", "predict.background=x", "=", "seed=${x}", LONG]
)
def test_overrides_of_another_form_are_refused(run: Path, override: str) -> None:
    assert refusal(run, override).startswith(f"--set {override[:60]}")


# --- result.json -----------------------------------------------------------------------------------------

RESULT: dict[str, Any] = {
    **{"scores": {"JF": 0.5}, "seed": 0, "train_seconds": 1.0, "score_seconds": 1, "code_version": "v"},
    **{"config_hash": "c", "data_version": {}},
}


def finish(run: Path, **fields: Any) -> None:
    (run / "result.json").write_text(json.dumps(RESULT | fields))


@pytest.mark.parametrize(
    "text",
    [
        *("", "[", "5", "[]", "null", "{}", "[" * 100_000, json.dumps(RESULT | {"scores": 5})),
        json.dumps(RESULT | {"timings": [5]}),
        *(json.dumps(RESULT | {"train_seconds": value}) for value in (10**400, float("nan"), -float("inf"))),
        json.dumps(RESULT).replace("1.0", "1e999"),
        json.dumps(RESULT) + " " * 2**24,
        json.dumps(RESULT | {"scores": {"JF": True, "J": [], "F": "x"}, "seed": "0"}),
    ],
)
def test_results_of_another_shape_are_refused(run: Path, text: str) -> None:
    (run / "result.json").write_text(text)
    with pytest.raises(InputError, match=r"result\.json: "):
        read_result(run)


def test_the_weights_are_those_that_were_scored(run: Path) -> None:
    assert scored_weights(run) == run / "last.ckpt"
    best = run / "best-stage2.ckpt"
    best.write_bytes(b"best")
    finish(run, checkpoint="best-stage2.ckpt", checkpoint_hash=checkpoint_hash(best))
    assert scored_weights(run) == best
    other = run.parent / "other"
    other.mkdir()
    (other / "last.ckpt").write_bytes(b"other")
    finish(run, checkpoint="../other/last.ckpt", checkpoint_hash=checkpoint_hash(other / "last.ckpt"))
    assert scored_weights(run) == other / "last.ckpt"
    # Earlier versions wrote the hash alone.
    finish(run, checkpoint_hash=checkpoint_hash(run / "last.ckpt"))
    assert scored_weights(run) == run / "last.ckpt"


def test_weights_that_changed_or_lie_elsewhere_are_refused(run: Path) -> None:
    outside = run.parents[1] / "outside.ckpt"
    outside.write_bytes(b"x")
    for name in ("../../outside.ckpt", str(outside), "../run/../../outside.ckpt", ".."):
        finish(run, checkpoint=name, checkpoint_hash=checkpoint_hash(outside))
        with pytest.raises(InputError, match="is not below"):
            scored_weights(run)
    finish(run, checkpoint="last.ckpt", checkpoint_hash="00000000")
    with pytest.raises(InputError, match=r"last\.ckpt: not the checkpoint that result\.json scored"):
        scored_weights(run)


# --- weights ---------------------------------------------------------------------------------------------

SHAPES: list[Any] = [
    *(5, "text", [1], None, {}, {1: 2}, {"state_dict": []}, {"state_dict": {1: 2}}, {"state_dict": None}),
    *({"state_dict": {"model.x": 5}}, {"state_dict": {"model.encoder": torch.zeros(2)}}, torch.zeros(2)),
]


@pytest.mark.parametrize("content", SHAPES, ids=str)
def test_files_of_another_shape_are_no_checkpoints(run: Path, content: Any) -> None:
    (run / "last.ckpt").unlink()
    torch.save(content, run / "last.ckpt")
    assert refusal(run).startswith(f"{run / 'last.ckpt'}: ")
    official = run / "official"
    official.mkdir()
    for name in ("encoder.pt", "decoder.pt"):
        torch.save(content, official / name)
    with pytest.raises(InputError, match="official"):
        load_strictly(nn.Linear(2, 2), read_model_weights(official), official)


@pytest.mark.parametrize(
    ("weight", "words"),
    [
        (torch.full((2, 2), float("nan")), "weight is not finite"),
        (torch.full((2, 2), float("inf")), "weight is not finite"),
        (torch.zeros(2, 2, dtype=torch.int64), r"weight has type torch\.int64"),
        (torch.zeros(2, 2, dtype=torch.complex64), r"weight has type torch\.complex64"),
        (torch.zeros(2, 2, device="meta"), "on meta"),
        (torch.zeros(1).expand(2, 2), "weight repeats its numbers"),
        (torch.eye(2).to_sparse(), "not a plain tensor"),
        (torch.zeros(2), r"weight has shape \(2,\)"),
        (5, "weight is a int"),
    ],
    ids=str,
)
def test_weights_that_no_network_can_have_are_refused(weight: Any, words: str) -> None:
    with pytest.raises(InputError, match=f"^x: .*{words}"):
        load_strictly(nn.Linear(2, 2, bias=False), {"weight": weight}, "x")


def test_a_checkpoint_that_takes_more_memory_than_its_file_is_refused(run: Path) -> None:
    path = run / "last.ckpt"
    content = {"state_dict": {"model.x": torch.zeros(2**20)}}
    path.unlink()
    torch.save(content, path)
    with zipfile.ZipFile(path) as plain:
        entries = [(name, plain.read(name)) for name in plain.namelist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in entries:
            archive.writestr(name, part)
    assert path.stat().st_size < 2**16 and torch.load(path)["state_dict"]["model.x"].shape == (2**20,)
    assert "not a readable checkpoint (a compressed zip" in refusal(run)


def test_a_checkpoint_of_another_size_is_refused_before_the_model_takes_memory(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds: list[str] = []

    def build(*arguments: Any, **options: Any) -> Any:
        model = build_model(*arguments, **options)
        kinds.extend({weight.device.type for weight in model.parameters()})
        return model

    monkeypatch.setattr(evaluation, "build_model", build)
    assert "another model" in refusal(run, "model.hidden=16") and kinds == ["meta"]


def test_a_checkpoint_holds_all_weights_so_that_none_are_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    from vos_lightning.layers import backbones

    asked: list[Any] = []
    known = backbones.get_model
    monkeypatch.setattr(
        backbones, "get_model", lambda n, weights, **o: asked.append(weights) or known(n, weights=None, **o)
    )
    options = ["model.weights=imagenet", "model.deeplab=true", "model.deeplab_weights=coco"]
    cfg = compose_train(["model=s2s", *SMALL, *options])
    configuration.build_model(cfg.model, trained=True)
    assert asked and set(asked) == {None}


def test_a_field_of_another_network_is_refused() -> None:
    cfg = compose_train([*SMALL, "+model.fc6=true"])
    with pytest.raises(InputError, match=r"model\.fc6: no such field"):
        build_model(cfg.model)


# --- vos-predict -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = SyntheticSpec(train=0, val=3, test=0, frames=2, height=32, width=64)
    return write_synthetic(tmp_path_factory.mktemp("tree"), spec, workers=1)


def end_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The last line of a vos-predict that is refused."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    lines = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2 and len(lines) == 1 and lines[0].startswith("vos-predict: ")
    return lines[0]


def test_an_interrupted_prediction_says_what_is_missing(
    run: Path, tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write = evaluation.write_mask
    for error, words in (
        (OSError(errno.ENOSPC, "No space left"), "No space left"),
        (KeyboardInterrupt(), ""),
    ):

        def fail(path: Path, mask: Any, error: BaseException = error) -> None:
            if path.parent.name == "val-0001":
                raise error
            write(path, mask)

        monkeypatch.setattr(evaluation, "write_mask", fail)
        out = run / f"masks{words[:2]}"
        said = end_of(capsys, run, out, "--root", tree)
        assert words in said and f"1 of 3 videos are written, val-0001, val-0002 not; remove {out}" in said
        assert len(list(out.glob("val-0000/*.png"))) == 2


def test_a_prediction_that_cannot_be_is_refused_in_one_sentence(
    run: Path, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = run / "config.yaml", run / "masks"
    for arguments, words in (
        (
            (run, out, "--root", tree, "--device", "tpu"),
            "--device=tpu: not on this machine; choose",
        ),
        ((run, out, "--root", tree, "--device", "cuda:99"), "--device=cuda:99"),
        ((run, file, "--root", tree), f"{file}: no empty folder"),
        ((run, file / "masks", "--root", tree), f"{file}"),
        ((run, run / ("m" * 400), "--root", tree), "name too long"),
        ((run, out, "--root", run / "nothing"), "nothing: no such folder"),
        ((run, out, "--frames", run / "nothing"), "nothing: no such folder"),
        ((run, out, "--root", tree, "--set", "a"), "--set a: give KEY=VALUE"),
        ((run.parent, out, "--root", tree), "config.yaml: no such file"),
    ):
        assert words in end_of(capsys, *arguments)
    assert not out.exists()


def test_each_prediction_has_a_zip_of_its_own(
    run: Path, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pred.s2").mkdir()
    monkeypatch.chdir(tmp_path / "pred.s2")
    for out in ("../pred.s0", "../pred.s1", "."):
        main([str(part) for part in (run, out, "--root", tree, "--zip", "--device", "cpu")])
    assert sorted(path.name for path in tmp_path.glob("*.zip")) == [f"pred.s{i}.zip" for i in range(3)]


def test_masks_are_written_in_place_of_a_link_and_not_where_it_leads(
    run: Path, tree: Path, tmp_path: Path
) -> None:
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "masks"
    elsewhere.mkdir()
    folder.symlink_to(elsewhere)
    segmenter = configuration.build_segmenter(*load_run(run), "cpu")
    evaluation.segment_and_score(segmenter, load_davis(tree, "val")[:1], DavisRules("unsupervised"), folder)
    assert not list(elsewhere.iterdir()) and not folder.is_symlink() and list(folder.glob("*/*.png"))
