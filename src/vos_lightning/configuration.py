"""From a composed configuration to data, model and protocol; and where configurations lie."""

import os
from collections.abc import Callable
from inspect import signature
from itertools import takewhile
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

PACKAGE = Path(__file__).parent
# conf/ and sweeps/ stand inside an installed package and at the top of a checkout.
ROOT = PACKAGE if (PACKAGE / "conf").is_dir() else PACKAGE.parents[1]
CONF = ROOT / "conf"


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


def register_resolvers() -> None:
    """Makes vos.root, vos.jobs, vos.side_by_side, vos.threads and vos.cache known to configurations."""
    resolvers: dict[str, Callable[..., Any]] = {
        "vos.root": lambda: str(ROOT),
        "vos.jobs": jobs,
        "vos.side_by_side": at_least_one,
        "vos.threads": lambda jobs: max(1, cores() // at_least_one(jobs)),
        "vos.cache": lambda: os.environ.get("VOS_CACHE", ".cache"),
    }
    for name, resolver in resolvers.items():
        OmegaConf.register_new_resolver(name, resolver, replace=True)


def build_data(cfg: DictConfig) -> Any:
    """The LightningDataModule of cfg.data. Raises InputError for a name that has none."""
    from vos_lightning.data import sets
    from vos_lightning.data.small_frames import FrameCache
    from vos_lightning.data.synthetic import SyntheticSpec
    from vos_lightning.data.synthetic_trees import SyntheticTreesSpec, write_synthetic_trees
    from vos_lightning.data.synthetic_youtube import SyntheticYouTubeSpec
    from vos_lightning.errors import one_of
    from vos_lightning.fields import build

    data, folder = cfg.data, cfg.run.frame_cache
    lengths = [data.clip_length] * 2 if isinstance(data.clip_length, int) else list(data.clip_length)
    clips = {
        "size": tuple(data.size),
        "clip_length": tuple(lengths),
        "batch_size": data.batch_size,
        "slots": cfg.model.slots,
        "augment": data.augment,
        "train_split": data.train_split,
        "val_split": data.val_split,
        "val_clips": data.val_clips,
        "seed": cfg.seed,
        "workers": cfg.run.loader_workers,
        "one_object": cfg.model.architecture == "s2s",
        "samples": data.samples,
        "draw": data.draw,
        "clip_start": data.clip_start,
        "image_warp": data.image_warp,
        "weigh_absent": data.weigh_absent,
        "every_frame": any(
            stage.get("frames") == "all" for stage in cfg.train.stages if OmegaConf.is_dict(stage)
        ),
        "frame_cache": FrameCache(Path(folder), cfg.run.keep_free_gib * 2**30) if folder else None,
    }

    def given(*keys: str) -> dict[str, Any]:
        """Fields of cfg.data, roots and lists as paths."""
        fields = {key: data[key] for key in keys}
        return {key: Path(v) if v and key.endswith(("root", "_list")) else v for key, v in fields.items()}

    def spec(kind: Any) -> Any:
        return build(kind, "data.spec", data.spec)

    def trees() -> Path:
        return write_synthetic_trees(Path(data.cache), spec(SyntheticTreesSpec))

    davis = ("root", "resolution")
    youtube = ("portion", "seen_categories", "protocol", "train_list", "val_list")
    builders: dict[str, Callable[[], Any]] = {
        "davis2016": lambda: sets.Davis2016(**given(*davis), **clips),
        "davis2017": lambda: sets.Davis2017(**given(*davis), **clips),
        "davis2016_192": lambda: sets.Davis2016Extended(
            **given(*davis, "segtrack_root", "jumpcut_root", "youtube_objects_root", "extended"), **clips
        ),
        "youtube_vos": lambda: sets.YouTubeVOS(**given("root", *youtube), **clips),
        "synthetic": lambda: sets.Synthetic(Path(data.cache), spec(SyntheticSpec), **clips),
        "synthetic_youtube": lambda: sets.SyntheticYouTube(
            Path(data.cache), spec(SyntheticYouTubeSpec), **given(*youtube), **clips
        ),
        "synthetic_2016": lambda: sets.Davis2016(root=trees() / "DAVIS", **clips),
        "synthetic_192": lambda: sets.Davis2016Extended(
            root=trees() / "DAVIS",
            segtrack_root=trees() / "SegTrackv2",
            jumpcut_root=trees() / "JumpCut",
            youtube_objects_root=trees() / "YouTube-Objects",
            extended=data.extended,
            **clips,
        ),
    }
    one_of("data.name", data.name, builders)
    return builders[data.name]()


def build_model(model: DictConfig, trained: bool = False) -> Any:
    """The network of cfg.model; `trained` if a checkpoint replaces all its weights, so that none are fetched.

    Raises InputError for an unknown field or a field with an unknown value.
    """
    from vos_lightning.errors import one_of
    from vos_lightning.fields import build
    from vos_lightning.models.rvos.network import RVOS
    from vos_lightning.models.s2s.network import S2S

    architectures = {"rvos": RVOS, "s2s": S2S}
    one_of("model.architecture", model.architecture, architectures)
    network = architectures[model.architecture]
    fields = {str(k): v for k, v in model.items() if k not in ("name", "architecture", "slots")}
    if trained:
        fields |= {key: "none" for key in signature(network).parameters if key.endswith("weights")}
    return build(network, "model", fields)


def build_segmenter(cfg: DictConfig, model: Any, device: Any) -> Any:
    """A trained model made ready to segment videos as cfg.predict says, see `evaluation.Segmenter`.

    Raises InputError for a field with an unknown value.
    """
    from vos_lightning.errors import InputError
    from vos_lightning.evaluation.videos import Segmenter
    from vos_lightning.fields import build
    from vos_lightning.layers.inference import for_inference
    from vos_lightning.models.s2s.online import OnlineLearning

    predict = cfg.predict
    if predict.online.enabled and cfg.model.architecture != "s2s":
        raise InputError("predict.online.enabled=true: needs model.architecture=s2s.")
    if predict.online.enabled and predict.precision != "fp32":
        raise InputError(f"predict.precision={predict.precision}: online learning needs fp32.")
    ready = for_inference(model, predict.precision).to(device)
    fields = {str(k): v for k, v in predict.online.items() if k != "enabled"} | {"seed": cfg.seed}
    online = build(OnlineLearning, "predict.online", fields) if predict.online.enabled else None
    return Segmenter(ready, build_protocol(cfg), device, online)


def build_protocol(cfg: DictConfig) -> Any:
    """How cfg's model runs along a video, see `propagation.Protocol`."""
    from vos_lightning.evaluation.propagation import Protocol

    fields = ("given_frames", "start_at_given", "paste_given", "match_given", "merge", "background")
    return Protocol(
        tuple(cfg.data.size), proposals=cfg.model.slots, **{key: cfg.predict[key] for key in fields}
    )
