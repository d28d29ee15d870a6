"""One run from configuration to result: train, score, keep what tables need."""

import os
import time
import traceback
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from dataclasses import fields as fields_of
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import torch
from omegaconf import DictConfig
from pytorch_lightning import seed_everything

from vos_lightning.atomic import unwritable
from vos_lightning.configuration import build_data, build_model, build_segmenter
from vos_lightning.data.clips import check_readable
from vos_lightning.data.modules import VideoData, fingerprint
from vos_lightning.data.videos import Video
from vos_lightning.devices import choose_arithmetic, choose_device, device_name
from vos_lightning.errors import InputError
from vos_lightning.evaluation.videos import segment_and_score, write_submission
from vos_lightning.fields import build, check_config
from vos_lightning.layers.weights import checkpoint_hash, load_strictly, read_model_weights
from vos_lightning.models.rvos.module import MaskStage, Segmentation
from vos_lightning.models.s2s.module import ObjectSegmentation, ObjectStage
from vos_lightning.models.s2s.network import S2S
from vos_lightning.models.training import ClipTask, Optimisation, Stage
from vos_lightning.processes import Interrupted, Interruption
from vos_lightning.runs.callbacks import Progress, say
from vos_lightning.runs.fitting import Fitted, fit, quiet
from vos_lightning.runs.folder import Run, code_version, content_hash, identity, write_json
from vos_lightning.runs.memory import check_memory, keep_freed_memory, peak_memory, restart_peak_memory
from vos_lightning.runs.sweep import compose_train
from vos_lightning.scoring.rules import Rules

if TYPE_CHECKING:
    from vos_lightning.runs.wandb_log import RunLogger

AnyStage = TypeVar("AnyStage", bound=Stage)


def first_of(cfg: DictConfig) -> DictConfig | None:
    """The run whose weights this one starts from, if there is one.

    Online learning happens while a trained network segments, so a run with it is the one without it,
    segmented again. Else it is the run that train.first composes, with this one's scale, model and seed.
    """
    if cfg.predict.online.enabled:
        first = cfg.copy()
        first.predict.online.enabled = False
    elif cfg.train.first:
        first = compose_train([f"scale={cfg.run.scale}", *cfg.train.first])
        first.model, first.seed, first.run = cfg.model, cfg.seed, cfg.run
        check_config(first)
    else:
        return None
    first.run.dir = None
    return first


def run_of(cfg: DictConfig, data: VideoData | None = None) -> Run:
    """The run of a configuration on the data as it is: its identity holds a fingerprint of the files used."""
    data = data or build_data(cfg)
    splits = dict.fromkeys((cfg.data.train_split, cfg.data.val_split, cfg.data.score_split), False)
    splits[cfg.data.train_split] |= data.every_frame
    splits[cfg.data.score_split] |= cfg.predict.all_frames
    versions = {split: fingerprint(data.videos(split, all_frames=every)) for split, every in splits.items()}
    if cfg.train.init_from:
        versions["init_from"] = checkpoint_hash(Path(cfg.train.init_from))
    first = first_of(cfg)
    if first is not None:
        versions["first"] = content_hash(identity(run_of(first).settings))
    return Run.of(cfg, versions)


def train(cfg: DictConfig, name: str = "", position: int = 0) -> dict[str, Any]:
    """Does what is missing of a run and returns its result; a finished run is only read.

    Args:
        cfg: composed from conf/train.yaml.
        name: shown beside the progress.
        position: line of the progress bar, for runs side by side.

    Returns:
        The content of result.json.

    Raises:
        InputError: a field, file or checkpoint that cannot be used.
    """
    quiet()
    check_config(cfg)
    check_memory(cfg.data)
    data = build_data(cfg)
    run = run_of(cfg, data)
    run.check_settings()
    result, submitted = run.result(), _submitted(cfg, data, run)
    if result is None:
        first = first_of(cfg)
        if first is not None:
            train(first, f"{name or run.folder.name}, first run", position)
        work = _prepare(cfg, data, submitted)
        with run.claimed():
            result = run.result() or _work(cfg, run, work, name or run.folder.name, position)
    else:
        say(f"{name or run.folder.name}: finished before, {summary(result)}")
    return _with_submission(cfg, data, run, result, submitted) if submitted else result


def summary(result: dict[str, Any]) -> str:
    """One line of a result: J&F, J, F in percent, and minutes."""
    scores = result["scores"]
    figures = ", ".join(
        f"{label} {100 * scores[key]:.1f}" for label, key in (("J&F", "JF"), ("J", "J"), ("F", "F"))
    )
    return f"{figures} on {result['split']} ({result['train_seconds'] / 60:.1f} min training)"


class Work(NamedTuple):
    """What a run needs, known to be usable."""

    task: ClipTask
    data: VideoData
    scored: list[Video]
    rules: Rules
    device: torch.device


def _prepare(cfg: DictConfig, data: VideoData, submitted: list[Video]) -> Work:
    """Builds everything and reads what training will not; bad input ends here, before a folder is made."""
    device = choose_device(cfg.run.accelerator, cfg.run.device)
    torch.set_num_threads(cfg.run.threads)
    keep_freed_memory()
    choose_arithmetic(cfg.train.tf32)
    seed_everything(cfg.seed, verbose=False)
    scored = data.videos(cfg.data.score_split, all_frames=cfg.predict.all_frames)
    task = build_task(cfg)
    segmenter = build_segmenter(cfg, task.model, "cpu")
    work = Work(task, data, scored, data.rules(segmenter.takes_given), device)
    if isinstance(task, ObjectSegmentation):
        data.every_frame_at = task.takes_every_frame
    for found, name in ((scored, cfg.data.score_split), (submitted, cfg.data.submit_split)):
        check_readable(found, cfg.model.slots, data.frame_cache, name)
    data.setup()
    steps = data.train_batches * sum(stage.epochs for stage in task.stages)
    task.total_steps = steps if cfg.train.max_steps < 0 else min(steps, cfg.train.max_steps)
    return work


def _archive(cfg: DictConfig, run: Run) -> Path:
    return run.folder / f"{cfg.data.submit_split}.zip"


def _submitted(cfg: DictConfig, data: VideoData, run: Run) -> list[Video]:
    """The videos still to be zipped for a server; if they cannot be read, none, and a line says why."""
    split, result = cfg.data.submit_split, run.result()
    zipped = result is not None and result.get("submission") and _archive(cfg, run).is_file()
    wanted = split in data.splits() and not zipped
    try:
        return data.videos(split, True, cfg.predict.all_frames) if wanted else []
    except InputError as error:
        say(f"No zip for {split}: {error}")
        return []


def _with_submission(
    cfg: DictConfig, data: VideoData, run: Run, result: dict[str, Any], submitted: list[Video]
) -> dict[str, Any]:
    """A finished run's result with the zip for a server, whose split may have come since."""
    split = cfg.data.submit_split
    try:
        with run.claimed():
            check_readable(submitted, cfg.model.slots, data.frame_cache, split)
            checkpoint = _scored(cfg, run)
            if checkpoint_hash(checkpoint) != result["checkpoint_hash"]:
                raise InputError(f"{checkpoint}: not the weights that were scored; put them back.")
            model = build_model(cfg.model, trained=True)
            load_strictly(model, read_model_weights(checkpoint), checkpoint)
            torch.set_num_threads(cfg.run.threads)
            choose_arithmetic(cfg.predict.tf32)
            segmenter = build_segmenter(cfg, model, choose_device(cfg.run.accelerator, cfg.run.device))
            result = {**result, "submission": str(write_submission(segmenter, submitted, _archive(cfg, run)))}
            write_json(run.folder / "result.json", result)
    except InputError as error:
        say(f"No zip for {split}: {error}")
    return result


def _work(cfg: DictConfig, run: Run, work: Work, name: str, position: int) -> dict[str, Any]:
    run.set_status("running", step=run.status().get("step", 0))
    stop = Interruption()
    try:
        with stop:
            result = _train_and_score(cfg, run, work, Progress(name, position), stop)
            write_json(run.folder / "result.json", result)
    except BaseException as raised:
        # A signal may also show as the error of a library that it reached.
        error = Interrupted(stop.number) if stop.number and isinstance(raised, Exception) else raised
        step = run.status().get("step", 0)
        told = isinstance(error, Interrupted)
        more = {} if told else {"error": str(error), "traceback": traceback.format_exc()}
        with suppress(InputError):  # a folder that cannot be written to
            run.set_status("interrupted" if told else "failed", step=step, **more)
        if isinstance(error, Interrupted):
            error.sentence = f"{run.folder}: interrupted; the same command goes on from step {step}."
        if isinstance(error, OSError):
            raise unwritable(run.folder, error) from error
        if error is raised:
            raise
        raise error from raised
    run.set_status("finished")
    say(f"{name}: {summary(result)}")
    return result


def _train_and_score(
    cfg: DictConfig, run: Run, work: Work, progress: Progress, stop: Interruption
) -> dict[str, Any]:
    task, device, version = work.task, work.device, code_version()
    restart_peak_memory(device)
    logger = _logger(cfg, run)
    try:
        fitted = Fitted()
        if not cfg.predict.online.enabled:
            fitted = fit(cfg, run, task, work.data, device, progress, logger, stop)
        checkpoint = _scored(cfg, run)
        load_strictly(task.model, read_model_weights(checkpoint), checkpoint)
        started = time.monotonic()
        choose_arithmetic(cfg.predict.tf32)
        segmenter = build_segmenter(cfg, task.model, device)
        scores = segment_and_score(segmenter, work.scored, work.rules, run.folder / "masks")
        score_seconds = time.monotonic() - started
        timings = [asdict(timing) for timing in segmenter.timings]
        result = {
            "scores": scores,
            "split": cfg.data.score_split,
            "data": cfg.data.name,
            "data_version": run.settings["data_version"],
            "seed": cfg.seed,
            "config_hash": content_hash(identity(run.settings)),
            "code_version": version,
            "checkpoint": os.path.relpath(checkpoint, run.folder),
            "checkpoint_hash": checkpoint_hash(checkpoint),
            "steps": fitted.steps,
            "parameters": sum(p.numel() for p in task.model.parameters()),
            "train_seconds": fitted.seconds,
            "score_seconds": score_seconds,
            "timings": timings,
            "peak_memory_mib": round(peak_memory(device) / 2**20),
            "device": device_name(device),
            "threads": cfg.run.threads,
            "submission": None,  # a zip, made once the run is finished
        }
        if logger is not None:
            logger.log_result(result, work.scored, run.folder / "masks")
        return result
    finally:
        if logger is not None:
            logger.close()


def _scored(cfg: DictConfig, run: Run) -> Path:
    """The checkpoint that a trained run scores: its own, or with online learning that of the run without."""
    first = _weights_of_first(cfg) if cfg.predict.online.enabled else None
    return first or run.scored_checkpoint


def _weights_of_first(cfg: DictConfig) -> Path | None:
    """The checkpoint that a run starts from: the first run's, as scored there, or that of train.init_from."""
    first = first_of(cfg)
    if first is not None:
        return run_of(first).scored_checkpoint
    return Path(cfg.train.init_from) if cfg.train.init_from else None


def build_task(cfg: DictConfig) -> ClipTask:
    """The LightningModule of a configuration, with the weights that it starts from."""
    start = _weights_of_first(cfg)
    model = build_model(cfg.model, trained=start is not None)
    if start:
        load_strictly(model, read_model_weights(start), start)
    model = model.to(memory_format=torch.channels_last)
    optimisation = build(Optimisation, "optim", cfg.optim)
    train = cfg.train
    if isinstance(model, S2S):
        return ObjectSegmentation(model, optimisation, _stages(ObjectStage, train.stages))
    stages = _stages(MaskStage, train.stages)
    return Segmentation(
        model,
        optimisation,
        stages,
        train.auxiliary_weight,
        train.unroll,
        train.match_valid_only,
        train.compile,
    )


def _stages(kind: type[AnyStage], stages: Iterable[Any]) -> list[AnyStage]:
    return [_stage(kind, fields) for fields in stages]


def _stage(kind: type[AnyStage], fields: Any) -> AnyStage:
    try:
        return kind(**fields)
    except TypeError:
        known = ", ".join(field.name for field in fields_of(kind))
        raise InputError(f"train.stages: {fields} is no stage; give {{epochs: N, ...}} of {known}.") from None


def _logger(cfg: DictConfig, run: Run) -> "RunLogger | None":
    if cfg.run.logger is None:
        return None
    from vos_lightning.runs.wandb_log import RunLogger

    return RunLogger(run, cfg.run.logger.project, cfg.run.logger.mode, cfg.run.group)
