"""The runs of a sweep, composed as vos-train -m composes them."""

from dataclasses import dataclass
from itertools import product

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from vos_lightning.configuration import CONF, register_resolvers
from vos_lightning.errors import InputError


@dataclass(frozen=True)
class Cell:
    """One run of a sweep: the values of the swept keys, seed left out, its seed, and its configuration."""

    values: dict[str, str]
    seed: int
    cfg: DictConfig


def compose_train(overrides: list[str]) -> DictConfig:
    """Composes conf/train.yaml with Hydra overrides, also inside a Hydra job; the node `hydra` is kept."""
    register_resolvers()
    job = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose("train", overrides, return_hydra_config=True)
    finally:
        GlobalHydra.instance().hydra = job


def expand(overrides: list[str]) -> list[Cell]:
    """Every run of `vos-train -m OVERRIDES`, in its order.

    Args:
        overrides: with sweeps=NAME; a value such as seed=0,1,2 adds to the sweep's grid.

    Raises:
        InputError: no sweep is named.
    """
    given = OverridesParser.create().parse_overrides(overrides)
    fixed = [o.input_line or "" for o in given if not o.is_sweep_override()]
    cfg = compose_train(fixed)
    if "table" not in cfg:
        raise InputError("sweeps: not set; name one, such as sweeps=table4.")
    params = [f"{key}={value}" for key, value in cfg.hydra.sweeper.params.items()]
    # As in Hydra's sweeper, a key given on the command line replaces the sweep's own.
    grid = {o.get_key_element(): o for o in OverridesParser.create().parse_overrides(params)}
    grid |= {o.get_key_element(): o for o in given if o.is_sweep_override() or o.get_key_element() in grid}
    keys = list(grid)
    choices = [
        list(o.sweep_string_iterator()) if o.is_sweep_override() else [o.value()] for o in grid.values()
    ]
    cells = []
    for values in product(*choices):
        point = dict(zip(keys, values, strict=True))
        composed = compose_train([*fixed, *(f"{key}={value}" for key, value in point.items())])
        shown = [key for key, choice in zip(keys, choices, strict=True) if len(choice) > 1] or keys
        labels = {key: _word(OmegaConf.select(composed, key)) for key in shown}
        labels.pop("seed", None)
        cells.append(Cell(labels, composed.seed, composed))
    return cells


def _word(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
