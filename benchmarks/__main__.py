"""Runs every benchmark and prints the tables of docs/performance.md, as Markdown."""

import argparse
import platform
import sys
import time
from collections.abc import Callable
from functools import partial

import torch

from benchmarks import (
    agreement,
    attention,
    growth,
    inference,
    matching,
    reading,
    recurrence,
    scoring,
    startup,
    training,
)
from benchmarks.floor import peaks
from benchmarks.measure import HEADER, Row, line, markdown
from vos_lightning.configuration import cores
from vos_lightning.devices import choose_arithmetic, device_name
from vos_lightning.runs.sources import code_version

Cases = list[tuple[str, Callable[[], list[Row]]]]
CPU: Cases = [
    ("inference, cpu", inference.rows),
    ("training, cpu", training.rows),
    ("the non-local block", attention.rows),
    ("matching", matching.rows),
    ("recurrence", recurrence.rows),
    ("scoring", scoring.rows),
    ("reading", reading.rows),
    ("start-up", startup.rows),
]
CUDA: Cases = [
    ("inference, cuda", partial(inference.rows, device="cuda")),
    (
        "training, cuda",
        partial(training.rows, size=(256, 448), device="cuda", precisions=("fp32", "bf16")),
    ),
]


def main(argv: list[str] | None = None) -> None:
    """Prints the machine, the ratios, the growth and the agreement of bf16; on CUDA the ratios alone."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), help="its rows alone (default: what is there)")
    chosen = parser.parse_args(argv).device
    if chosen == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: there is no CUDA device.")
    cases = CUDA if chosen != "cpu" and torch.cuda.is_available() else []
    cases = cases if chosen == "cuda" else CPU + cases
    started = time.monotonic()
    torch.set_num_threads(cores())
    choose_arithmetic(tf32=False)
    print(machine(), flush=True)
    print(markdown(HEADER, []))
    for name, case in cases:
        print(f"{time.monotonic() - started:4.0f} s: {name}", file=sys.stderr, flush=True)
        for row in case():
            print(line(row.cells()), flush=True)
    if chosen == "cuda":
        return
    print(f"{time.monotonic() - started:4.0f} s: growth", file=sys.stderr, flush=True)
    print("\n" + markdown(growth.HEADER, growth.cells()), flush=True)
    print(f"{time.monotonic() - started:4.0f} s: agreement of bf16", file=sys.stderr, flush=True)
    print(f"\n{agreement.sentence()}\n\n{(time.monotonic() - started) / 60:.1f} minutes.")


def machine() -> str:
    """Says on what machine and with what versions the figures were measured."""
    fp32, bf16 = (peaks("cpu", dtype) for dtype in (torch.float32, torch.bfloat16))
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return (
        f"{device_name(torch.device('cpu'))}, {cores()} cores{gpu}; Python "
        f"{platform.python_version()}, torch {torch.__version__}, vos-lightning {code_version()}. Peaks: "
        f"{fp32.operations / 1e9:.0f} Gop/s in fp32, {bf16.operations / 1e9:.0f} in bf16, "
        f"{fp32.bytes / 1e9:.0f} GB/s.\n"
    )


if __name__ == "__main__":
    main()
