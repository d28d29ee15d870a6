"""Where configurations lie, the resolvers that they use, and composing them; nothing is built here."""

import os
from collections.abc import Callable
from importlib.metadata import entry_points
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from vos_lightning.errors import InputError

PACKAGE = Path(__file__).parent
# conf/ and sweeps/ stand inside an installed package and at the top of a checkout.
ROOT = PACKAGE if (PACKAGE / "conf").is_dir() else PACKAGE.parents[1]
CONF = ROOT / "conf"
MODELS_GROUP = "vos_lightning.models"  # of entry points, see `models.catalogue`


def cores() -> int:
    """CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> int:
    """NVIDIA GPUs this process may use, counted without torch, which takes seconds to import."""
    there = sum(1 for _ in Path("/dev").glob("nvidia[0-9]*"))
    there = there or sum(1 for _ in Path("/proc/driver/nvidia/gpus").glob("*"))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return there
    return min(there, len(list(takewhile(lambda name: name.strip() not in ("", "-1"), visible.split(",")))))


def jobs(accelerator: str) -> int:
    """Runs that this machine takes side by side: one for each GPU, or for each core where none is used."""
    return (gpus() if accelerator != "cpu" else 0) or cores()


def at_least_one(jobs: Any) -> int:
    """run.jobs as Hydra needs it before `fields` refuses a value that is no whole number from 1 up."""
    return max(1, jobs) if isinstance(jobs, int) else 1


def by(value: Any, *pairs: Any) -> Any:
    """The one of `pairs` (A, VALUE OF A, B, VALUE OF B, ...) that belongs to a value; 0.0 for any other."""
    return dict(zip(pairs[::2], pairs[1::2], strict=True)).get(value, 0.0)


def register_resolvers() -> None:
    """Makes the functions whose names begin with `vos.` known to configurations."""
    resolvers: dict[str, Callable[..., Any]] = {
        "vos.jobs": jobs,
        "vos.side_by_side": at_least_one,
        "vos.threads": lambda jobs: max(1, cores() // at_least_one(jobs)),
        "vos.searchpath": lambda: [f"file://{place}" for place in (ROOT, *outside_folders())],
        "vos.by": by,
        "vos.cache": lambda: os.environ.get("VOS_CACHE", ".cache"),
    }
    for name, resolver in resolvers.items():
        OmegaConf.register_new_resolver(name, resolver, replace=True)


def outside_folders() -> list[Path]:
    """Where packages that offer models have groups such as model/ and sweeps/: PACKAGE and PACKAGE/conf.

    Nothing is imported.
    """
    found: list[Path] = []
    for point in entry_points(group=MODELS_GROUP):
        spec = find_spec(point.module.partition(".")[0])
        folders = spec.submodule_search_locations if spec is not None else None
        found += [place for folder in folders or [] for place in (Path(folder), Path(folder) / "conf")]
    return [place for place in dict.fromkeys(found) if place.is_dir()]


def compose_train(overrides: list[str]) -> DictConfig:
    """Composes conf/train.yaml with Hydra overrides, also inside a Hydra job; the node `hydra` is kept.

    Raises Hydra's errors for overrides that it cannot use.
    """
    register_resolvers()
    if GlobalHydra.instance().is_initialized():  # by the job, from the same folder
        return compose("train", overrides, return_hydra_config=True)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", overrides, return_hydra_config=True)


def plain_values(cfg: DictConfig) -> dict[str, Any]:
    """A composed configuration's content without the node hydra, resolved.

    Raises InputError for a value that is missing, an OmegaConf error for one that cannot be resolved.
    """
    keys: list[Any] = [key for key in cfg if key != "hydra"]  # which resolves in a Hydra job alone
    content = OmegaConf.masked_copy(cfg, keys)
    missing = sorted(OmegaConf.missing_keys(content))
    if missing:
        raise InputError(f"{missing[0]}: not set; give {missing[0]}=VALUE.")
    values = OmegaConf.to_container(content, resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}
