"""The benchmarks in small: each finds both sides equal, and its harness measures what it says."""

import os
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from benchmarks import (
    agreement,
    attention,
    floor,
    growth,
    inference,
    matching,
    reading,
    recurrence,
    scoring,
    startup,
    training,
)
from benchmarks.__main__ import main
from benchmarks.floor import Peaks, least_time
from benchmarks.measure import HEADER, Row, Times, alternate, markdown

SMALL = "shufflenet_v2_x0_5"
SIZE = (70, 102)  # no multiple of 4


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measures the machine's peaks in moments, since what they are does not matter here."""
    monkeypatch.setattr(floor, "_best", partial(floor._best, within=0.05))


@pytest.mark.parametrize(
    ("case", "rows"),
    [
        (partial(inference.rows, SMALL, SIZE, frames=5, objects=(3,), repeats=1), 2),
        (partial(training.rows, SMALL, SIZE, batch=2, repeats=1, warmups=1), 2),
        (partial(attention.rows, 2, 16, 5, 7, repeats=1), 1),
        (partial(matching.rows, 2, (16, 28), repeats=1), 2),
        (partial(recurrence.rows, (4,), (5, 7), repeats=1), 2),
        (partial(scoring.rows, 2, 4, (60, 100), 2, repeats=1), 2),
        (partial(reading.rows, 10, (144, 256), (64, 112), repeats=1), 2),
        (partial(startup.rows, "import json", repeats=1), 2),
    ],
    ids=["inference", "training", "attention", "matching", "recurrence", "scoring", "reading", "start-up"],
)
def test_both_sides_agree(case, rows: int) -> None:
    found = case(processes=False)
    assert len(found) == rows
    assert all(len(row.cells()) == len(HEADER) for row in found)


def test_growth_has_a_line_for_each_number() -> None:
    net = (SMALL, (64, 96))
    cells = growth.cells((2, 3), (1, 2), (1, 2), net, net, (4, (60, 100)), repeats=1, processes=False)
    assert [line[1] for line in cells] == ["2", "3", "1", "2", "1", "2"]


def test_the_agreement_of_bf16_is_that_of_a_trained_network(tmp_path: Path) -> None:
    spec = "{train: 4, val: 2, test: 1, frames: 4, height: 64, width: 96, seed: 0}"
    overrides = [f"data.cache={tmp_path}", f"run.frame_cache={tmp_path}", f"run.root={tmp_path}"]
    overrides += [f"data.spec={spec}", "data.size=[64,96]", "data.val_clips=1", "train.max_steps=2"]
    assert "1 test clips: J&F " in agreement.sentence(overrides)


def allocates(megabytes: int):
    """A side, in terms of the standard library so that its process starts at once."""
    return partial(partial, eval, f"len(b'x' * ({megabytes} << 20))")


def test_a_side_has_a_process_and_a_peak_of_its_own() -> None:
    times = alternate({"much": allocates(300), "little": allocates(1)}, repeats=3)
    assert 295 < times["much"].memory / 2**20 < 330
    assert times["little"].memory / 2**20 < 30
    assert [len(side.seconds) for side in times.values()] == [3, 3]


def test_a_side_that_ends_is_no_endless_wait() -> None:
    with pytest.raises(RuntimeError, match="process ended"):
        alternate({"one": partial(os._exit, 1)}, repeats=1)


def test_a_sides_clock_and_memory_are_the_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    pretended = SimpleNamespace(
        is_initialized=lambda: True,
        synchronize=lambda: asked.append("wait"),
        reset_peak_memory_stats=lambda: asked.append("restart"),
        max_memory_allocated=lambda: 7,
    )
    monkeypatch.setattr(torch, "cuda", pretended)
    times = alternate({"one": lambda: lambda: asked.append("work")}, repeats=1, processes=False)
    assert asked == ["wait", "restart", "work", "wait", "work", "wait"] and times["one"].memory == 7


def test_cuda_rows_are_asked_for_where_there_is_a_device(capsys: pytest.CaptureFixture) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(SystemExit):
        main(["--device", "cuda"])
    assert "--device cuda: there is no CUDA device." in capsys.readouterr().err


def test_ratios_are_taken_round_by_round() -> None:
    row = Row("case", Times((1.0, 2.0, 4.0), 0, None), Times((2.0, 6.0, 4.0), 0, None), "2", "equal", 0.5)
    assert row.ratios() == [2, 3, 1]
    assert "| case | 2 s | 4 s | **2.00** (1.00 to 3.00) | 2 | 500 ms, 4.00 | 0 / 0 | equal |" in markdown(
        HEADER, [row.cells()]
    )


def test_the_floor_counts_operations_or_bytes() -> None:
    x, weight = torch.randn(2, 3, 8, 10), torch.randn(5, 3, 3, 3)

    def convolution() -> None:
        F.conv2d(x, weight, padding=1).relu()

    multiplications = 2 * 5 * 8 * 10 * 3 * 9
    moved = 4 * (x.numel() + weight.numel() + 2 * 5 * 8 * 10)
    assert least_time(convolution, Peaks(1.0, float("inf"))) == 2 * multiplications
    assert least_time(convolution, Peaks(float("inf"), 1.0)) == moved
