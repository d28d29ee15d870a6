"""Figures: what the files hold, as far as pixels tell, and what is chosen to be drawn."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tests.helpers import boxes, noise, written
from vos_lightning.data.images import write_mask
from vos_lightning.errors import InputError
from vos_lightning.report import figures
from vos_lightning.report.plots import (
    GAP,
    EpochCurve,
    Strip,
    epoch_curves,
    loss_curves,
    position_curves,
    strip_sheet,
)
from vos_lightning.report.spec import StripFields, checked_spec
from vos_lightning.report.strips import chosen, strips_of
from vos_lightning.runs.folder import TrainingFolder

LIMITS = [b / 10 for b in range(11)]


def test_position_curves_leave_out_a_group_without_values(tmp_path):
    both = {"limits": LIMITS, "J_seen": [0.5] * 10, "J_unseen": [0.4, None] * 5}
    position_curves(tmp_path / "both.png", {"ours": both, "theirs": both})
    position_curves(tmp_path / "seen.png", {"ours": both | {"J_unseen": [None] * 10}})
    sizes = {path.stem: Image.open(path).size for path in tmp_path.iterdir()}
    assert sizes["both"] == (2 * sizes["seen"][0], sizes["seen"][1])


def test_loss_curves(tmp_path):
    steps = np.arange(200)
    loss_curves(tmp_path / "loss.png", {"base": (steps, np.exp(-steps / 50)), "short": ([1], [0.1])})
    assert np.asarray(Image.open(tmp_path / "loss.png").convert("L")).std() > 0


def test_overlay_tints_objects_outlines_them_and_leaves_the_rest(tmp_path):
    frame, mask = np.full((180, 320, 3), 100, np.uint8), np.zeros((180, 320), np.uint8)
    mask[40:80, 100:200], mask[100:120] = 2, 255
    strips = [Strip(label, [frame] * 2, [mask] * 2) for label in ("truth", "a\nmodel")]
    strip_sheet(tmp_path / "sheet.png", strips)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape[0] == 2 * 180 + 3 * GAP
    cell = sheet[GAP : GAP + 180, -320 - GAP : -GAP]
    # 55 % of the frame's grey and 45 % of the palette's (0, 128, 0).
    assert cell[60, 150].tolist() == [55, 113, 55]
    assert (cell[60, 199] == 255).all()
    assert (cell[[0, 110, 179]] == 100).all()


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(InputError, match=r"loss\.png: cannot be written"):
        loss_curves(tmp_path / "nowhere" / "loss.png", {"base": ([0, 1], [0.5, 0.4])})


def test_strips_of_frames_truth_and_rows(tmp_path):
    size = (32, 48)
    frames, masks = noise(9, size), {t: boxes((1, 2, t, 8, 8), size=size) for t in range(9)}
    video = written(tmp_path / "video", frames, masks)
    (tmp_path / "masks" / "video").mkdir(parents=True)
    for t in range(9):  # what a run has predicted is the mask of the frame before
        write_mask(tmp_path / "masks" / "video" / f"{t:05d}.png", masks[max(t - 1, 0)])
    run = SimpleNamespace(evaluation=SimpleNamespace(masks=tmp_path / "masks"))
    fields = StripFields(figure="ours", above=("frames", "truth"), columns=5)
    plain, truth, ours = strips_of(video, {"ours": run}, fields)
    assert [plain.label, truth.label, ours.label] == ["frames", "truth", "ours"]
    for strip in (plain, truth, ours):
        np.testing.assert_array_equal(strip.frames, [frames[t] for t in (0, 2, 4, 6, 8)])
    assert not np.any(plain.masks)
    np.testing.assert_array_equal(truth.masks, [masks[t] for t in (0, 2, 4, 6, 8)])
    np.testing.assert_array_equal(ours.masks, [masks[t] for t in (0, 1, 3, 5, 7)])

    first_alone = written(tmp_path / "unknown", frames, {0: masks[0]})
    assert [strip.label for strip in strips_of(first_alone, {}, fields)] == ["frames"]


def test_which_videos_a_strip_shows(tmp_path):
    size, objects = (32, 48), {"one": 1, "three": 3, "two": 2, "also": 3}
    videos = []
    for name, number in objects.items():
        mask = boxes(*((i, 2, 8 * i, 8, 6) for i in range(1, number + 1)), size=size)
        videos.append(written(tmp_path / name, noise(1, size), {0: mask}))

    def scored(**values):
        scores = {f"{name}_{i}": {"J": j} for name, both in values.items() for i, j in enumerate(both, 1)}
        return SimpleNamespace(result=lambda: {"scores": {"per_object": scores}})

    def names(by, count, *runs):
        return [v.name for v in chosen(videos, runs, StripFields(figure="", videos=by, count=count))]

    assert names("first", 2) == ["one", "three"]
    assert names("instances", 3) == ["three", "also", "two"]
    before = scored(one=[0.5], two=[0.2, 0.4], gone=[0.0])
    after = scored(one=[0.4], two=[0.5, 0.3], gone=[1.0])
    assert names("gains", 5, before, scored(), after) == ["two", "one"]


def test_epoch_curves_hold_the_losses_of_a_run_and_of_the_one_before(tmp_path, monkeypatch):
    def trained(name, losses, **first):
        folder = tmp_path / f"data-model-s0-{name}"
        folder.mkdir()
        identity = {"fields": {}, "data": {}, "sources": {}, **first}
        (folder / "identity.json").write_text(json.dumps(identity))
        with (folder / "metrics.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("epoch", "train/loss", "val/loss"), *losses])
        return SimpleNamespace(training=TrainingFolder(folder, {}))

    before = trained("0123abcd", [(0, 0.9, 0.8), (1, 0.7, "")])
    tuned = trained("4567abcd", [(0, 0.5, 0.6)], first="0123abcd")
    scratch = trained("89ababcd", [(0, 0.4, 0.3)])
    drawn = {}

    def drawing(path, panels):
        drawn.update(panels)
        epoch_curves(path, panels)

    monkeypatch.setattr(figures, "epoch_curves", drawing)
    runs = {"pre-trained": before, "tuned": tuned, "scratch": scratch}
    (line,) = figures.REPORTS["epochs"](runs, tmp_path / "epochs.png", "a figure")
    assert str(tmp_path / "epochs.png") in line and (tmp_path / "epochs.png").is_file()
    assert list(drawn) == ["Pre-training", "Fine-tuning, or training alone"]
    first, then = drawn.values()
    assert first == {"pre-trained, tuned": EpochCurve([(1, 0.9), (2, 0.7)], [(1, 0.8)])}
    assert then == {
        "tuned": EpochCurve([(1, 0.5)], [(1, 0.6)]),
        "scratch": EpochCurve([(1, 0.4)], [(1, 0.3)]),
    }

    (scratch.training.path / "metrics.csv").write_text("epoch,train/loss\n0,low\n")
    with pytest.raises(InputError, match=r"metrics\.csv: must hold numbers below epoch,train/loss"):
        figures.REPORTS["epochs"](runs, tmp_path / "epochs.png", "a figure")


@pytest.mark.parametrize(
    ("name", "report", "fault"),
    [
        ("../up", "Figure 1", r"table\.reports\.\.\./up: must be a name"),
        ("losses", 3, r"table\.reports\.losses=3: must be a figure in words"),
        ("strip", {}, r"table\.reports\.strip\.figure: not set"),
        ("strip", {"figure": "1", "rows": ["gru"]}, r"strip\.rows=.* must be \{LABEL: \{KEY: VALUE\}\}"),
        ("strip", {"figure": "1", "above": ["masks"]}, r"strip\.above=.* frames, truth"),
        ("strip", {"figure": "1", "videos": "gains", "split": "train"}, r"strip\.videos=gains: needs scores"),
        ("strip", {"figure": "1", "video": "bear"}, r"strip\.video: no such field"),
    ],
)
def test_reports_that_cannot_be_made_are_named(name, report, fault):
    with pytest.raises(InputError, match=fault):
        checked_spec({"title": "a table", "reports": {name: report}})


def test_a_report_of_an_unknown_name(tmp_path):
    table = SimpleNamespace(rows=[], spec={"reports": {"loss": "Figure 2"}})
    with pytest.raises(InputError, match=r"table\.reports\.loss: unknown; choose one of position, "):
        figures.report(table, tmp_path / "table")


def test_rounds_are_a_table_and_a_curve_below_it(tmp_path):
    def run(*figures):
        rounds = [{"JF": jf, "J": jf, "F": jf, "seconds": seconds} for jf, seconds in figures]
        return SimpleNamespace(result=lambda: {"scores": {"rounds": rounds}})

    plain = SimpleNamespace(result=lambda: {"scores": {"JF": 0.5}})
    path = tmp_path / "rounds.png"
    runs = {"a": run((0.25, 0.1), (0.5, 1.5)), "b": run((0.1, 2.0), (0.8, 4.0)), "no rounds": plain}
    first, _, table = figures.REPORTS["rounds"](runs, path, "a figure")
    assert first == f"J&F over the seconds of the model (a figure): {path}"
    assert [line.split() for line in table.splitlines()[2:]] == [
        ["a", "J&F", "25.0", "50.0"],
        ["a", "seconds", "0.1", "1.5"],
        ["b", "J&F", "10.0", "80.0"],
        ["b", "seconds", "2.0", "4.0"],
    ]
    assert np.asarray(Image.open(path).convert("L")).std() > 0
    assert figures.REPORTS["rounds"]({"no rounds": plain}, path, "a figure") == []
