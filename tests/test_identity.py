"""What makes a run train or be scored again, and what does not."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from vos_lightning.apps import table
from vos_lightning.configuration import PACKAGE, compose_train
from vos_lightning.data.synthetic_youtube import SyntheticYouTubeSpec, write_synthetic_youtube
from vos_lightning.errors import InputError
from vos_lightning.report.tables import build_table
from vos_lightning.runs import sources
from vos_lightning.runs.load import load_run
from vos_lightning.runs.run import Run
from vos_lightning.runs.settings import read_settings
from vos_lightning.runs.sources import version_of
from vos_lightning.runs.sweep import expand, manifest_path, read_manifest, sweep_of, write_manifest
from vos_lightning.runs.train import train

SPEC = SyntheticYouTubeSpec(train=3, valid=1, test=0, frames=4, height=32, width=64)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cache")
    write_synthetic_youtube(path, SPEC, workers=1)
    return path


@pytest.fixture
def tiny(cache: Path, tmp_path: Path) -> list[str]:
    """Overrides of a run of S2S that takes one step."""
    spec = ", ".join(f"{key}: {value}" for key, value in vars(SPEC).items())
    return [
        *("model=s2s", "data=synthetic_youtube", "scale=embedded", "model.hidden=16", "model.bn=frozen"),
        *(f"data.cache={cache}", f"data.spec={{{spec}}}", "data.size=[32,64]", "data.clip_length=2"),
        *(
            "data.samples=2",
            "data.batch_size=2",
            "data.val_clips=1",
            "data.submit_split=null",
            "train.stages=[{epochs: 1}]",
        ),
        *(f"run.root={tmp_path}/runs", "run.frame_cache=null", "run.threads=1", "run.accelerator=cpu"),
    ]


def run_of(*overrides: str) -> Run:
    return Run.of(read_settings(compose_train(list(overrides))))


def again(capsys: pytest.CaptureFixture[str], overrides: list[str]) -> str:
    """What is said where a run is asked for once more, less the names of its folders."""
    capsys.readouterr()
    train(compose_train(overrides), "run")
    return capsys.readouterr().out


def written(root: Path) -> dict[Path, int]:
    """When each checkpoint was."""
    return {path: path.stat().st_mtime_ns for path in root.glob("runs/*/*.ckpt")}


def test_what_decides_scores_alone_never_trains_again(
    tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "run: trains; not trained before." in again(capsys, tiny)
    before = written(tmp_path)
    for override, was in (
        ("predict.merge=painter", "predict.merge=argmax"),
        ("predict.precision=bf16", "predict.precision=fp32"),
        ("data.protocol=all", "data.protocol=without-first"),
        ("predict.online={enabled: true, steps: 1}", "predict.online.enabled=false"),
    ):
        said = again(capsys, [*tiny, override])
        assert f"run: trained already, scores; scored before with {was}." in said
        assert "run: finished before" in again(capsys, [*tiny, override])
    assert len(before) == 1 and written(tmp_path) == before
    assert len(list(tmp_path.glob("runs/*/*/result.json"))) == 5


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package, which stands for its sources."""
    copy = tmp_path / "package"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(sources, "PACKAGE", copy)
    return copy


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    sources._versions.cache_clear()  # as in a process that begins after the edit


def test_an_edited_gate_trains_again_and_an_edited_sentence_does_not(
    tiny: list[str], tmp_path: Path, package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(compose_train(tiny))
    before = written(tmp_path)
    gates, measures = package / "layers/recurrence.py", package / "scoring/measures.py"

    edit(gates, '"""RVOS', '"""Edited. RVOS')
    edit(gates, "\nimport torch\n", "\nimport torch  # edited\n")
    edit(package / "report/plots.py", "DPI = 150", "DPI = 151")
    assert "run: finished before" in again(capsys, tiny)

    edit(measures, "import numpy as np\n", "import numpy as np\n\nEDITED = 1\n")
    assert "run: trained already, scores; scored before with other sources: scoring/measures.py." in again(
        capsys, tiny
    )
    assert written(tmp_path) == before

    edit(gates, "torch.sigmoid(", "torch.tanh(")
    assert "run: trains; trained before with other sources: layers/recurrence.py." in again(capsys, tiny)
    assert len(written(tmp_path)) == 2


def test_a_version_is_of_what_a_source_does() -> None:
    plain = "def f(x):\n    return x + 1\n"
    said = '"""A module."""\n\n\ndef f(\n    x,\n):  # adds\n    """Adds 1."""\n    return x + 1\n'
    assert version_of(said) == version_of(plain)
    others = [
        *(plain.replace("1", other) for other in ("2", "1.0", "True")),
        *(plain.replace("+", "-"), "X = 1\n" + plain),
        plain.replace("return", "'no docstring' or"),
    ]
    assert len({version_of(text) for text in [plain, *others]}) == 1 + len(others)


def test_fields_that_a_cell_does_not_read_are_no_part_of_it(tiny: list[str]) -> None:
    def training(*overrides: str) -> Path:
        places = [o for o in tiny if o.startswith(("data.cache", "data.spec", "run.root"))]
        return run_of(
            "model=rvos", "data=synthetic_youtube", "scale=embedded", *places, *overrides
        ).training.path

    lstm, gru = training(), training("model.cell=gru")
    assert training("model.reset_gates=2", "model.gru_form=printed", "model.affinity=dot") == lstm
    assert len({lstm, gru, training("model.cell=gru", "model.reset_gates=2")}) == 3


@pytest.mark.parametrize("field", ["model.weights", "train.init_from"])
def test_a_file_of_weights_counts_by_its_content(tiny: list[str], tmp_path: Path, field: str) -> None:
    paths = [tmp_path / name for name in ("first.pth", "second.pth", "third.pth")]
    for path, content in zip(paths, (b"weights", b"weights", b"others"), strict=True):
        path.write_bytes(content)
    first, second, third = (run_of(*tiny, f"{field}={path}").training.path for path in paths)
    assert first == second != third


def test_a_table_shows_the_runs_that_were_launched(
    tiny: list[str], package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = ["sweeps=s2s-table2", *tiny[1:], "predict.online.steps=1"]
    launched = write_manifest(sweep)
    cells = read_manifest(launched)
    assert launched == manifest_path([*sweep[::-1], "run.jobs=7"], sweep_of([*sweep, "run.jobs=7"]))
    assert cells is not None and len({cell.training for cell in cells}) == 1
    for cell in cells:
        online = str(cell.config["predict"]["online"]["enabled"]).lower()
        train(compose_train([*sweep, f"predict.online.enabled={online}"]))

    edit(package / "layers/recurrence.py", "torch.sigmoid(", "torch.tanh(")
    assert not build_table(expand(sweep)).complete
    with pytest.raises(SystemExit) as ended:
        table.main(sweep)
    assert ended.value.code == 0
    assert "queued" not in capsys.readouterr().out
    launched.unlink()  # then a table is of what would be launched now
    with pytest.raises(SystemExit) as ended:
        table.main(sweep)
    assert ended.value.code == 1
    assert capsys.readouterr().out.count("(queued)") == 2


def test_a_sweep_is_expanded_by_hydras_own_sweeper(capsys: pytest.CaptureFixture[str]) -> None:
    cells = expand(["sweeps=table3", "model=glob(rvos*)"])
    shown: list[dict[str, Any]] = [cell.values for cell in cells]
    assert [(v["model"], v["model.reset_gates"]) for v in shown] == [
        (model, gates) for gates in "12" for model in ("rvos", "rvos_zero_shot")
    ]
    with pytest.raises(SystemExit) as ended:
        table.main(["sweeps=table3", "optim.lr=interval(1e-4,1e-3)"])
    assert ended.value.code == 2
    assert "vos-table: BasicSweeper does not support sweep type : INTERVAL" in capsys.readouterr().err


def test_a_folder_of_an_earlier_version_is_refused(tiny: list[str], tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    (old / "config.yaml").write_text("seed: 0\n")
    for use in (lambda: train(compose_train([*tiny, f"run.dir={old}"])), lambda: load_run(old)):
        with pytest.raises(
            InputError, match=r"old: has no identity\.json; versions before 0\.2 .*\.$"
        ) as refused:
            use()
        assert "\n" not in str(refused.value)
    assert [path.name for path in old.iterdir()] == ["config.yaml"]
