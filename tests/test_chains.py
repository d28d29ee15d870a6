"""Rows of the papers' tables that start from others, share runs or are scored as they are; their columns."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vos_lightning.apps import interact_server
from vos_lightning.apps.interact import main as interact
from vos_lightning.apps.predict import main as predict
from vos_lightning.configuration import compose_train
from vos_lightning.data.scribbles import Interaction, Scribble
from vos_lightning.errors import InputError
from vos_lightning.layers.weights import read_model_weights
from vos_lightning.report.notes import notes
from vos_lightning.report.tables import build_table, cells_of
from vos_lightning.runs.folder import write_json
from vos_lightning.runs.run import Run, scored_checkpoint
from vos_lightning.runs.settings import read_settings
from vos_lightning.runs.sweep import expand, sweep_of
from vos_lightning.runs.train import train

YOUTUBE = "{train: 5, valid: 1, test: 0, frames: 6, height: 32, width: 64}"
DAVIS = "{train: 2, val: 1, test: 1, frames: 10, height: 32, width: 64}"

STAGES = "train.stages=[{epochs: 1}]"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def places(cache: Path, tmp_path: Path) -> list[str]:
    return [f"data.cache={cache}", f"run.root={tmp_path}/runs", "run.frame_cache=null", "run.threads=1"]


def youtube(places: list[str]) -> list[str]:
    return [f"data.spec={YOUTUBE}", *places]


def davis(places: list[str]) -> list[str]:
    """Overrides of runs on DAVIS, whose first runs are on YouTube-VOS."""
    first = json.dumps(["data=synthetic_youtube", places[0], f"data.spec={YOUTUBE}"])
    return [f"data.spec={DAVIS}", f"train.first_data={first}", *places]


def run_of(*overrides: str) -> Run:
    return Run.of(read_settings(compose_train(list(overrides))))


def test_cells_that_tables_share_are_one_run(places: list[str]) -> None:
    on_youtube, on_davis = youtube(places), davis(places)
    start, plus = (
        run_of("sweeps=rvos-table1", f"experiment=rvos-mask-{n}", *on_youtube) for n in ("st", "st-plus")
    )
    assert plus.first is not None and plus.first.training.path == start.training.path

    two, three, speed = (
        run_of(f"sweeps={sweep}", "experiment=rvos-mask-st-plus", *on_youtube)
        for sweep in ("rvos-table2", "rvos-table3", "rvos-speed")
    )
    assert two.evaluation.path == three.evaluation.path == speed.evaluation.path
    assert two.training.path != plus.training.path

    four, one = (
        run_of(f"sweeps={s}", "experiment=rvos-davis-tuned", *on_davis) for s in ("rvos-table4", "table1")
    )
    assert four.first is not None and four.first.training.path == two.training.path
    assert four.evaluation.path == one.evaluation.path

    five = run_of("sweeps=rvos-table5", *on_youtube)
    zero = run_of("sweeps=rvos-zeroshot-davis", *on_davis)
    assert zero.first is not None and zero.first.training.path == five.training.path


def test_each_table_shows_its_own_columns() -> None:
    """Columns of sweeps that inherit from one another would be merged."""
    shown = {
        name: sweep_of([f"sweeps={name}"]).table for name in ("rvos-table2", "rvos-table3", "rvos-speed")
    }
    assert {name: list(table.columns) for name, table in shown.items()} == {
        "rvos-table2": ["J seen", "J unseen", "F seen", "F unseen"],
        "rvos-table3": ["1 instance", "2", "3", "4", "5"],
        "rvos-speed": ["ms/frame", "J&F"],
    }
    assert [name for name, table in shown.items() if "reports" in table] == ["rvos-table2"]


def test_a_first_run_has_its_own_data_fields_and_else_those_of_the_run_that_follows(
    places: list[str],
) -> None:
    def data_of_first(*first: str) -> tuple[Any, ...]:
        shared = ["model=stesa_gru", "scale=paper", "data=synthetic_youtube", *youtube(places), STAGES]
        listed = f"train.first={json.dumps(first)}"
        run = run_of(*shared, "data.val_clips=2", "data.batch_size=2", "data.clip_length=7", listed)
        assert run.first is not None
        examples, data_set = (getattr(run.first.settings.experiment, n) for n in ("examples", "data_set"))
        return data_set.train_split, examples.batch_size, examples.clip_length, examples.val_clips

    assert data_of_first("model=stesa_gru", STAGES) == ("train-80", 2, 7, 2)
    assert data_of_first("experiment=stesa-youtube") == ("train", 3, 7, 2)
    default = run_of(
        "model=stesa_gru", "scale=paper", STAGES, *davis(places)
    ).settings.experiment.examples.clip_length
    named = data_of_first("experiment=stesa-youtube", "data.batch_size=1", f"data.clip_length={default}")
    assert named == ("train", 1, default, 2)


def test_a_first_run_on_real_data_is_not_on_an_embedded_twin(tmp_path: Path) -> None:
    for sweep, data in (("s2s-table3", "davis2016"), ("rvos-zeroshot-davis", "davis2017")):
        with pytest.raises(InputError, match=r"^train\.first_data: data\.root: not set"):
            run_of(f"sweeps={sweep}", f"data={data}", f"data.root={tmp_path}")


def test_a_run_starts_from_one_sort_of_weights() -> None:
    with pytest.raises(InputError, match=r"^train\.init_from: train\.first is set too"):
        read_settings(compose_train(["experiment=rvos-mask-st-plus", "train.init_from=last.ckpt"]))


def test_both_stages_have_their_papers_schedules(places: list[str]) -> None:
    def at_paper_scale(name: str) -> Run:
        return run_of("sweeps=table1", f"experiment={name}", "scale=paper", *davis(places))

    table5 = ["sweeps=table5", "model.auxiliary=true", "scale=paper", *davis(places)]
    assert at_paper_scale("stesa-davis-alone").training.path == run_of(*table5).training.path

    def stages(run: Run | None) -> list[Any]:
        if run is None:
            return []
        experiment = run.settings.experiment
        lengths = [(stage.epochs, stage.previous_mask) for stage in experiment.training.stages]
        drawn = experiment.examples.size, experiment.examples.batch_size, experiment.data_set.train_split
        return [*stages(run.first), (*drawn, *lengths)]

    large = (256, 448)
    assert stages(at_paper_scale("stesa-davis-tuned")) == [
        (large, 3, "train", (10, "inferred")),
        (large, 3, "train", (20, "inferred")),
    ]
    assert stages(at_paper_scale("rvos-davis-tuned")) == [
        (large, 4, "train", (20, "ground_truth")),
        (large, 4, "train", (20, "inferred")),
        ((240, 427), 4, "train", (20, "inferred")),
    ]


def test_a_run_without_training_is_scored_with_the_weights_that_it_starts_from(
    places: list[str], tmp_path: Path
) -> None:
    small = ["model.hidden=16", "data.size=[32,64]", "data.batch_size=2", "data.val_clips=1"]
    tiny = ["model=rvos", "scale=embedded", *small, f"data.spec={DAVIS}", *places, "run.accelerator=cpu"]
    first = ["train.first=['model=rvos','train.stages=[{epochs: 1}]']"]  # on this run's data
    cfg = compose_train([*tiny, *first, "train.max_steps=0"])
    result = train(cfg)
    run = Run.of(read_settings(cfg))
    assert run.first is not None
    base, outcome = run.first.training.outcome(), run.training.outcome()
    assert base is not None and outcome is not None
    assert base["steps"] > 0 and not list(run.first.training.path.glob("*/result.json"))
    spent = [outcome[key] for key in ("steps", "train_seconds", "first_seconds", "peak_memory_mib")]
    assert spent == [0, 0, base["train_seconds"], 0]
    ours, theirs = (read_model_weights(scored_checkpoint(r.training)) for r in (run, run.first))
    assert ours.keys() == theirs.keys() and all((ours[key] == theirs[key]).all() for key in ours)
    assert result["scores"]["JF"] > 0 and not (run.training.path / "metrics.csv").exists()
    written = run.training.checkpoint.stat().st_mtime_ns
    assert train(cfg) == result and run.training.checkpoint.stat().st_mtime_ns == written

    with pytest.raises(InputError, match=r"^train\.max_steps=0: trains nothing, so it needs weights"):
        read_settings(compose_train([*tiny, "train.max_steps=0"]))


def test_each_protocol_has_its_own_baselines(places: list[str]) -> None:
    cells = expand(["sweeps=rvos-zeroshot-davis", "train.max_steps=0", *davis(places)])
    names, lines = cells_of(build_table(cells))
    shown = {line[0]: line[names.index("protocol")] for line in lines}
    assert shown == {
        "matched to first masks": "davis-semi-supervised-matched",
        "unsupervised": "davis-unsupervised",
        "best of up to ten colour segments": "davis-semi-supervised-matched",
        "up to ten colour segments": "davis-unsupervised",
    }
    assert all(len(line) == len(names) for line in lines)
    (one,) = expand(
        ["sweeps=rvos-zeroshot-davis", "train.max_steps=0", "predict.match_given=true", *davis(places)]
    )
    assert "protocol" not in cells_of(build_table([one]))[0]


def test_marks_hours_and_memory_are_columns(places: list[str]) -> None:
    cells = expand(["sweeps=table1", "experiment=stesa-davis-tuned,stesa-davis-alone", *davis(places)])
    columns = {"hours": ["first_hours", "hours"], "GiB": ["memory"], "J of 2": ["instances.2.J"]}
    cells[0].config["table"]["columns"] = {"J": ["J"], **columns}
    table = build_table(cells)
    for row, first in zip(table.rows, (7200, 0), strict=True):
        folder = row.runs[0].evaluation.path
        folder.mkdir(parents=True)
        scores = {"J": 0.5, "protocol": "P", "instances": {"2": {"J": 0.25, "F": 0, "objects": 1}}}
        trained = {"train_seconds": 1800, "first_seconds": first, "peak_memory_mib": 1536}
        result = {
            **{"scores": scores, "seed": 0, "train_seconds": 1800, "score_seconds": 0, "device": "d"},
            **{"config_hash": "c", "code_version": "v", "data_version": {}, "split": "test"},
            **{"checkpoint": "../last.ckpt", "checkpoint_hash": "h", "timings": [], "training": trained},
        }
        write_json(folder / "result.json", result)
    names, lines = cells_of(table)
    by_name = {line[0]: dict(zip(names, line, strict=True)) for line in lines}
    ours, alone, rival = by_name["Ours w/o AL"], by_name["Ours w/o"], by_name["OnAVOS"]
    assert [ours[f"test {c}"] for c in ("J", *columns)] == ["50.0", "2.00/0.50", "1.50", "25.0"]
    assert alone["test hours"] == "-/0.50" and ours["paper hours"] == "48.00/10.00"
    assert [line["OL"] for line in (ours, rival, by_name["first mask copied"])] == ["no", "yes", ""]


def test_notes_say_how_each_row_is_trained_where_rows_differ(places: list[str]) -> None:
    cells = expand(
        ["sweeps=rvos-table4", "experiment=rvos-davis-pretrained,rvos-davis-alone", *davis(places)]
    )
    said = notes(build_table(cells))
    pre, alone = (
        next(line for line in said if line.startswith(name))
        for name in ("RVOS-Mask-ST+ (pre): ", "RVOS w/o pre-training: ")
    )
    assert "started from the run of data=synthetic_youtube" in pre and pre.endswith("not trained further.")
    assert "(synthetic_youtube train, 64x112, batch 4, clips of 3" in pre and pre.count("before that on") == 1
    assert "started" not in alone and "epochs" in alone
    assert "synthetic_youtube train-20, which is watched, is part of what is trained on." in said


def test_the_folder_of_a_pre_training_has_to_be_named(places: list[str], tmp_path: Path) -> None:
    real = ["data=davis2017", f"data.root={tmp_path}", *places[1:]]
    with pytest.raises(InputError, match=r"^train\.first_data: data\.root: not set"):
        run_of("experiment=stesa-davis-tuned", *real)


def test_a_partner_is_trained_once_and_refines_the_last_masks_of_the_protocol_alone(
    places: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ["model=strnn", f"data.spec={DAVIS}", "data.size=[32,64]", "data.clip_length=2", *places]
    small = ["model.hidden=4", "model.channels=4", STAGES, "train.max_steps=1", f"run.dir={tmp_path}/own"]
    partner = ["model=rvos", "model.hidden=16", "data.size=[32,64]", "data.clip_length=2", STAGES]
    refine = f"predict.refine={json.dumps([*partner, 'train.max_steps=1'])}"
    plain = train(compose_train([*common, *small]))
    run = run_of(*common, *small, refine)
    assert run.partner is not None
    assert run.training.hash == run_of(*common, *small).training.hash
    assert run.evaluation.identity["partner"] == run.partner.evaluation.hash
    capsys.readouterr()
    refined = train(compose_train([*common, *small, refine]))
    said = capsys.readouterr().out
    assert "trained already, scores" in said and "partner: trains" in said
    a, b = (result["scores"]["rounds"] for result in (plain, refined))
    assert [r["JF"] for r in a[:-1]] == [r["JF"] for r in b[:-1]] and a[-1]["JF"] != b[-1]["JF"]
    again = train(compose_train([*common, *small, refine, "predict.penalty=2"]))
    assert "trains;" not in capsys.readouterr().out and again["checkpoint"] == refined["checkpoint"]
    with pytest.raises(InputError, match="needs a run whose network takes the masks"):
        train(compose_train([*common, *small, refine.replace('"model=rvos"', '"model=rvos_zero_shot"')]))

    data_set, own = run.settings.experiment.data_set, str(tmp_path / "own")
    frames = str(data_set.samples("val")[0].frames[0].parent)  # type: ignore[union-attr]
    with pytest.raises(SystemExit):
        predict([own, str(tmp_path / "out"), "--frames", frames, "--set", refine])
    assert "give `--set predict.refine=null`" in capsys.readouterr().err
    last = Interaction(4, (Scribble(np.array([[0.2, 0.2], [0.7, 0.6]]), 1),), last=True)
    shown: list[np.ndarray] = []
    monkeypatch.setattr(
        interact_server, "serve", lambda work, *_, **__: shown.append(work._begin().answer(last))
    )
    for how in (refine, "predict.refine=null"):
        interact([frames, own, "--out", str(tmp_path / "page"), "--device", "cpu", "--set", how])
    assert shown[0].any()
    np.testing.assert_array_equal(*shown)
