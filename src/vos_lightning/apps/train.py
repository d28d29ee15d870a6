"""vos-train: one run, or with -m a sweep of runs. Options are Hydra's; see conf/train.yaml for the keys."""

import os
import sys
from multiprocessing import parent_process
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from vos_lightning.apps.cli import report_errors, sentence
from vos_lightning.configuration import CONF, ROOT, outside_folders, register_resolvers
from vos_lightning.errors import InputError
from vos_lightning.processes import Interruption, end_with

HELP = """vos-train trains and scores one run, or with -m a sweep of runs.

  vos-train model=MODEL seed=1                    one run
  vos-train -m sweeps=table4 scale=small          the runs of a table
  vos-train -m optim.lr=1e-3,1e-4 seed=0,1        a run for each pair of values
  vos-train model=MODEL seed=1 --cfg job          prints what these options compose, and trains nothing
  vos-train --hydra-help                          Hydra's own options

Options that are chosen as GROUP=OPTION:
{groups}

Keys that are set as KEY=VALUE, such as run.jobs=2, in conf/train.yaml and conf/clips.yaml:

{keys}"""

register_resolvers()  # at import, since the workers of a sweep compose their configurations themselves


def _run(cfg: DictConfig) -> None:
    import torch

    from vos_lightning.runs.callbacks import say
    from vos_lightning.runs.train import train

    hydra_cfg = HydraConfig.get()
    if hydra_cfg.mode == RunMode.MULTIRUN:
        if (sweep := parent_process()) is not None and sweep.pid is not None:
            end_with(sweep.pid)
        if cfg.run.dir:
            raise InputError("run.dir: the runs of a sweep each need their own folder; set run.root.")
        label = _label(cfg, hydra_cfg)
        if cfg.run.device is None:
            cfg.run.device = hydra_cfg.job.num % max(1, torch.cuda.device_count())
        try:
            train(cfg, label, hydra_cfg.job.num % cfg.run.jobs)
        except Exception as error:
            say(f"{label}: failed, {sentence(error)}")
            raise
    else:
        with report_errors("vos-train"):  # here, since Hydra adds a line to errors that it sees
            train(cfg)


def _label(cfg: DictConfig, hydra_cfg: Any) -> str:
    """The values of a run's swept keys; of all keys on the command line where no sweep is named."""
    from vos_lightning.runs.sweep import ASIDE

    swept = hydra_cfg.sweeper.params or hydra_cfg.overrides.task
    keys = dict.fromkeys(str(key).split("=")[0] for key in [*swept, "seed"])
    groups = hydra_cfg.runtime.choices
    shown = {key: groups.get(key) or OmegaConf.select(cfg, key) for key in keys if not key.startswith(ASIDE)}
    return " ".join(f"{key.partition('.')[2] or key}={value}" for key, value in shown.items())


def help_text() -> str:
    """Every group with its options, and every key with its meaning.

    Hydra's own help composes a run and lists Hydra's groups too, which takes twice as long.
    """
    names = [group.name for group in [*CONF.iterdir(), ROOT / "sweeps"]]
    places = (CONF, ROOT, *outside_folders())
    found = {
        name: sorted(path.stem for place in places for path in place.glob(f"{name}/*.yaml")) for name in names
    }
    groups = "\n".join(f"  {name:<18}{', '.join(found[name])}" for name in sorted(found) if found[name])
    keys = [(CONF / name).read_text(encoding="utf-8") for name in ("train.yaml", "clips.yaml")]
    return HELP.format(groups=groups, keys="\n".join(keys))


def main() -> None:
    """Command line entry."""
    if not {"-h", "--help"}.isdisjoint(sys.argv[1:]):
        with report_errors("vos-train"):
            print(help_text(), flush=True)
        return
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach `report_errors` as they are
    with report_errors("vos-train"), Interruption():
        hydra.main(config_path=str(CONF), config_name="train", version_base="1.3")(_run)()


if __name__ == "__main__":
    main()
