"""The sentences below a table: what was scored and how, the versions, whether the paper's order came back."""

from collections.abc import Mapping
from operator import itemgetter
from typing import Any

from vos_lightning.models.interface import Experiment
from vos_lightning.plain import read_yaml
from vos_lightning.report.tables import Table
from vos_lightning.runs.run import Run
from vos_lightning.runs.settings import read_experiment
from vos_lightning.runs.sources import code_version


def notes(table: Table) -> list[str]:
    """What was scored and how, the versions, and whether the paper's order came back."""
    experiment, results = table.experiment, [r for row in table.rows for r in row.results]
    published, data_set = table.spec.get("published"), experiment.data_set
    protocols = dict.fromkeys(result["scores"]["protocol"] for result in results)
    protocol = "; and ".join(protocols) or "not scored"
    common, *several = _conditions(table)
    lines = [
        f"Ours: {protocol}; on {data_set.name} {data_set.score_split}{common}.",
        *several,
        *_overlaps(table),
    ]
    if published is not None:
        lines += [f"Paper: {published['data']} {published['split']}.", _order(table)]
    if results:
        codes, hashes = ({r[key] for r in results} for key in ("code_version", "config_hash"))
        now = "" if codes == {code_version()} else f" (now {code_version()})"
        lines.append(f"Code {', '.join(sorted(codes))}{now}; evaluations {' '.join(sorted(hashes))}.")
        lines.append(f"Measured on {', '.join(sorted({_machine(result) for result in results}))}.")
        data = results[0]["data_version"]
        lines.append("Data: " + ", ".join(f"{split} {version}" for split, version in data.items()) + ".")
    return lines


def _conditions(table: Table) -> list[str]:
    """How models are trained: what ends a sentence; or nothing, and a line for each way where rows differ."""
    found: dict[str, list[str]] = {}
    for row in table.rows:
        found.setdefault(_condition(row.runs[0]), []).append(row.label)
    if len(found) == 1:
        return [f", {next(iter(found))}"]
    return ["", *(f"{', '.join(labels)}: {condition}." for condition, labels in found.items())]


def _condition(run: Run) -> str:
    """From which weights, on what and for how long a model is trained."""
    experiment = run.settings.experiment
    training = experiment.training
    start = training.init_from
    if training.first:
        start = f"the run of {' '.join([*(training.first_data or ()), *training.first])}"
        if before := _before(run):
            start += f" ({'; before that on '.join(map(_course, before))})"
    partner = experiment.prediction.partner
    helped = [f"helped by the run of {' '.join(partner)}"] if partner else []
    parts = [experiment.fields.summary, *([f"started from {start}"] if start else []), *helped]
    if training.max_steps == 0:
        return ", ".join([*parts, "not trained further"])
    return ", ".join([*parts, _training(experiment)])


def _before(run: Run) -> list[Experiment]:
    """The trainings that a run starts from, the last first, as far as they are known."""
    if run.first is not None:
        return [run.first.settings.experiment, *_before(run.first)]
    found, folder = [], run.training.first()
    while folder is not None:
        config = folder.path / "config.yaml"
        found.append(read_experiment(read_yaml(config), f"{config}: "))
        folder = folder.first()
    return found


def _course(experiment: Experiment) -> str:
    return f"{experiment.data_set.name} {experiment.data_set.train_split}, {_training(experiment)}"


def _training(experiment: Experiment) -> str:
    """What a batch is, how long training is, and the epoch that is kept."""
    rule = experiment.training.stages[-1].rule
    kept = rule.words if rule is not None else "the last epoch"
    return ", ".join([experiment.examples.summary, _length(experiment), kept])


def _overlaps(table: Table) -> list[str]:
    """A line for each split that is scored, or chooses an epoch, and is trained on too."""
    lines: dict[str, None] = {}
    for run in (row.runs[0] for row in table.rows):
        own = run.settings.experiment
        for experiment in [own, *_before(run)]:
            data = experiment.data_set
            watched = {data.val_split: "watched"} if experiment.training.max_steps != 0 else {}
            scored = {own.data_set.score_split: "scored"} if own.data_set.name == data.name else {}
            for split, used in (watched | scored).items():
                if split == data.train_split or split.startswith(f"{data.train_split}-"):
                    lines[f"{data.name} {split}, which is {used}, is part of what is trained on."] = None
    return list(lines)


def _machine(result: Mapping[str, Any]) -> str:
    """What scored a run, and in how many threads."""
    return result["device"] + (f" in {n} threads" if (n := result.get("threads", 1)) > 1 else "")


def _length(experiment: Experiment) -> str:
    """How long training is, in words."""
    training = experiment.training
    if training.max_steps > 0:
        return f"{training.max_steps} steps"
    return f"{training.epochs} epochs{experiment.examples.epoch_note}"


def _order(table: Table) -> str:
    known = [(row, table.ours(row), table.published(row)) for row in table.rows]
    rows = [(row.label, a, b) for row, a, b in known if a is not None and b is not None]
    if len(rows) < 2:
        return "Order: too few cells are finished to compare with the paper's."
    if any(len({row[i] for row in rows}) < len(rows) for i in (1, 2)):
        return "Order: some cells have equal figures, so there is none to compare with the paper's."
    ours, paper = ([r[0] for r in sorted(rows, key=itemgetter(i), reverse=True)] for i in (1, 2))
    verdict = "came back" if paper == ours else "did not come back"
    return f"The paper's order ({', '.join(paper)}) {verdict}; here {', '.join(ours)}."
