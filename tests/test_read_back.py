"""Folders of runs and checkpoints that come from others: what is read back from them, and what is refused."""

import errno
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from vos_lightning.apps.predict import main
from vos_lightning.configuration import compose_train
from vos_lightning.data.davis import load_davis
from vos_lightning.data.synthetic import SyntheticSpec, write_synthetic
from vos_lightning.errors import InputError
from vos_lightning.evaluation import videos as evaluation
from vos_lightning.fields import without_weights
from vos_lightning.layers.weights import load_strictly, weights_hash
from vos_lightning.models.rvos.model import RVOSModel
from vos_lightning.models.rvos.released import released_weights
from vos_lightning.plain import parse_yaml
from vos_lightning.runs.folder import TrainingFolder, read_identity, read_result
from vos_lightning.runs.load import load_run
from vos_lightning.runs.run import scored_checkpoint
from vos_lightning.runs.settings import as_values, read_settings
from vos_lightning.runs.train import train
from vos_lightning.scoring.rules import DavisRules

SMALL = [
    *("scale=embedded", "model.hidden=8", "data.size=[32,64]", "train.max_steps=1", "data.batch_size=1"),
    "data.spec={train: 1, val: 1, test: 1, frames: 5, height: 32, width: 64}",
    *("run.threads=1", "run.accelerator=cpu", "run.frame_cache=null"),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    top = tmp_path_factory.mktemp("runs")
    train(compose_train([*SMALL, f"data.cache={top}/cache", f"run.dir={top}/run"]))
    return top / "run"


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    """A copy of it whose files may be replaced."""
    folder = tmp_path / "runs" / "run"
    shutil.copytree(whole, folder)
    return folder


def scored(run: Path) -> Path:
    """The folder of its evaluation."""
    (result,) = run.glob("*/result.json")
    return result.parent


def edited(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def refusal(run: Path, *overrides: str) -> str:
    with pytest.raises(InputError) as raised:
        load_run(run, overrides)
    assert "\n" not in str(raised.value)
    return str(raised.value)


# --- config.yaml -----------------------------------------------------------------------------------------


def test_a_run_is_read_back_from_any_of_its_paths(run: Path) -> None:
    networks = [load_run(path)[1] for path in (run, scored(run), run / "last.ckpt")]
    states = [network.state_dict() for network in networks]
    assert all(torch.equal(state[key], states[0][key]) for state in states for key in state)
    experiment, _ = load_run(run, ["predict.merge=argmax"])
    assert experiment.prediction.merge == "argmax" and experiment.examples.size == (32, 64)


def test_a_folder_of_an_earlier_version_is_refused(run: Path) -> None:
    (run / "identity.json").unlink()
    assert "versions before 0.2 wrote none" in refusal(run)


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
    "nothing: 1": "nothing: no such field",
    '"\\e[2J": 1': r"'\\x1b\[2J': no such field",
    "1: 2": "1 cannot be a key",
    "seed: 2020-01-01": "is a date",
    "seed: [": "not readable YAML",
    "seed: a\n---\nseed: b": "not readable YAML",
    "seed: \x00": "not readable YAML",
    "[seed]": "must hold KEY: VALUE",
    "": "must hold KEY: VALUE",
    "seed: 1": "data: not set",
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
    (run / "config.yaml").write_text(text)
    with pytest.raises(InputError, match=words) as raised:
        load_run(run)
    sentence = str(raised.value)
    assert (
        sentence.startswith(f"{run / 'config.yaml'}: ")
        and os.environ["HOME"] not in sentence[len(str(run)) :]
    )


FIELDS: list[tuple[str, Any, str]] = [
    ("model", 5, "model=5: must have fields"),
    ("data", None, "data=null: must have fields"),
    ("seed", -1, "seed=-1: must be a whole number"),
    ("model.backbones", "x", r"model\.backbones: no such field"),
    ("model.hidden", "8", r"model\.hidden=8: must be a whole number"),
    ("model.hidden", 2**40, r"model\.hidden=1099511627776: must be a whole number"),
    ("model.architecture", "os.system", r"model\.architecture=os\.system: unknown"),
    ("model.architecture", ["rvos"], r"model\.architecture=.*: must be a name"),
    ("model.fc6", True, r"model\.fc6: no such field"),
    ("model.name", "../x", r"model\.name=\.\./x: must be a name"),
    ("data.name", "x", r"data\.name=x: unknown"),
    ("data.size", 64, r"data\.size=64: must be"),
    ("data.size", [10**9, 10**9], r"data\.size=.*: must be"),
    ("data.score_split", "../../etc", r"data\.score_split=.*: must be a name"),
    ("data.submit_split", "..", r"data\.submit_split=.*: must be a name"),
    ("data.spec", {"train": 10**9}, r"data\.spec\.train=1000000000: must be"),
    ("train.stages", [{"epochs": 1}] * 2 + [5], r"train\.stages=.*: must be a list"),
    ("predict.precision", "fp8", r"predict\.precision=fp8: unknown"),
]


@pytest.mark.parametrize(("field", "value", "words"), FIELDS, ids=range(len(FIELDS)))
def test_a_field_that_is_unknown_or_of_a_wrong_type_or_size_is_refused(
    run: Path, field: str, value: Any, words: str
) -> None:
    content: Any = yaml.safe_load((run / "config.yaml").read_text())
    *nodes, last = field.split(".")
    node = content
    for name in nodes:
        node = node[name]
    node[last] = value
    (run / "config.yaml").write_text(json.dumps(content))
    with pytest.raises(InputError, match=rf"config\.yaml: {words}"):
        load_run(run)


LONG = "seed=0x" + "f" * 6000


def test_numbers_are_read_as_hydra_reads_them() -> None:
    assert parse_yaml("[1e-3, 1.5e+3, -2E5, 1.0e-05]", "x") == [1e-3, 1500.0, -2e5, 1e-5]
    assert parse_yaml("[1e, e3, 1-e3]", "x") == ["1e", "e3", "1-e3"]


@pytest.mark.parametrize(
    "override", ["a", "predict.merge", "a=1", "seed=[", "predict.background=x", "=", "seed=${x}", LONG]
)
def test_overrides_of_another_form_are_refused(run: Path, override: str) -> None:
    assert refusal(run, override).startswith(f"--set {override[:60]}")


# --- JSON ------------------------------------------------------------------------------------------------

READERS: dict[str, Callable[[Path], Any]] = {
    "identity.json": read_identity,
    "training.json": lambda folder: TrainingFolder(folder, {}).outcome(),
    "status.json": lambda folder: TrainingFolder(folder, {}).status(),
    "result.json": read_result,
}
NO_JSON = ["", "[", "5", "[]", "null", "{}", "[" * 100_000, "\x00", '{"a": 1e999}', " " * 2**24 + "{}"]
LEADS: dict[str, Callable[[Path], Any]] = {
    "to nothing": lambda path: path.symlink_to("nothing"),
    "without end": lambda path: path.symlink_to("/dev/zero"),
    "in a circle": lambda path: path.symlink_to(path.name),
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
}


def folder_of(run: Path, name: str) -> Path:
    return scored(run) if name == "result.json" else run


@pytest.mark.parametrize("name", READERS)
def test_files_that_are_no_json_of_theirs_are_refused(run: Path, name: str) -> None:
    folder = folder_of(run, name)
    read, path = READERS[name], folder / name
    content = json.loads(path.read_text())
    deep: Any = 1
    for _ in range(900):
        deep = {"a": deep}
    texts = [json.dumps(content | {"deep": deep}), json.dumps(content | {"a\x1b[2J": 1})]
    texts += [json.dumps(content | {"n": number}) for number in (10**400, float("nan"), -float("inf"))]
    kinds = {
        "identity.json": "data",
        "training.json": "steps",
        "status.json": "state",
        "result.json": "scores",
    }
    texts += [json.dumps(content | {kinds[name]: value}) for value in (None, [5], "../x")]
    for text in [*NO_JSON, *texts]:
        path.write_text(text)
        with pytest.raises(InputError) as raised:
            read(folder)
        sentence = str(raised.value)
        assert sentence.startswith(f"{path}: ") and sentence.isprintable() and len(sentence) < 400


@pytest.mark.parametrize("make", LEADS.values(), ids=LEADS)
@pytest.mark.parametrize("name", READERS)
def test_files_that_are_no_files_are_refused(run: Path, name: str, make: Callable[[Path], Any]) -> None:
    folder = folder_of(run, name)
    (folder / name).unlink()
    make(folder / name)
    with pytest.raises(InputError, match=rf"{name}: "):
        READERS[name](folder)


@pytest.mark.parametrize(
    "fields",
    [
        *({"timings": [5]}, {"timings": [{"frames": "5", "seconds": 1, "online_seconds": 1}]}),
        *({"scores": {"JF": 1, "J": 1, "F": 1}}, {"seed": "0"}, {"checkpoint": None}),
        *(
            {"scores": {"protocol": "p", "JF": 1, "J": 1, "F": 1} | more}
            for more in (
                *({"J": "1"}, {"per_object": {"a_1": 5}}, {"instances": {"1": {"J": 1, "F": 1}}}),
                *({"position": {"limits": [0, 1], "J_seen": [1, 2]}}, {"position": {"J_seen": [1, 2]}}),
                {"position": {"limits": [0, 1], "J_seen": ["x"]}},
                *({"rounds": [{"JF": 1, "J": 1, "F": 1}]}, {"curve": {"seconds": [0, 1], "JF": [0]}}),
                *({"curve": {"seconds": [0, 1]}}, {"curve": {"seconds": [0], "JF": [None]}}, {"AUC": None}),
            )
        ),
    ],
    ids=str,
)
def test_results_of_another_shape_are_refused(run: Path, fields: dict[str, Any]) -> None:
    edited(scored(run) / "result.json", **fields)
    with pytest.raises(InputError, match=r"result\.json: "):
        read_result(scored(run))


def test_a_state_that_is_none_or_a_lock_that_leads_elsewhere_harms_nothing(run: Path, tmp_path: Path) -> None:
    folder, precious = TrainingFolder(run, {}), tmp_path / "precious"
    precious.write_text("precious")
    edited(run / "status.json", state="running")
    (run / ".lock").unlink(missing_ok=True)
    (run / ".lock").symlink_to(precious)
    folder.status()
    assert precious.read_text() == "precious"
    edited(run / "status.json", state="\x1b[2J")
    with pytest.raises(InputError, match=r"status\.json: state is none of running, "):
        folder.status()


# --- which weights ---------------------------------------------------------------------------------------

OUTSIDE = (
    "../../outside.ckpt",
    "/etc/passwd",
    "../run/../../outside.ckpt",
    "..",
    ".",
    "",
    "a" * 5000,
    "a\0b",
)


def test_the_weights_are_those_that_were_scored(run: Path) -> None:
    best = run / "best-stage2.ckpt"
    shutil.copy(run / "last.ckpt", best)
    for path in (run / "training.json", scored(run) / "result.json"):
        name = os.path.relpath(best, path.parent)
        edited(path, checkpoint=name, checkpoint_hash=weights_hash(best))
    (run / "last.ckpt").unlink()
    load_run(run), load_run(scored(run))
    assert scored_checkpoint(TrainingFolder(run, {})) == best


@pytest.mark.parametrize("name", OUTSIDE, ids=range(len(OUTSIDE)))
def test_weights_that_lie_elsewhere_or_are_no_file_are_refused(run: Path, name: str) -> None:
    outside = run.parents[1] / "outside.ckpt"
    shutil.copy(run / "last.ckpt", outside)
    for folder, record in ((run, "training.json"), (scored(run), "result.json")):
        edited(folder / record, checkpoint=name, checkpoint_hash=weights_hash(outside))
        assert "not the weights that training left" in refusal(folder)
        assert refusal(folder).isprintable() and len(refusal(folder)) < 400


def test_weights_that_changed_are_refused(run: Path) -> None:
    with (run / "last.ckpt").open("ab") as file:
        file.write(b"x")
    for folder in (run, scored(run)):
        assert refusal(folder).startswith(f"{run / 'last.ckpt'}: not the weights that training left")


def test_a_run_that_is_not_trained_has_no_weights_yet(run: Path) -> None:
    (run / "training.json").unlink()
    assert "not trained yet; run vos-train for it" in refusal(run)


# --- weights ---------------------------------------------------------------------------------------------

SHAPES: list[Any] = [
    *(5, "text", [1], None, {}, {1: 2}, {"state_dict": []}, {"state_dict": {1: 2}}, {"state_dict": None}),
    *({"state_dict": {"model.x": 5}}, {"state_dict": {"model.encoder": torch.zeros(2)}}, torch.zeros(2)),
]


@pytest.mark.parametrize("content", SHAPES, ids=str)
def test_files_of_another_shape_are_no_checkpoints(run: Path, content: Any) -> None:
    torch.save(content, run / "last.ckpt")
    assert refusal(run / "last.ckpt").startswith(f"{run / 'last.ckpt'}: ")
    official = run / "official"
    official.mkdir()
    for name in ("encoder.pt", "decoder.pt"):
        torch.save(content, official / name)
    with pytest.raises(InputError, match="official"):
        load_strictly(nn.Linear(2, 2), released_weights(official), official)


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
    torch.save(content, path)
    with zipfile.ZipFile(path) as plain:
        entries = [(name, plain.read(name)) for name in plain.namelist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in entries:
            archive.writestr(name, part)
    assert path.stat().st_size < 2**16 and torch.load(path)["state_dict"]["model.x"].shape == (2**20,)
    assert "not a readable checkpoint (a compressed zip" in refusal(path)


def test_a_checkpoint_of_another_size_is_refused_before_the_model_takes_memory(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds: list[str] = []
    build = RVOSModel.network

    def seen(self: RVOSModel, *arguments: Any, **options: Any) -> Any:
        network = build(self, *arguments, **options)
        kinds.extend({weight.device.type for weight in network.parameters()})
        return network

    monkeypatch.setattr(RVOSModel, "network", seen)
    assert "another model" in refusal(run, "model.hidden=16") and kinds == ["meta"]


def test_a_checkpoint_holds_all_weights_so_that_none_are_fetched(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vos_lightning.layers import backbones

    asked: list[Any] = []
    known = backbones.get_model
    monkeypatch.setattr(
        backbones, "get_model", lambda n, weights, **o: asked.append(weights) or known(n, weights=None, **o)
    )
    options = ["model.weights=imagenet", "model.deeplab=true", "model.deeplab_weights=coco", "model.hidden=8"]
    experiment = read_settings(compose_train(["model=s2s", *options])).experiment
    (run / "config.yaml").write_text(json.dumps(as_values(experiment)))
    assert "another model" in refusal(run)  # whose network was built to know it
    experiment.model.network(without_weights(experiment.fields))
    assert len(asked) == 4 and set(asked) == {None}


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
    experiment, network = load_run(run)
    ready = experiment.model.evaluation(network, experiment, "cpu")
    ready.score(load_davis(tree, "val")[:1], DavisRules("unsupervised"), folder)
    assert not list(elsewhere.iterdir()) and not folder.is_symlink() and list(folder.glob("*/*.png"))
