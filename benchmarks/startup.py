"""Times how long help texts take: ours against importing everything first."""

import subprocess
import sys
from functools import partial

from benchmarks.measure import Row, Setup, Work, alternate

EVERYTHING = (
    "import torch, torchvision, pytorch_lightning, hydra, wandb, scipy.optimize, vos_lightning.runs.train"
)
COMMANDS = {"vos-train": "vos_lightning.apps.train", "vos-score": "vos_lightning.apps.score"}


def help_text(module: str, first: str = "") -> Work:
    """Work that starts Python, runs `first`, and prints a command's help, which it returns."""
    code = f"{first}\nimport sys\nsys.argv = ['command', '--help']\nfrom {module} import main\nmain()"

    def work() -> str:
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        return done.stdout

    return work


def bare() -> Work:
    """Work that starts Python and nothing else, the floor."""
    return lambda: subprocess.run([sys.executable, "-c", "pass"], check=True).returncode


def rows(first: str = EVERYTHING, repeats: int = 3, processes: bool = True) -> list[Row]:
    """A row for each command; the baseline runs `first`. Raises AssertionError if the texts differ."""
    found = []
    for command, module in COMMANDS.items():
        sides: dict[str, Setup] = {
            "ours": partial(help_text, module),
            "everything": partial(help_text, module, first),
            "floor": bare,
        }
        times = alternate(sides, repeats, processes=processes)
        assert times["ours"].result == times["everything"].result
        found.append(
            Row(
                f"start-up, {command} --help",
                times["ours"],
                times["everything"],
                "under 0.5 s",
                "same text",
                times["floor"].median,
            )
        )
    return found
