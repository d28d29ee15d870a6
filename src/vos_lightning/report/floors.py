"""Scores of what learns nothing, beside which a table sets its rows; they are kept below the root of runs."""

from pathlib import Path

from vos_lightning.data.sets import fingerprint
from vos_lightning.evaluation.baselines import baselines_of
from vos_lightning.models.interface import Experiment
from vos_lightning.plain import read_json
from vos_lightning.runs.folder import content_hash, write_json
from vos_lightning.runs.sources import baseline_sources


def floors(experiment: Experiment, root: Path) -> dict[str, dict[str, float]]:
    """Scores of what is given what the model is, kept in root by what and how."""
    data_set, rules = experiment.data_set, experiment.rules
    baselines = baselines_of(data_set.kind, experiment.given)
    if not baselines:
        return {}
    samples = data_set.samples(data_set.score_split)
    version = content_hash(baseline_sources())
    path = root / f"baselines-{rules.name}-{fingerprint(samples)}-{version}.json"
    scores = read_json(path, dict.fromkeys(baselines, dict), needed=len(baselines))
    if scores is None:
        scores = {}
        for name, predicted in baselines.items():
            scores[name] = rules.summary([rules.score(sample, predicted(sample)) for sample in samples])
        root.mkdir(parents=True, exist_ok=True)
        write_json(path, scores)
    return scores
