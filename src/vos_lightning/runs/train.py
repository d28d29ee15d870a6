"""The story of a run: build, claim, fit, evaluate, record. What is there already is not done again."""

import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from omegaconf import DictConfig
from pytorch_lightning import seed_everything
from torch import nn

from vos_lightning.atomic import unwritable
from vos_lightning.data.modules import TrainingData
from vos_lightning.data.sets import Sample
from vos_lightning.devices import choose_arithmetic, choose_device, device_name
from vos_lightning.errors import InputError
from vos_lightning.fields import without_weights
from vos_lightning.layers.weights import load_strictly, read_model_weights, weights_hash
from vos_lightning.models.training import TrainingModule
from vos_lightning.processes import Interrupted, Interruption
from vos_lightning.runs.callbacks import Progress, say
from vos_lightning.runs.fitting import fit, kept_checkpoint, quiet
from vos_lightning.runs.folder import Folder, TrainingFolder, write_json
from vos_lightning.runs.load import build_network
from vos_lightning.runs.memory import check_memory, keep_freed_memory, peak_memory, restart_peak_memory
from vos_lightning.runs.ready import evaluation_of
from vos_lightning.runs.run import Run, scored_checkpoint, why_evaluate, why_train
from vos_lightning.runs.settings import as_values, read_settings
from vos_lightning.runs.sources import code_version
from vos_lightning.runs.submit import to_submit, with_submission
from vos_lightning.scoring.rules import Rules, shown_figure

if TYPE_CHECKING:
    from vos_lightning.runs.wandb_log import RunLogger


SHOWN = 4  # samples of which a dashboard gets pictures


def train(cfg: DictConfig, name: str = "", position: int = 0) -> dict[str, Any]:
    """Does what is missing of a run and returns its result; what is there is only read.

    Args:
        cfg: composed from conf/train.yaml.
        name: shown beside the progress.
        position: line of the progress bar, for runs side by side.

    Returns:
        The content of result.json.

    Raises:
        InputError: a field, file or checkpoint that cannot be used.
        Interrupted: a signal.
    """
    quiet()
    code_version()  # of the sources that this process has imported, before they are edited
    run = Run.of(read_settings(cfg))
    name = name or run.name
    run.training.check()
    run.evaluation.check()
    result, waiting = run.result(), to_submit(run)
    if result is not None:
        say(f"{name}: finished before, {summary(run, result)}")
    else:
        if run.training.outcome() is not None:
            say(f"{name}: trained already, scores; {why_evaluate(run.evaluation)}.")
        first = run.first if run.training.outcome() is None else None
        for what, other in (("first run", first), ("partner", run.partner)):
            if other is not None:
                _build(run, waiting)  # so that its own bad input costs no training of another
                _train_first(other, f"{name}, {what}", position)
        work = _build(run, waiting)
        with _logger(run) as logger:
            outcome = _fitted(run, work, Progress(name, position), logger)
            result = _evaluated(run, work, outcome, name, logger)
        say(f"{name}: {summary(run, result)}")
    return with_submission(run, result, waiting) if waiting else result


def summary(run: Run, result: dict[str, Any]) -> str:
    """One line of a result: the headline of the run's rules, and minutes."""
    experiment, scores = run.settings.experiment, result["scores"]
    headline = experiment.rules.headline.items()
    figures = ", ".join(f"{label} {shown_figure(key, scores.get(key))}" for label, key in headline)
    return f"{figures} on {result['split']} ({result['train_seconds'] / 60:.1f} min training)"


class Work(NamedTuple):
    """What a run needs, known to be usable."""

    module: TrainingModule
    data: TrainingData
    scored: Sequence[Sample]
    rules: Rules
    device: torch.device

    @property
    def network(self) -> nn.Module:
        """What is trained."""
        return self.module.model


def _build(run: Run, waiting: Sequence[Sample]) -> Work:
    """Builds everything and reads what training will not; bad input ends here, before a folder is made.

    Before its first run is trained, a run's network has no weights.
    """
    experiment, machine = run.settings.experiment, run.settings.machine
    check_memory(experiment.examples)
    device = choose_device(machine.accelerator, machine.device)
    torch.set_num_threads(machine.threads)
    keep_freed_memory()
    choose_arithmetic(experiment.training.tf32)
    seed_everything(experiment.seed, verbose=False)
    data_set, slots, loading = experiment.data_set, experiment.fields.slots, machine.loading
    scored = data_set.samples(data_set.score_split, all_frames=experiment.prediction.all_frames)
    if run.first is not None and not run.first.training.outcome() and not run.training.outcome():
        network = experiment.model.network(without_weights(experiment.fields))
    else:
        network = build_network(experiment, run.start())
    module = experiment.model.module(network, experiment.training, experiment.optimisation)
    evaluation_of(run, network, torch.device("cpu")).check(scored)
    rules = experiment.rules
    for samples, split in ((scored, data_set.score_split), (waiting, data_set.submit_split)):
        experiment.examples.check(samples, slots, loading.cache, split or "")
    every_frame = module.every_frame if experiment.training.every_frame else None
    data = TrainingData(data_set, experiment.examples, slots, experiment.seed, loading, every_frame)
    if run.training.outcome() is None and experiment.training.max_steps != 0:
        data.setup()
    return Work(module, data, scored, rules, device)


def _train_first(first: Run, name: str, position: int) -> None:
    """Trains a run whose weights another one needs; nothing is scored."""
    first.training.check()
    if first.training.outcome() is not None:
        return
    if first.first is not None:
        _build(first, [])
        _train_first(first.first, name, position)
    with _logger(first) as logger:
        _fitted(first, _build(first, []), Progress(name, position), logger)


def _fitted(run: Run, work: Work, progress: Progress, logger: "RunLogger | None") -> dict[str, Any]:
    """Trains unless that is done, and returns what training.json says of it."""
    folder, experiment = run.training, run.settings.experiment
    with folder.claimed(as_values(experiment)):
        outcome = folder.outcome()
        if outcome is not None:
            folder.set_status("finished", **_step(folder))  # which a kill may have left undone
            return outcome
        step = folder.status().get("step", 0)
        if experiment.training.max_steps == 0:
            why = "keeps the weights that it starts from as they are"
        else:
            why = f"goes on from step {step}" if step else f"trains; {why_train(folder)}"
        say(f"{progress.name}: {why}.")
        with _recorded(folder) as stop:
            restart_peak_memory(work.device)
            fitted = fit(run, work.module, work.data, work.device, progress, logger, stop)
            checkpoint = kept_checkpoint(folder, experiment.training)
            outcome = {
                "checkpoint": checkpoint.name,
                "checkpoint_hash": weights_hash(checkpoint),
                "steps": fitted.steps,
                "train_seconds": fitted.seconds,
                "first_seconds": _seconds_before(run),
                "parameters": sum(p.numel() for p in work.network.parameters()),
                "code_version": code_version(),
                "device": device_name(work.device),
                "threads": run.settings.machine.threads,
                "peak_memory_mib": round(peak_memory(work.device) / 2**20) if fitted.steps else 0,
            }
            write_json(folder.path / "training.json", outcome)
        return outcome


def _seconds_before(run: Run) -> float:
    """The training time of the runs from whose weights a run starts."""
    outcome = run.first.training.outcome() if run.first is not None else None
    return outcome["train_seconds"] + outcome.get("first_seconds", 0) if outcome is not None else 0


def _evaluated(
    run: Run, work: Work, outcome: dict[str, Any], name: str, logger: "RunLogger | None"
) -> dict[str, Any]:
    """Scores what was trained unless that is done, and returns what result.json says of it."""
    folder, experiment = run.evaluation, run.settings.experiment
    with folder.claimed(as_values(experiment)):
        result = run.result()
        if result is not None:
            return result
        with _recorded(folder):
            checkpoint = scored_checkpoint(run.training)
            load_strictly(work.network, read_model_weights(checkpoint), checkpoint)
            started = time.monotonic()
            restart_peak_memory(work.device)
            choose_arithmetic(experiment.prediction.tf32)
            evaluation = evaluation_of(run, work.network, work.device)
            scores = evaluation.score(work.scored, work.rules, folder.masks)
            result = {
                "scores": scores,
                "split": experiment.data_set.score_split,
                "data": experiment.data_set.name,
                "data_version": {**run.training.identity["data"], **folder.identity["data"]},
                "seed": experiment.seed,
                "config_hash": folder.hash,
                "code_version": code_version(),
                "checkpoint": f"../{checkpoint.name}",
                "checkpoint_hash": outcome["checkpoint_hash"],
                "training": outcome,
                **{key: outcome[key] for key in ("steps", "parameters", "train_seconds")},
                "score_seconds": time.monotonic() - started,
                "timings": [asdict(timing) for timing in evaluation.timings],
                "peak_memory_mib": round(peak_memory(work.device) / 2**20),
                "device": device_name(work.device),
                "threads": run.settings.machine.threads,
                "submission": None,  # a zip, made once the run is finished
            }
            if logger is not None:
                shown = {s.name: evaluation.shown(s, folder.masks) for s in work.scored[:SHOWN]}
                logger.log_result(result, work.rules, shown)
            write_json(folder.path / "result.json", result)
        return result


@contextmanager
def _recorded(folder: Folder) -> Iterator[Interruption]:
    """Writes into a folder's status what becomes of the work in this context, which a signal can end."""
    folder.set_status("running", **_step(folder))
    stop = Interruption()
    try:
        with stop:
            yield stop
    except BaseException as raised:
        # A signal may also show as the error of a library that it reached.
        error = Interrupted(stop.number) if stop.number and isinstance(raised, Exception) else raised
        step, told = _step(folder), isinstance(error, Interrupted)
        more = {} if told else {"error": str(error), "traceback": traceback.format_exc()}
        with suppress(InputError):  # a folder that cannot be written to
            folder.set_status("interrupted" if told else "failed", **step, **more)
        if isinstance(error, Interrupted):
            rest = f"goes on from step {step['step']}" if step else "scores again"
            error.sentence = f"{folder.path}: interrupted; the same command {rest}."
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            raise unwritable(folder.path, error) from error
        if error is raised:
            raise
        raise error from raised
    folder.set_status("finished", **_step(folder))


def _step(folder: Folder) -> dict[str, int]:
    """How far a training is; nothing of an evaluation, which starts again."""
    return {"step": folder.status().get("step", 0)} if isinstance(folder, TrainingFolder) else {}


@contextmanager
def _logger(run: Run) -> Iterator["RunLogger | None"]:
    """What sends curves and results to a dashboard; None where the run has none."""
    if run.settings.dashboard is None:
        yield None
        return
    from vos_lightning.runs.wandb_log import RunLogger

    logger = RunLogger(run, run.settings.dashboard, run.settings.machine.group)
    try:
        yield logger
    finally:
        logger.close()
