"""The runs of a sweep, as Hydra's own sweeper expands them, and the manifest that is written at its launch.

ROOT/sweeps/NAME-HASH.json, where NAME is group-data-scale and HASH is of the overrides:
    {"overrides": [...], "cells": [{"values": {KEY: VALUE}, "seed", "config", "training", "evaluation"}]}
so that a table shows the runs that were launched, whatever has become of sources and data since.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from vos_lightning.configuration import CONF, compose_train, plain_values, register_resolvers
from vos_lightning.errors import InputError
from vos_lightning.fields import flatten
from vos_lightning.plain import read_json

ASIDE = ("run.", "hydra", "logger")  # how overrides begin that decide where and how, not which runs


@dataclass(frozen=True)
class Cell:
    """One run of a sweep.

    values: the values of the swept keys but the seed. config: the configuration as plain values. training,
    evaluation: its folders below the root, None where they are not known.
    """

    values: dict[str, str]
    seed: int
    config: dict[str, Any]
    training: str | None = None
    evaluation: str | None = None


def expand(overrides: Sequence[str]) -> list[Cell]:
    """Every run of `vos-train -m OVERRIDES`, in its order.

    Args:
        overrides: with sweeps=NAME; a value such as seed=0,1,2 adds to the sweep's grid.

    Raises:
        InputError: no sweep is named. Or Hydra's errors for overrides that it cannot use.
    """
    register_resolvers()
    if not GlobalHydra.instance().is_initialized():
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return expand(overrides)
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    given = parser.parse_overrides(list(overrides))
    params = sweep_of(overrides).hydra.sweeper.params
    swept = parser.parse_overrides([f"{key}={value}" for key, value in params.items()])
    (jobs,) = BasicSweeper.split_arguments([*swept, *given], None)
    keys = dict.fromkeys(o.get_key_element() for o in [*swept, *(g for g in given if g.is_sweep_override())])
    cells = [plain_values(compose_train(job)) for job in jobs]
    points = [_chosen(job) | flatten(cell) for job, cell in zip(jobs, cells, strict=True)]
    varying = [key for key in keys if len({str(point.get(key)) for point in points}) > 1]
    shown = [key for key in varying if key != "seed"] or [key for key in keys if key != "seed"]
    return [
        Cell({key: word(point.get(key)) for key in shown}, cell["seed"], cell)
        for cell, point in zip(cells, points, strict=True)
    ]


def sweep_of(overrides: Sequence[str]) -> DictConfig:
    """The configuration that the runs of a sweep share. Raises InputError if no sweep is named."""
    given = OverridesParser.create().parse_overrides(list(overrides))
    cfg = compose_train([o.input_line or "" for o in given if not o.is_sweep_override()])
    if "table" not in cfg:
        raise InputError("sweeps: not set; name one, such as sweeps=table4.")
    return cfg


def _chosen(job: Sequence[str]) -> dict[str, str]:
    """What a run's overrides choose, such as a model, which is no field of the configuration."""
    return {key: value for key, _, value in (override.partition("=") for override in job)}


def word(value: object) -> str:
    """A value as tables show it."""
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def manifest_path(overrides: Sequence[str], cfg: DictConfig) -> Path:
    """Where the manifest of a sweep with these overrides lies."""
    from vos_lightning.runs.folder import content_hash

    deciding = sorted(o for o in overrides if not o.lstrip("+").startswith(ASIDE))
    name = f"{cfg.run.group}-{cfg.data.name}-{cfg.run.scale}-{content_hash(deciding)}"
    return Path(cfg.run.root) / "sweeps" / f"{name}.json"


def write_manifest(overrides: Sequence[str]) -> Path:
    """Writes the manifest of a sweep that is launched. A run that cannot be made has no folders in it."""
    from vos_lightning.runs.folder import write_json

    path = manifest_path(overrides, sweep_of(overrides))
    path.unlink(missing_ok=True)  # that of a launch before
    known: dict[Any, str] = {}
    cells = [{**vars(cell), **_folders(cell, known)} for cell in expand(overrides)]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"overrides": list(overrides), "cells": cells})
    return path


def _folders(cell: Cell, known: dict[Any, str]) -> dict[str, str]:
    from vos_lightning.runs.run import Run
    from vos_lightning.runs.settings import settings_of

    try:
        run = Run.of(settings_of(cell.config), known)
    except InputError:
        return {}
    return {"training": run.training.path.name, "evaluation": run.evaluation.path.name}


def launched(overrides: Sequence[str]) -> list[Cell]:
    """The runs of a sweep as its manifest says that they were launched; those of `expand` if there is none.

    Data, places of runs and published figures are those of the present configuration, so that a manifest
    of others makes no files anywhere; and so is all of a run that had no folders at its launch.

    Raises InputError for a manifest of another shape or of another sweep, and errors as `expand`.
    """
    now = expand(overrides)
    path = manifest_path(overrides, sweep_of(overrides))
    cells = read_manifest(path)
    if cells is None:
        return now
    present = {(*cell.values.items(), cell.seed): cell.config for cell in now}
    found = []
    for cell in cells:
        here = present.get((*cell.values.items(), cell.seed))
        if here is None:
            raise InputError(f"{path}: holds runs of another sweep; launch the sweep again.")
        kept = {} if cell.training is None else cell.config
        found.append(replace(cell, config={**here, **kept, **_present(here)}))
    return found


def _present(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of the present configuration stands for that of a launch: places, data, and what a table shows."""
    return {node: config[node] for node in ("run", "data", "table")}


def read_manifest(path: Path) -> list[Cell] | None:
    """The cells of a manifest; None if there is none. Raises InputError for a file of another shape."""
    content = read_json(path, {"cells": list}, needed=1)
    if content is None:
        return None
    cells = [_cell(path, entry) for entry in content["cells"]]
    if not cells or any(cell.values.keys() != cells[0].values.keys() for cell in cells):
        raise InputError(f"{path}: cells must hold values of the same keys; launch the sweep again.")
    return cells


def _cell(path: Path, entry: Any) -> Cell:
    kinds = {"values": dict, "seed": int, "config": dict}
    if not isinstance(entry, Mapping) or any(not isinstance(entry.get(k), t) for k, t in kinds.items()):
        raise InputError(f"{path}: each cell must hold values, seed and config; launch the sweep again.")
    if not entry["values"] or not all(isinstance(value, str) for value in entry["values"].values()):
        raise InputError(f"{path}: values must hold some text; launch the sweep again.")
    names = [entry.get(key) for key in ("training", "evaluation")]
    if names != [None, None] and not all(map(_is_name, names)):
        raise InputError(f"{path}: training and evaluation must be names; launch the sweep again.")
    return Cell(dict(entry["values"]), entry["seed"], dict(entry["config"]), *names)


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and Path(name).name == name and name not in ("", "..")


class Manifest(Callback):
    """Writes the manifest of a sweep of `sweeps/` when Hydra launches it."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Writes it, unless another sweeper than Hydra's own decides on the runs.

        What cannot be swept is left to Hydra and to the runs, which say so.
        """
        if "table" not in config or not config.hydra.sweeper._target_.endswith(".BasicSweeper"):
            return
        try:
            with suppress(HydraException, OmegaConfBaseException):
                write_manifest(list(config.hydra.overrides.task))
        except (InputError, OSError) as error:
            print(f"No manifest of this sweep ({error}); vos-table will expand it again.", flush=True)
