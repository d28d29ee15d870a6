"""vos-score on folders of PNGs."""

import csv
import json
import subprocess
import sys
from functools import partial

import pytest
from PIL import Image

from helpers import boxes
from vos_lightning.apps.score import main
from vos_lightning.data.images import write_mask
from vos_lightning.scoring.folders import score_davis

small = partial(boxes, size=(24, 32))
SMALL_ONE, SMALL_TWO = (1, 4, 4, 10, 10), (2, 16, 20, 6, 8)


@pytest.fixture
def folders(tmp_path):
    """Truth `a` of two objects and `b` of one in 0/255; perfect predictions, `b` missing its first frame."""
    for name, objects in (("a", (SMALL_ONE, SMALL_TWO)), ("b", (SMALL_ONE,))):
        for root in ("truth", "predictions"):
            (tmp_path / root / name).mkdir(parents=True)
            for t in range(5):
                write_mask(tmp_path / root / name / f"{t:05d}.png", small(*objects))
    for path in (tmp_path / "truth" / "b").iterdir():
        Image.fromarray(small((255, *SMALL_ONE[1:]))).save(path)
    (tmp_path / "predictions" / "b" / "00000.png").unlink()
    return tmp_path / "truth", tmp_path / "predictions"


def run(folders, *options):
    return main([str(f) for f in folders] + [str(o) for o in options])


def test_score_prints_and_writes(folders, tmp_path, capsys):
    write_mask(folders[1] / "a" / "00002.png", small(SMALL_ONE))
    assert run(folders, "--json", tmp_path / "s.json", "--csv", tmp_path / "s.csv", "--jobs", "2") == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("DAVIS-2017 semi-supervised: ")
    assert printed[-1].split()[:4] == ["mean", "over", "3", "0.8889"]
    scores = json.loads((tmp_path / "s.json").read_text())
    assert scores["protocol"] == "DAVIS-2017 semi-supervised"
    assert scores["JF"] == pytest.approx(8 / 9)
    assert {name: row["J"] for name, row in scores["per_object"].items()} == pytest.approx(
        {"a_1": 1, "a_2": 2 / 3, "b_1": 1}
    )
    rows = list(csv.DictReader((tmp_path / "s.csv").open()))
    assert [(row["sequence"], row["id"]) for row in rows] == [("a", "1"), ("a", "2"), ("b", "1")]
    assert {p.name for p in tmp_path.iterdir()} == {"truth", "predictions", "s.json", "s.csv"}


@pytest.mark.parametrize("mode", ["P", "L", "LA"])
@pytest.mark.parametrize("value", [1, 255])
def test_modes_of_predicted_masks(folders, mode, value):
    for path in (folders[1] / "b").iterdir():
        image = Image.fromarray(small((value, *SMALL_ONE[1:])))
        (image if mode == "L" else image.convert(mode)).save(path)
        if mode == "P":
            write_mask(path, small((value, *SMALL_ONE[1:])))
    assert score_davis(*folders, "semi-supervised", ["b"]).jf == 1


@pytest.mark.parametrize(
    "text", ["b\n\n", "/JPEGImages/480p/b/00000.jpg /Annotations/480p/b/00000.png\n" * 3]
)
def test_split_list(folders, tmp_path, text, capsys):
    (tmp_path / "val.txt").write_text(text)
    assert run(folders, "--split-list", tmp_path / "val.txt") == 0
    assert "mean over 1 " in capsys.readouterr().out


def test_unsupervised_on_folders(folders, capsys):
    (folders[1] / "b" / "00000.png").write_bytes((folders[1] / "b" / "00001.png").read_bytes())
    assert run(folders, "--protocol", "unsupervised") == 0
    assert "DAVIS-2017 unsupervised" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (None, "{t}/nowhere {p}", "nowhere: no such folder"),
        (None, "{t}/a {p}", "truth/a: no video folder"),
        (lambda t, p: (t / "c").mkdir(), "{t} {p}", "truth/c: no PNG masks"),
        (lambda t, p: (p / "b").rename(p / "c"), "{t} {p}", "predictions/b: no such folder"),
        (lambda t, p: (p / "a/00003.png").unlink(), "{t} {p}", "predictions/a/00003.png: no such file"),
        (None, "{t} {p} --protocol unsupervised", "predictions/b/00000.png: no such file"),
        (
            lambda t, p: write_mask(p / "a/00003.png", small(size=(20, 30))),
            "{t} {p}",
            "predictions/a/00003.png: the mask must be 32x24 not 30x20",
        ),
        (
            lambda t, p: write_mask(p / "a/00003.png", small((3, 0, 0, 2, 2))),
            "{t} {p} --jobs 2",
            "predictions/a/00003.png: id 3 is beyond the 2 objects",
        ),
        (
            lambda t, p: (p / "a/00003.png").write_bytes((t / "a/00003.png").read_bytes()[:60]),
            "{t} {p}",
            "predictions/a/00003.png: not a readable image",
        ),
        (None, "{t} {p} --split-list {t}/val.txt", "val.txt: no such file"),
        (
            lambda t, p: (t / "val.txt").touch(),
            "{t} {p} --split-list {t}/val.txt",
            "val.txt: the list is empty",
        ),
        (None, "{t} {p} --csv {t}/x/s.csv", "x/s.csv: cannot be written"),
    ],
)
def test_bad_input_is_one_sentence(folders, capsys, change, arguments, message):
    truth, predictions = folders
    if change:
        change(truth, predictions)
    result = truth.parent / "scores.json"
    assert main([*arguments.format(t=truth, p=predictions).split(), "--json", str(result)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("vos-score: ") and err.count("\n") == 1
    assert message in err
    assert result.exists() == ("--csv" in arguments)


def test_jobs_must_be_positive(folders, capsys):
    with pytest.raises(SystemExit) as stop:
        run(folders, "--jobs", "0")
    assert stop.value.code == 2
    assert "0 is not a whole number from 1 up" in capsys.readouterr().err


def test_scoring_does_not_import_torch():
    code = "import sys, vos_lightning.apps.score; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
