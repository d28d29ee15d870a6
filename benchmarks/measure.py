"""Times two or more sides in turn, each in its own process, and makes the table of their ratios.

A side is a `Setup`: called once, it prepares and returns the `Work` to be timed. The allocator, the caches
and the peak memory of a side are its own.
"""

import ctypes
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

Work = Callable[[], Any]
Setup = Callable[[], Work]


@dataclass(frozen=True)
class Times:
    """What a side took.

    seconds: how long each counted call took. memory: bytes of main memory that the process held at its peak
    beyond those before the first call; on CUDA, bytes of the device that its tensors held at their peak.
    result: what the first call returned, which is not counted.
    """

    seconds: tuple[float, ...]
    memory: int
    result: Any

    @property
    def median(self) -> float:
        """Seconds."""
        return median(self.seconds)


class _Here:
    """A side in this process."""

    def __init__(self, setup: Setup) -> None:
        self.work = setup()
        self.cuda = _cuda()
        if self.cuda:
            self.cuda.synchronize()
            self.cuda.reset_peak_memory_stats()
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
        self.before = _memory("VmRSS")

    def call(self) -> tuple[float, Any]:
        started = time.perf_counter()
        result = self.work()
        if self.cuda:
            self.cuda.synchronize()  # what was asked for is then done
        return time.perf_counter() - started, result

    def end(self) -> int:
        return self.cuda.max_memory_allocated() if self.cuda else _memory("VmHWM") - self.before

    def stop(self) -> None:
        del self.work


class _Elsewhere:
    """A side in a process of its own."""

    def __init__(self, setup: Setup) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, setup))
        self.process.start()
        other.close()

    def call(self) -> tuple[float, Any]:
        self.connection.send("call")
        return self.connection.recv()

    def end(self) -> int:
        self.connection.send("end")
        return self.connection.recv()

    def stop(self) -> None:
        self.process.terminate()
        self.process.join()


def _serve(connection: Connection, setup: Setup) -> None:
    side = _Here(setup)
    while connection.recv() == "call":
        connection.send(side.call())
    connection.send(side.end())


def _cuda() -> Any:
    """torch.cuda if this process computes there, else None; torch is not imported for the question."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_initialized() else None


def _memory(field: str) -> int:
    """Bytes of main memory that this process holds now, by field VmRSS, or held at its peak, by VmHWM."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def alternate(
    sides: Mapping[str, Setup], repeats: int, warmups: int = 1, processes: bool = True
) -> dict[str, Times]:
    """Calls every side once a round: `warmups` (1 or more) uncounted rounds, then `repeats` counted ones.

    processes: False runs all sides in this process, where their memory means nothing.
    """
    running = {name: (_Elsewhere if processes else _Here)(setup) for name, setup in sides.items()}
    try:
        rounds = [{name: side.call() for name, side in running.items()} for _ in range(warmups + repeats)]
        return {
            name: Times(tuple(calls[name][0] for calls in rounds[warmups:]), side.end(), rounds[0][name][1])
            for name, side in running.items()
        }
    except (EOFError, ConnectionError) as error:
        raise RuntimeError("A side's process ended; its error is above, or memory was short.") from error
    finally:
        for side in running.values():
            side.stop()


@dataclass(frozen=True)
class Row:
    """One line of the table: our side against the baseline.

    case: says what was done. target: the ratio to reach. agreement: says how far the results agree.
    floor: the least seconds that the work can take on this machine, None if they are not known.
    """

    case: str
    ours: Times
    baseline: Times
    target: str
    agreement: str
    floor: float | None = None

    def ratios(self) -> list[float]:
        """Baseline by ours, round by round."""
        return [b / o for b, o in zip(self.baseline.seconds, self.ours.seconds, strict=True)]

    def cells(self) -> list[str]:
        """The columns of HEADER."""
        ratios = self.ratios()
        memory = [f"{side.memory / 2**20:.0f}" for side in (self.ours, self.baseline)]
        return [
            self.case,
            duration(self.ours.median),
            duration(self.baseline.median),
            f"**{median(ratios):.2f}** ({min(ratios):.2f} to {max(ratios):.2f})",
            self.target,
            "" if self.floor is None else f"{duration(self.floor)}, {self.ours.median / self.floor:.2f}",
            " / ".join(memory),
            self.agreement,
        ]


HEADER = (
    "case",
    "ours",
    "baseline",
    "ratio (min to max)",
    "target",
    "floor, ours by floor",
    "memory, MiB",
    "agreement",
)


def duration(seconds: float) -> str:
    """Seconds as text with three digits, in s or ms."""
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def markdown(header: tuple[str, ...], rows: list[list[str]]) -> str:
    """A table as Markdown."""
    return "\n".join(map(line, [header, ["---"] * len(header), *rows]))


def line(cells: Iterable[str]) -> str:
    """A line of a table as Markdown."""
    return "| " + " | ".join(cells) + " |"
