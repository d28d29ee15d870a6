"""Files written whole or not at all, and locks that only one process holds."""

import csv
import multiprocessing
import time
from pathlib import Path

import numpy as np
import pytest

from vos_lightning.atomic import replacing, write_text
from vos_lightning.data.images import read_mask, write_mask
from vos_lightning.errors import InputError
from vos_lightning.runs.callbacks import History
from vos_lightning.runs.folder import Folder, write_json

IDENTITY: dict = {"fields": {}, "data": {}, "sources": {}}  # of some run


def test_an_interrupted_write_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 251 + ".txt")  # as long as a name may be
    write_text(path, "old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as part:
        part.write_text("half of the n")
        raise KeyboardInterrupt
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]
    write_text(path, "new")
    assert [p.read_text() for p in tmp_path.iterdir()] == ["new"]


@pytest.mark.parametrize(
    "write", [write_json, write_text, lambda path, _: write_mask(path, np.eye(3, dtype=np.uint8))]
)
def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path, write) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for path in (tmp_path / "folder", tmp_path / "file/x", tmp_path / "none/x", tmp_path / ("n" * 400)):
        with pytest.raises(InputError, match=f"{path.name}: cannot be written"):
            write(path, "")
    assert {p.name for p in tmp_path.rglob("*")} == {"folder", "file"}


def test_metrics_are_whole_while_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk at the second epoch leaves the rows of the first."""
    history = History(tmp_path / "metrics.csv")
    history.rows = [{"epoch": 0, "loss": 1.5}]
    history.write()
    monkeypatch.setattr(
        csv.DictWriter, "writerows", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left"))
    )
    history.rows.append({"epoch": 1, "loss": 1.0})
    with pytest.raises(InputError, match=r"metrics\.csv: cannot be written \(No space left\)"):
        history.write()
    assert (tmp_path / "metrics.csv").read_text().split() == ["epoch,loss", "0,1.5"]


def hold(folder: Path, order) -> None:
    with Folder(folder, IDENTITY).claimed({}):
        order.put("held")
        time.sleep(0.3)
        order.put("released")


def test_a_run_is_worked_on_by_one_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    context = multiprocessing.get_context("fork")
    order = context.Queue()
    other = context.Process(target=hold, args=(tmp_path, order))
    other.start()
    assert order.get(timeout=10) == "held"
    with Folder(tmp_path, IDENTITY).claimed({}):
        assert order.get(timeout=10) == "released"
    other.join()
    assert "another process works on this run" in capsys.readouterr().out


def test_a_run_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(InputError, match="file/run: cannot be written"),
        Folder(tmp_path / "file/run", IDENTITY).claimed({}),
    ):
        pass


def test_a_mask_keeps_its_ids(tmp_path: Path) -> None:
    mask = np.arange(12, dtype=np.uint8).reshape(3, 4)
    write_mask(tmp_path / "0.png", mask)
    assert (read_mask(tmp_path / "0.png") == mask).all()
    assert [p.name for p in tmp_path.iterdir()] == ["0.png"]
