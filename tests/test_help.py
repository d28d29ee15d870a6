"""What vos-train prints for --help, and how little it loads for that."""

import subprocess
import sys

from omegaconf import OmegaConf

from vos_lightning.configuration import CONF, ROOT

CODE = """
import sys
from vos_lightning.apps.train import main
sys.argv = ["vos-train", "model=s2s", "--help"]
main()
sys.exit(2 * any(name in sys.modules for name in ("torch", "hydra._internal.core_plugins")))
"""


def test_help_names_every_group_option_and_key_without_composing_a_run() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    for group in [*CONF.iterdir(), ROOT / "sweeps"]:
        if options := sorted(path.stem for path in group.glob("*.yaml")):
            line = next(line for line in done.stdout.splitlines() if line.split()[:1] == [group.name])
            assert line.split(maxsplit=1)[1] == ", ".join(options)
    keys = OmegaConf.load(CONF / "train.yaml")
    lines = [line.strip() for line in done.stdout.splitlines()]
    for part in (keys[key] for key in keys):
        if OmegaConf.is_dict(part):
            assert all(any(line.startswith(f"{key}:") for line in lines) for key in part)
