"""Which values each field of a configuration may have: one table, KINDS, and the checks that read it.

`vos-train` and `vos-table` check a composed configuration before anything is read or written, and what
`vos-predict` reads back from a run's folder may hold these fields alone. A key that is new in conf/ gets its
entry here, which tests/test_fields.py demands: KEY: KIND, where `word` is text whose choices are checked
where it is used. GONE lists keys that earlier versions wrote.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from inspect import signature
from typing import Any, NamedTuple, TypeVar

from omegaconf import DictConfig, OmegaConf

from vos_lightning.errors import InputError
from vos_lightning.plain import parse_yaml

Built = TypeVar("Built")


class Kind(NamedTuple):
    """A set of values. wanted: what an error says of it. holds: whether a value is in it."""

    wanted: str
    holds: Callable[[Any], bool]


def whole(low: int, high: int = 2**31 - 1, step: int = 1, also: int | None = None) -> Kind:
    """Whole numbers low..high that `step` divides, and `also`."""
    more = f" that {step} divides" if step > 1 else ""
    other = "" if also is None else f", or {also}"
    return Kind(
        f"must be a whole number from {low} to {high}{more}{other}",
        lambda v: type(v) is int and (v == also or (low <= v <= high and v % step == 0)),
    )


def real(low: float, high: float = math.inf) -> Kind:
    """Finite numbers low..high."""
    span = f"of {low} or more" if math.isinf(high) else f"from {low} to {high}"
    return Kind(
        f"must be a number {span}", lambda v: type(v) in (int, float) and low <= v <= high and abs(v) < 1e30
    )


def choice(*values: str) -> Kind:
    """Some words."""
    return Kind(f"unknown; choose one of {', '.join(values)}", lambda v: v in values)


def or_null(kind: Kind) -> Kind:
    """Values of a kind, and null."""
    return Kind(f"{kind.wanted}, or null", lambda v: v is None or kind.holds(v))


def pair_or(kind: Kind, alone: bool, ordered: bool) -> Kind:
    """[A, B] of a kind, where A is no more than B if `ordered`; also A for both if `alone`."""

    def holds(v: Any) -> bool:
        pair = [v, v] if alone and not isinstance(v, list) else v
        fits = isinstance(pair, list) and len(pair) == 2 and all(map(kind.holds, pair))
        return fits and (not ordered or pair[0] <= pair[1])

    names = "T or [shortest, longest]" if alone else "[height, width]"
    return Kind(f"must be {names}, of which each {kind.wanted}", holds)


def list_of(kind: Kind) -> Kind:
    """Lists of a kind."""
    return Kind(
        f"must be a list, of which each {kind.wanted}",
        lambda v: isinstance(v, list) and all(map(kind.holds, v)),
    )


truth = Kind("must be true or false", lambda v: type(v) is bool)
word = Kind(
    "must be text, in quotes if it looks like something else",
    lambda v: isinstance(v, str) and 0 < len(v) <= 4096 and v.isprintable(),
)
name = Kind(
    "must be a name of at most 60 letters, without slashes, that does not begin with a dot",
    lambda v: word.holds(v) and len(v) <= 60 and not set(v) & set("/\\") and v[0] != ".",
)
folder = Kind(  # beside what a run's folder holds, see `runs`
    "must be a name of at most 60 letters, digits, hyphens and underscores other than masks and wandb",
    lambda v: name.holds(v) and re.fullmatch(r"[\w-]+", v) is not None and v not in ("masks", "wandb"),
)
stages = Kind(
    "must be a list of one or more {epochs: N, ...}",
    lambda v: isinstance(v, list) and bool(v) and all(isinstance(s, Mapping) and "epochs" in s for s in v),
)
nothing = Kind("must be null, or have fields of its own", lambda v: v is None)

fingerprints = Kind(
    "must hold text alone",
    lambda v: isinstance(v, Mapping) and all(word.holds(item) for pair in v.items() for item in pair),
)

KINDS: dict[str, Kind] = {
    "seed": whole(0, 2**32 - 1),
    "data.name": name,
    "data.size": pair_or(whole(32, 4096), alone=False, ordered=False),
    "data.clip_length": pair_or(whole(2, 200), alone=True, ordered=True),
    "data.samples": whole(0),
    "data.draw": word,
    "data.clip_start": word,
    "data.batch_size": whole(1, 4096),
    "data.augment": truth,
    "data.image_warp": word,
    "data.weigh_absent": truth,
    "data.val_clips": whole(0),
    "data.train_split": name,
    "data.val_split": name,
    "data.train_list": or_null(word),
    "data.val_list": or_null(word),
    "data.score_split": name,
    "data.submit_split": or_null(folder),
    "data.root": word,
    "data.resolution": word,
    "data.extended": truth,
    "data.segtrack_root": or_null(word),
    "data.jumpcut_root": or_null(word),
    "data.youtube_objects_root": or_null(word),
    "data.cache": word,
    "data.portion": whole(1, 100),
    "data.protocol": word,
    "data.seen_categories": or_null(list_of(word)),
    "data.spec.seed": whole(0),
    **{
        f"data.spec.{part}": whole(0, 100_000)
        for part in ("train", "val", "valid", "test", "segtrack", "jumpcut", "youtube_objects")
    },
    "data.spec.frames": whole(1, 10_000),
    "data.spec.added_frames": whole(1, 10_000),
    "data.spec.height": whole(32, 4096),
    "data.spec.width": whole(32, 4096),
    "model.name": name,
    "model.architecture": word,
    "model.backbone": word,
    "model.weights": word,
    "model.hidden": whole(8, 4096, step=8),
    "model.slots": whole(1, 254),  # ids of a mask; 255 is void
    "model.cell": word,
    "model.reset_gates": whole(1),
    "model.gru_form": word,
    "model.recurrence": word,
    "model.mask_input": truth,
    "model.feeds_unstarted": truth,
    "model.nonlocal_position": word,
    "model.affinity": word,
    "model.feeds_next_stage": truth,
    "model.auxiliary": truth,
    "model.bn": word,
    "model.level": word,
    "model.fc6": truth,
    "model.initializer": truth,
    "model.encoder": word,
    "model.mask_entry": word,
    "model.activation": word,
    "model.peepholes": word,
    "model.size": pair_or(whole(32, 4096), alone=False, ordered=False),
    "model.upsampling": word,
    "model.units": whole(1, 16),
    "model.last_unit": truth,
    "model.norm": truth,
    "model.video": word,
    "model.window": whole(0),
    "model.deeplab": truth,
    "model.deeplab_network": word,
    "model.deeplab_weights": word,
    "train.first": or_null(list_of(word)),
    "train.stages": stages,
    "train.stages[].epochs": whole(1, 100_000),
    "train.stages[].patience": whole(0),
    "train.stages[].keep": word,
    "train.stages[].previous_mask": word,
    "train.stages[].frames": word,
    "train.max_steps": whole(1, also=-1),
    "train.auxiliary_weight": real(0),
    "train.unroll": whole(0),
    "train.match_valid_only": truth,
    "train.gradient_clip": real(0),
    "train.precision": choice("32-true", "bf16-mixed"),
    "train.tf32": truth,
    "train.compile": truth,
    "train.init_from": or_null(word),
    "rates.none": real(0),
    "rates.clip": real(0),
    "optim.lr": real(0),
    "optim.backbone_lr": real(0),
    "optim.weight_decay": real(0),
    "optim.schedule": word,
    "optim.warmup_steps": whole(0),
    "predict.given_frames": whole(1),
    "predict.start_at_given": truth,
    "predict.paste_given": truth,
    "predict.match_given": truth,
    "predict.merge": word,
    "predict.background": real(0, 1),
    "predict.all_frames": truth,
    "predict.online.enabled": truth,
    "predict.online.steps": whole(0, 100_000),
    "predict.online.lr": real(0),
    "predict.online.pairs": whole(1, 1024),
    "predict.tf32": truth,
    "predict.precision": word,
    "run.root": word,
    "run.dir": or_null(word),
    "run.jobs": whole(1, 1024),
    "run.threads": whole(1, 1024),
    "run.accelerator": choice("auto", "cpu", "cuda"),
    "run.device": or_null(whole(0, 1023)),
    "run.frame_cache": or_null(word),
    "run.keep_free_gib": real(0),
    "run.checkpoint_minutes": real(0),
    "run.loader_workers": whole(0, 256),
    "run.scale": name,
    "run.group": or_null(name),
    "run.logger": nothing,
    "run.logger.project": word,
    "run.logger.mode": or_null(choice("online", "offline", "disabled")),
}
KINDS["data_version"] = fingerprints  # which a run adds
GONE = ("train.channels_last", "train.evaluate")
GROUPS = {key[: i if c == "." else i + 2] for key in KINDS for i, c in enumerate(key) if c in ".["}


def check(values: Mapping[Any, Any], source: str = "", known_only: bool = False) -> None:
    """Checks a configuration's plain content against KINDS; the nodes hydra and table are left out.

    Args:
        values: as OmegaConf.to_container gives it, resolved.
        source: what a sentence starts with, such as `FILE: `.
        known_only: whether a key that KINDS lacks is refused.

    Raises:
        InputError: names the field, its value and what is allowed.
    """
    for field, key, value in _leaves({k: v for k, v in values.items() if k not in ("hydra", "table")}):
        kind = KINDS.get(key)
        if kind is None and key in GROUPS:
            raise InputError(f"{source}{field}={_shown(value)}: must have fields of its own.")
        if kind is None and known_only:
            raise InputError(f"{source}{_shown(field)}: no such field; remove it.")
        if kind is not None and not kind.holds(value):
            raise InputError(f"{source}{field}={_shown(value)}: {kind.wanted}.")


def _leaves(values: Mapping[Any, Any], prefix: str = "", path: str = "") -> Iterator[tuple[str, str, Any]]:
    """Each field as it is called, its key in KINDS, and its value; a list of stages before what is in it."""
    for name, value in values.items():
        field, key = f"{prefix}{name}", f"{path}{name}"
        if isinstance(value, Mapping) and key in GROUPS:
            yield from _leaves(value, f"{field}.", f"{key}.")
            continue
        yield field, key, value
        for i, item in enumerate(value if f"{key}[]" in GROUPS and isinstance(value, list) else []):
            if isinstance(item, Mapping):
                yield from _leaves(item, f"{field}[{i}].", f"{key}[].")


def _shown(value: Any) -> str:
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= 60 else f"{text[:57]}..."


def build(kind: Callable[..., Built], node: str, values: Mapping[Any, Any]) -> Built:
    """An object of `kind` from the fields of a node. Raises InputError for one that it does not have."""
    known = signature(kind).parameters
    if unknown := sorted(str(key) for key in values if key not in known):
        raise InputError(f"{node}.{unknown[0]}: no such field; choose some of {', '.join(known)}.")
    return kind(**values)


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


def check_config(cfg: DictConfig) -> None:
    """Checks a composed configuration.

    Raises InputError for a value that KINDS does not allow, and errors as `plain_values`.
    """
    check(plain_values(cfg))


def override(cfg: DictConfig, overrides: Iterable[str]) -> None:
    """Sets fields in place, each given as KEY=VALUE, where VALUE is YAML.

    Raises InputError for another form, an unknown field, or a value that KINDS does not allow.
    """
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or key not in KINDS:
            raise InputError(f"--set {text[:60]}: give KEY=VALUE, such as predict.merge=argmax.")
        plain = parse_yaml(value, f"--set {text[:60]}")
        if not KINDS[key].holds(plain):
            raise InputError(f"--set {key}={_shown(plain)}: {KINDS[key].wanted}.")
        OmegaConf.update(cfg, key, plain, merge=False, force_add=True)
