"""Runs of S2S that start from others, and the tables and reports of its sweeps, on tiny data."""

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from vos_lightning.configuration import compose_train
from vos_lightning.data.videos import Video
from vos_lightning.errors import InputError
from vos_lightning.report import tables
from vos_lightning.report.figures import report
from vos_lightning.report.spec import StripFields
from vos_lightning.report.strips import strips_of
from vos_lightning.runs.run import Run, scored_checkpoint
from vos_lightning.runs.settings import read_settings, settings_of
from vos_lightning.runs.sweep import Cell, expand
from vos_lightning.runs.train import train

YOUTUBE = "{seed: 0, train: 6, valid: 6, test: 0, frames: 4, height: 32, width: 64}"
TREES = (
    "{seed: 0, train: 2, val: 1, segtrack: 0, jumpcut: 0, youtube_objects: 0, frames: 6, added_frames: 2, "
    "height: 32, width: 64}"
)
SMALL = ["scale=embedded", "data.size=[32,64]", "data.val_clips=1", "model.hidden=16", "model.bn=frozen"]
TINY = [*SMALL, "data.clip_length=[2,3]", "data.samples=4", "train.stages=[{epochs: 1}]"]
DAVIS = ["data=synthetic", "data.spec={seed: 0, train: 4, val: 1, test: 1, frames: 4, height: 32, width: 64}"]


class Trained(NamedTuple):
    """The cells of three sweeps, and when each folder's weights were written."""

    cells: dict[str, list[Cell]]
    written: dict[Path, list[int]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Every run of the sweeps, one after the other; Table 3 keeps the weights of Table 2 as they are."""
    root = tmp_path_factory.mktemp("runs")
    places = [f"data.cache={root}", f"run.root={root}/runs", f"run.frame_cache={root}/frames"]
    common = [*TINY, *places, "run.threads=1", "run.accelerator=cpu", "predict.online.steps=1"]
    first = [*TINY, f"data.cache={root}", f"data.spec={YOUTUBE}"]
    quoted = ",".join(f'"{override}"' for override in ["data=synthetic_youtube", *first])
    still = ["optim.lr=0", "optim.backbone_lr=0", "optim.weight_decay=0"]
    sweeps = {
        "s2s-table2": [*common, f"data.spec={YOUTUBE}"],
        "s2s-table3": [*common, f"data.spec={TREES}", f"train.first_data=[{quoted}]", *still],
        "s2svideo-table1": [*common, f"data.spec={YOUTUBE}", "model.upsampling=bilinear"],
    }
    cells = {name: expand([f"sweeps={name}", *more]) for name, more in sweeps.items()}
    written: dict[Path, list[int]] = {}
    for cell in (cell for found in cells.values() for cell in found):
        train(OmegaConf.create(cell.config))
        for path in (root / "runs").glob("*/last.ckpt"):
            times = written.setdefault(path.parent, [])
            if path.stat().st_mtime_ns not in times:
                times.append(path.stat().st_mtime_ns)
    return Trained(cells, written)


def test_runs_that_start_from_another_on_the_command_line(tmp_path: Path) -> None:
    places = [f"data.cache={tmp_path}", f"run.root={tmp_path}/runs", f"run.frame_cache={tmp_path}/frames"]
    first = [*TINY, f"data.cache={tmp_path}", f"data.spec={YOUTUBE}"]
    quoted = ",".join(f'"{override}"' for override in ["data=synthetic_youtube", *first])
    options = [*TINY, *places, f"data.spec={TREES}", f"train.first_data=[{quoted}]", "predict.online.steps=1"]
    program = [sys.executable, "-m", "vos_lightning.apps.train", "-m", "sweeps=s2s-table3", *options]
    done = subprocess.run(program, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(tmp_path.glob("runs/*/training.json"))) == 2
    assert len(list(tmp_path.glob("runs/*/*/result.json"))) == 2  # the first run is not scored


def test_what_cannot_be_scored_is_refused_before_training(tmp_path: Path) -> None:
    places = [f"data.cache={tmp_path}", f"run.root={tmp_path}/runs", "run.frame_cache=null"]
    options = ["model=rvos_zero_shot", "data=synthetic_youtube", f"data.spec={YOUTUBE}", *places]
    with pytest.raises(InputError, match=r"scores no proposals .*; set predict\.match_given=true"):
        train(compose_train([*options, "predict.match_given=false"]))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("options", "protocol"),
    [
        (["data=synthetic_youtube", f"data.spec={YOUTUBE.replace('test: 0', 'test: 1')}"], "YouTube-VOS"),
        (DAVIS, "DAVIS-2017 semi-supervised"),
        ([*DAVIS, "predict.match_given=false"], "DAVIS-2017 unsupervised"),
    ],
)
def test_a_zero_shot_run_is_scored_as_its_slots_are_named(
    tmp_path: Path, options: list[str], protocol: str
) -> None:
    places = [f"data.cache={tmp_path}", f"run.root={tmp_path}/runs", "run.frame_cache=null"]
    tiny = [*SMALL, *places, "train.stages=[{epochs: 1}]", "data.clip_length=2", "train.max_steps=1"]
    result = train(
        compose_train(
            ["model=rvos_zero_shot", *tiny, *options, "data.submit_split=test", "run.accelerator=cpu"]
        )
    )
    assert result["scores"]["protocol"].startswith(protocol)
    with zipfile.ZipFile(result["submission"]) as archive:
        assert archive.namelist()[0].startswith("Annotations/") == (protocol == "YouTube-VOS")


def runs(trained: Trained, sweep: str) -> list[Run]:
    return [Run.of(settings_of(cell.config)) for cell in trained.cells[sweep]]


def test_the_same_cell_of_several_tables_is_one_run(tmp_path: Path) -> None:
    sweeps = ("s2s-table2", "s2s-table4", "s2s-initializer", "s2s-encoder")
    small, known = [f"data.cache={tmp_path}", f"data.spec={YOUTUBE}"], {}
    cells = [expand([f"sweeps={sweep}", *small]) for sweep in sweeps]
    folders = [[Run.of(settings_of(c.config), known).evaluation.path for c in found] for found in cells]
    assert len({found[0] for found in folders}) == 1
    assert len({folder for found in folders for folder in found}) == sum(map(len, folders)) - 3


def test_the_base_and_the_updated_model_have_their_own_rates() -> None:
    cells = expand(["sweeps=s2svideo-table1", "scale=paper", "model.upsampling=bilinear"])
    found = [settings_of(cell.config).experiment for cell in cells]
    rates = {e.fields.video: (e.optimisation.lr, e.optimisation.backbone_lr) for e in found}
    assert rates == {"none": (1e-4, 1e-4), "clip": (1e-3, 1e-3)}
    embedded = compose_train(["model=s2s_video", "data=synthetic_youtube", "scale=embedded"])
    assert (embedded.optim.lr, embedded.optim.backbone_lr) == (6e-3, 6e-3)
    wrong = compose_train(["model=s2s_video", "data=synthetic_youtube", "scale=paper", "model.video=x"])
    with pytest.raises(InputError, match=r"model\.video=x: unknown; choose one of none, clip"):
        read_settings(wrong)


def test_a_first_run_is_trained_once_and_its_weights_are_the_start(trained: Trained) -> None:
    base, tuned = (runs(trained, sweep)[0].training for sweep in ("s2s-table2", "s2s-table3"))
    assert all(len(times) == 1 for times in trained.written.values())
    assert set(trained.written) == {base.path, tuned.path} | {
        run.training.path for run in runs(trained, "s2svideo-table1")
    }
    found = (torch.load(run.checkpoint, weights_only=True)["state_dict"] for run in (tuned, base))
    ours, expected = found
    assert all(torch.equal(ours[key], value) for key, value in expected.items())  # Table 3's rate is 0 here
    outcome = tuned.outcome()
    assert outcome is not None and outcome["steps"] > 0


@pytest.mark.parametrize("sweep", ["s2s-table2", "s2s-table3"])
def test_online_learning_shares_the_training(trained: Trained, sweep: str) -> None:
    first, second = runs(trained, sweep)
    assert second.training.path == first.training.path
    without, online = first.evaluation.result(), second.evaluation.result()
    assert without is not None and online is not None
    assert online["checkpoint_hash"] == without["checkpoint_hash"]
    for run, result in ((first, without), (second, online)):
        assert (run.evaluation.path / result["checkpoint"]).samefile(scored_checkpoint(run.training))
    assert all(t["online_seconds"] > 0 for t in online["timings"])
    assert not any(t["online_seconds"] for t in without["timings"])


def test_a_table_shows_seen_and_unseen_beside_the_papers(trained: Trained, tmp_path: Path) -> None:
    cells = trained.cells["s2s-table2"]
    names, lines = tables.cells_of(tables.build_table(cells))
    by_name = {line[0]: dict(zip(names, line, strict=True)) for line in lines}
    for run, cell in zip(runs(trained, "s2s-table2"), cells, strict=True):
        result, line = run.evaluation.result(), by_name[next(iter(cell.values.values()))]
        assert result is not None
        scores = result["scores"]
        assert line["valid J mean"] == f"{100 * scores['J_seen']:.1f}/{100 * scores['J_unseen']:.1f}"
        assert line["difference"] == "other data"
    assert by_name["yes"]["paper J mean"] == "66.9/66.8"
    assert by_name["SegFlow"]["paper J mean"] == "40.4/38.5" and by_name["SegFlow"]["valid J mean"] == ""
    assert by_name["first mask copied"]["paper J mean"] == ""

    server = tmp_path / "server.yaml"
    server.write_text("cells:\n- {set: {predict.online.enabled: true}, J_seen: 50.0}\n")
    names, lines = tables.cells_of(tables.build_table(cells, server))
    shown = {line[0]: line[names.index("server test J mean")] for line in lines}
    assert (shown["yes"], shown["no"]) == ("50.0/-", "-")
    server.write_text("cells:\n- {set: {predict.online.enabled: true}, JF: 50.0}\n")
    with pytest.raises(InputError, match=r"server\.yaml: JF is no figure of this table"):
        tables.build_table(cells, server)


def test_masks_predicted_for_a_strip_are_those_of_an_evaluation(trained: Trained) -> None:
    (base, updated) = runs(trained, "s2svideo-table1")
    data_set = base.settings.experiment.data_set
    video = data_set.samples(data_set.score_split)[0]
    assert isinstance(video, Video)
    fields = (StripFields(figure="any", split=split) for split in ("score", "train"))
    scored, anew = (list(strips_of(video, {"base": base, "updated": updated}, f)) for f in fields)
    for there, here in zip(scored, anew, strict=True):
        assert there.label == here.label
        np.testing.assert_array_equal(there.masks, here.masks)


@pytest.mark.parametrize(
    ("sweep", "pictures"),
    [
        ("s2s-table2", ["figure1", "figure4", "position"]),
        ("s2s-table3", ["figure5"]),
        ("s2svideo-table1", ["figure3", "figure4", "figure5", "losses", "position"]),
    ],
)
def test_reports_are_written(trained: Trained, tmp_path: Path, sweep: str, pictures: list[str]) -> None:
    lines = report(tables.build_table(trained.cells[sweep]), tmp_path / "table")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"table-{name}.png" for name in pictures]
    for path in tmp_path.iterdir():
        assert str(path) in "\n".join(lines)
        darkest, brightest = Image.open(path).convert("L").getextrema()
        assert darkest < brightest
    if sweep == "s2s-table2":
        result = runs(trained, sweep)[0].evaluation.result()
        assert result is not None
        instances = result["scores"]["instances"]
        counted = {count: str(found["objects"]) for count, found in instances.items()}
        assert counted and all(
            any(
                line.split()[:4] == ["online.enabled", "no", count, objects]
                for line in "\n".join(lines).splitlines()
            )
            for count, objects in counted.items()
        )
