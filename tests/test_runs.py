"""Configurations, sweeps, runs and tables: the command line end to end on a tiny data set."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import torch

from vos_lightning.apps import predict, table
from vos_lightning.configuration import CONF, ROOT, compose_train
from vos_lightning.data.catalogue import DATA_SETS
from vos_lightning.data.images import read_mask
from vos_lightning.data.videos import Video
from vos_lightning.errors import InputError
from vos_lightning.fields import flatten
from vos_lightning.layers.weights import read_model_weights
from vos_lightning.models.catalogue import MODELS
from vos_lightning.models.interface import Experiment
from vos_lightning.report import tables
from vos_lightning.report.entries import holds
from vos_lightning.report.notes import notes
from vos_lightning.report.spec import StripFields, checked_spec
from vos_lightning.runs.folder import write_json
from vos_lightning.runs.load import build_network
from vos_lightning.runs.run import Run
from vos_lightning.runs.settings import as_values, read_settings, settings_of
from vos_lightning.runs.sweep import Cell, expand, manifest_path, read_manifest, sweep_of
from vos_lightning.runs.train import train

SWEEPS = sorted(path.stem for path in (ROOT / "sweeps").glob("*.yaml"))
DATA = ["data.spec.train=2", "data.spec.val=1", "data.spec.test=2", "data.spec.frames=10"]
TINY = [*DATA, "model.hidden=16", "data.size=[64,96]", "data.batch_size=2", "data.val_clips=2"]
STAGES = "train.stages=[{epochs: %d, previous_mask: inferred}]"


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def overrides(cache, tmp_path):
    return [*TINY, f"data.cache={cache}", f"run.root={tmp_path}/runs", STAGES % 2]


def command(program, *arguments, timeout=120):
    """Runs a program of the package; returns the finished process."""
    module = f"vos_lightning.apps.{program.removeprefix('vos-')}"
    arguments = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=timeout)


def experiment_of(*overrides: str) -> Experiment:
    return read_settings(compose_train(list(overrides))).experiment


REAL = ("data=davis2017", "data.root=/d")


def on_real_data(model: str) -> tuple[str, ...]:
    """A model and a data set that it can learn from, whose files nothing opens."""
    architecture = compose_train([f"model={model}"]).model.architecture
    videos = MODELS[architecture].examples.kind is Video
    return (f"model={model}", *(REAL if videos else ("data=davis2017_frames", "data.root=/d")))


def test_every_configuration_composes():
    names = {
        group: sorted(p.stem for p in (CONF / group).glob("*.yaml"))
        for group in ("data", "model", "model_at_scale", "schedule", "scale", "logger", "experiment")
    }
    for name in names["data"]:
        model = "stesa_gru" if DATA_SETS[name].kind is Video else "rsis"
        more = [] if name.startswith("synthetic") else ["data.root=/d"]
        assert experiment_of(f"model={model}", f"data={name}", *more).data_set.name == name
    for name in (*names["scale"], *names["logger"]):
        group = "scale" if name in names["scale"] else "logger"
        assert experiment_of(f"{group}={name}", *on_real_data("stesa_gru"))
    for name in names["schedule"]:
        model, data = name.split("-")[:2]
        assert experiment_of(f"model={model}", f"data={data}", "data.root=/d", f"schedule={name}")
    for name in names["experiment"]:
        assert experiment_of(f"experiment={name}", "train.first_data=['data=synthetic_youtube']", *REAL)
    for name in names["model_at_scale"]:
        model, scale = name.split("-")
        assert experiment_of(f"scale={scale}", *on_real_data(model))
    for name in names["model"]:
        assert experiment_of("scale=paper", *on_real_data(name)).fields.name == name
        build_network(experiment_of(f"model={name}", "scale=embedded"), None)


UNPUBLISHED = {
    "interactive": [
        *("strnn-ensemble", "stesa-rounds", "strnn", "strnn-spatial", "strnn-plain", "rvos-rounds"),
        *("s2s-rounds", "strnn-refined"),
    ],
    "ris": ["yes", "no"],
    "rsis": ["yes", "no"],
    "rvos-speed": ["fp32", "bf16"],
    "rvos-table5": ["none"],
    "rvos-zeroshot-davis": ["0 no", "-1 no"],
    "s2s-encoder": ["previous_mask"],
    "s2svideo-rates": ["1e-5", "1e-4"],
    "s2svideo-table1": ["none transposed", "clip transposed"],
    "stesa-memory": ["none"],
}


def experiment_in(cell: Cell) -> Experiment:
    return settings_of(cell.config).experiment


@pytest.mark.parametrize("sweep", SWEEPS)
def test_every_cell_of_a_sweep_builds_and_has_its_published_row(sweep):
    cells = expand([f"sweeps={sweep}", "scale=embedded"])
    published = [p for p in cells[0].config["table"].get("cells", []) if p.keys() - {"set", "marks"}]
    assert len({json.dumps(as_values(experiment_in(cell))) for cell in cells}) == len(cells)
    without = []
    for cell in cells:
        build_network(experiment_in(cell), None)
        fields = cell.values | flatten(cell.config)
        fitting = [p for p in published if all(fields.get(k) == v for k, v in p["set"].items())]
        assert len(fitting) <= 1
        without += [] if fitting else [" ".join(cell.values.values())]
        for row in fitting:
            if "JF" in row:  # the paper rounds each figure on its own; "J&F" is the mean of J and F
                assert pytest.approx((row["J"] + row["F"]) / 2, abs=0.11) == row["JF"]
    assert without == UNPUBLISHED.get(sweep, [])
    assert len(cells) - len(without) == len(published)
    reports = checked_spec(cells[0].config["table"])["reports"].values()
    for report in (report for report in reports if isinstance(report, StripFields)):
        for wanted in (report.rows or {}).values():
            assert sum(holds(wanted, cell.values | flatten(cell.config)) for cell in cells) == 1


@pytest.mark.parametrize("sweep", SWEEPS)
def test_a_sweep_works_with_any_launcher(sweep):
    hydra = compose_train([f"sweeps={sweep}", "hydra/launcher=basic"]).hydra
    assert hydra.launcher._target_.endswith("BasicLauncher")


def test_a_sweep_runs_so_many_jobs_side_by_side():
    assert compose_train(["sweeps=table4", "run.jobs=3"]).hydra.launcher.n_jobs == 3


def test_a_sweep_in_one_process_gives_what_each_run_gives_alone(overrides, tmp_path):
    arguments = [*overrides, STAGES % 1, "run.threads=1"]
    done = command("vos-train", "-m", "sweeps=table3", "hydra/launcher=basic", *arguments)
    assert done.returncode == 0, done.stderr
    second = ["model.nonlocal_position=none", "model.reset_gates=2"]
    alone = train(compose_train([*arguments, *second, f"run.root={tmp_path}/alone"]))
    found = {p.parent.name: p.parent.parent for p in tmp_path.glob("runs/*/*/result.json")}
    runs = {name.rpartition("-")[2]: folder for name, folder in found.items()}
    there, here = (
        read_model_weights(tmp_path / root / runs[alone["config_hash"]].name / "last.ckpt")
        for root in ("runs", "alone")
    )
    assert len(runs) == 2
    assert all(torch.equal(weight, here[name]) for name, weight in there.items())


def test_a_seed_list_multiplies_a_sweep():
    cells = expand(["sweeps=table3", "seed=0,1,2"])
    assert [(c.values["model.reset_gates"], c.seed) for c in cells] == [
        (g, s) for g in "12" for s in (0, 1, 2)
    ]


def test_a_key_on_the_command_line_replaces_the_sweeps_own():
    def points(*overrides):
        return [dict(cell.values) for cell in expand(["sweeps=table4", *overrides])]

    assert points("model.cell=gru") == [{"model.nonlocal_position": p} for p in ("res3", "res4", "res5")]
    cells, places = ("gru", "lstm"), ("res4", "none")
    assert points("model.nonlocal_position=res4,none") == [
        {"model.cell": c, "model.nonlocal_position": p} for c in cells for p in places
    ]


def test_a_run_is_named_by_what_decides_its_result(cache, tmp_path):
    tiny = [*DATA, f"data.cache={cache}"]

    def folders(*overrides):
        run = Run.of(read_settings(compose_train([*tiny, *overrides])))
        return run.training.path, run.evaluation.path

    base = folders()
    elsewhere = f"data.cache={tmp_path}/elsewhere"
    assert folders("run.threads=7", elsewhere, "run.jobs=3", "logger=wandb") == base
    others = [folders("seed=1"), folders("optim.lr=1"), folders("model.bn=frame")]
    assert len({training for training, _ in (base, *others)}) == 4
    # The same cell in a sweep and alone.
    cells = expand(["sweeps=table4", *tiny])
    cell = next(c for c in cells if c.values["model.nonlocal_position"] == "res3")
    run = Run.of(settings_of(cell.config))
    assert (run.training.path, run.evaluation.path) == base


def test_a_folder_of_another_run_is_refused(overrides, tmp_path):
    def run(*more):
        return Run.of(read_settings(compose_train([*overrides, f"run.dir={tmp_path}/here", *more])))

    first, other = run(), run("model.cell=lstm")
    with first.training.claimed(as_values(first.settings.experiment)):
        pass
    with (
        pytest.raises(InputError, match=r"\(model\.cell is gru there and lstm here\)"),
        other.training.claimed({}),
    ):
        pass
    # A finished run of other settings is not taken for this one.
    write_json(tmp_path / "here" / "training.json", {})
    with pytest.raises(InputError, match="holds another run"):
        train(compose_train([*overrides, f"run.dir={tmp_path}/here", "seed=5"]))


BAD = {
    "model.backbone=resnet9000": "model.backbone=resnet9000: unknown; choose one of",
    "model.slots=1": r"object id \d of video .* exceeds model.slots=1",
    "train.stages=[{epochs: 1, lr: 1}]": r"train\.stages\[0\]\.lr: no such field",
    "train.init_from=missing.ckpt": "missing.ckpt: no such checkpoint",
    "train.stages=[{epochs: 1, keep: first}]": r"train\.stages\[0\]\.keep=first: unknown; choose one of last",
    "predict.merge=glue": "predict.merge=glue: unknown",
    "optim.schedule=up": "optim.schedule=up: unknown",
    "data.cache=/proc/nothing": "/proc/nothing: cannot hold the synthetic data",
}


@pytest.mark.parametrize(("override", "sentence"), BAD.items())
def test_bad_input_is_one_sentence_and_leaves_nothing(overrides, tmp_path, override, sentence):
    with pytest.raises(InputError, match=sentence):
        train(compose_train([*overrides, override]))
    assert not (tmp_path / "runs").exists()


def test_the_command_line_says_bad_input_in_one_line(tmp_path):
    for arguments, words in (
        (["model=nothing"], "Could not find 'model/nothing'"),
        (["model.nothing=1"], "model.nothing"),
        (["data=davis2017", f"data.root={tmp_path}/none"], "none: no such folder"),
        (["data=davis2017"], "data.root"),
    ):
        done = command("vos-train", *arguments, f"run.root={tmp_path}/runs")
        assert done.returncode == 2
        last = done.stderr.strip().splitlines()[-1]
        assert last.startswith("vos-train: ") and words in last
        assert "Error executing" not in done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_sweep_killed_and_repeated_does_only_what_is_missing(overrides, tmp_path, capsys):
    arguments = ["-m", "sweeps=table3", *overrides, STAGES % 3, "run.jobs=2", "run.loader_workers=1"]
    module = [sys.executable, "-m", "vos_lightning.apps.train", *arguments]
    process = subprocess.Popen(
        module, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 90
    while not list(tmp_path.glob("runs/*/last.ckpt")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert len(list(tmp_path.glob("runs/*/*/result.json"))) < 2
    launched = read_manifest(manifest_path(arguments[1:], sweep_of(arguments[1:])))
    assert launched is not None

    done = command("vos-train", *arguments)
    assert done.returncode == 0, done.stderr
    folders = [path.parent for path in tmp_path.glob("runs/*/*/result.json")]
    assert {folder.parent.name for folder in folders} == {cell.training for cell in launched}
    assert len(folders) == 2
    for folder in folders:
        epochs = [line.split(",")[0] for line in (folder.parent / "metrics.csv").read_text().splitlines()[1:]]
        assert epochs == ["0", "1", "2"]

    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/*.ckpt")}
    for gates in (1, 2):
        train(compose_train([*arguments[1:], "model.nonlocal_position=none", f"model.reset_gates={gates}"]))
    assert capsys.readouterr().out.count("finished before") == 2
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/*.ckpt")}

    # A cell is lost: the table says so and exits with 1; the other keeps its figures.
    (folders[0] / "result.json").unlink()
    with pytest.raises(SystemExit) as ended:
        table.main(arguments[1:])
    shown = capsys.readouterr().out
    assert ended.value.code == 1 and "(trained)" in shown
    assert "first mask copied" in shown and "colour classifier" in shown
    written = json.loads((tmp_path / "runs/tables/table3-synthetic-embedded.json").read_text())
    assert sorted(run["result"] is None for row in written["rows"] for run in row["runs"]) == [False, True]


def test_one_failing_job_loses_no_other(overrides, tmp_path):
    arguments = ["-m", "sweeps=table3", *overrides, "model.reset_gates=1,5", "run.jobs=2", STAGES % 1]
    done = command("vos-train", *arguments)
    assert done.returncode == 2
    assert "model.reset_gates=5: must be a whole number from 1 to 2" in done.stderr
    assert len(list(tmp_path.glob("runs/*/*/result.json"))) == 1


def davis_cells(root, tmp_path):
    """Table 3 on a DAVIS tree, whose runs are finished with made-up scores."""
    cells = expand(
        ["sweeps=table3", "data=davis2017", f"data.root={root}", f"run.root={tmp_path}/r", "scale=embedded"]
    )
    table = tables.build_table(cells)
    for row, jf in zip(table.rows, (0.30, 0.40), strict=True):
        folder = row.runs[0].evaluation.path
        folder.mkdir(parents=True)
        result = {
            "scores": {"JF": jf, "J": jf, "F": jf, "protocol": "P"},
            "seed": 0,
            "train_seconds": 60,
            "device": "d",
            "score_seconds": 0,
            "config_hash": "c",
            "code_version": "v",
            "data_version": {},
            "split": "val",
            "checkpoint": "../last.ckpt",
            "checkpoint_hash": "h",
            "timings": [],
        }
        write_json(folder / "result.json", result)
    return cells


def test_a_difference_stands_only_where_data_and_split_are_the_papers(cache, tmp_path):
    experiment_of(*DATA, f"data.cache={cache}").data_set.videos("train")  # which writes it
    root = next(path for path in cache.glob("synthetic-*") if path.is_dir())
    cells = davis_cells(root, tmp_path)
    columns, lines = tables.cells_of(tables.build_table(cells))
    assert [line[columns.index("difference")] for line in lines[:2]] == ["other data"] * 2
    assert any("did not come back" in note for note in notes(tables.build_table(cells)))

    server = tmp_path / "server.yaml"
    server.write_text("cells:\n- {set: {model.reset_gates: 2}, JF: 33.0, J: 32.0, F: 34.0}\n")
    columns, lines = tables.cells_of(tables.build_table(cells, server))
    assert [line[columns.index("difference")] for line in lines[:2]] == ["", "+1.3"]  # 33.0 against 31.7
    server.write_text("cells:\n- {JF: 33.0}\n")
    with pytest.raises(InputError, match=r"server\.yaml: must hold cells"):
        tables.build_table(cells, server)


def test_predictions_scored_from_disk_equal_the_run(overrides, cache, tmp_path, capsys):
    result = train(compose_train([*overrides, STAGES % 1]))
    folder = next(path.parent for path in tmp_path.glob("runs/*/*/result.json"))
    root = next(path for path in cache.glob("synthetic-*") if path.is_dir())
    out = tmp_path / "masks"
    done = command("vos-predict", folder, out, "--root", root, "--split", "test", "--zip", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    split = root / "ImageSets/2017/test.txt"
    scored = command(
        "vos-score", root / "Annotations/480p", out, "--split-list", split, "--json", tmp_path / "scores.json"
    )
    assert scored.returncode == 0, scored.stderr
    assert json.loads((tmp_path / "scores.json").read_text())["JF"] == pytest.approx(
        result["scores"]["JF"], abs=1e-12
    )
    names = zipfile.ZipFile(tmp_path / "masks.zip").namelist()
    assert sorted(names) == sorted(str(p.relative_to(out)) for p in out.glob("*/*.png"))
    video = split.read_text().split()[0]
    first, given = (p / video / "00000.png" for p in (out, root / "Annotations/480p"))
    assert (read_mask(first) == read_mask(given)).all()

    new = tmp_path / "b"
    for arguments, words in (
        ((new, "--root", root, "--set", "model.cell=lstm"), "a checkpoint of another model"),
        ((new, "--frames", root / "JPEGImages/480p" / video), "no mask is given"),
        ((out, "--root", root), "no empty folder"),
    ):
        with pytest.raises(SystemExit) as ended:
            predict.main(list(map(str, (folder, *arguments))))
        assert ended.value.code == 2 and words in capsys.readouterr().err
    assert not new.exists()


def test_wandb_keeps_a_run_offline_without_an_account(overrides, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    train(compose_train([*overrides, STAGES % 1, "logger=wandb"]))
    folder = next(path.parent for path in tmp_path.glob("runs/*/*/result.json"))
    kept = list((folder.parent / "wandb").glob("offline-run-*"))
    assert len(kept) == 1
    media = {path.parent.name for path in kept[0].rglob("*.png")}
    assert media, "no mask overlays"
    content = next(kept[0].glob("run-*.wandb")).read_bytes()
    assert b"val/JF" in content and b"test/JF" in content


def test_make_help_lists_every_target():
    if shutil.which("make") is None or not (ROOT / "Makefile").is_file():
        pytest.skip("needs make and a checkout")
    shown = subprocess.run(["make", "-C", ROOT, "help"], capture_output=True, text=True, check=True).stdout
    for target in ("install", "reproduce-%", "test", "lint", "table3", "table4", "table5"):
        assert target in shown
    assert Path(CONF).is_dir()
