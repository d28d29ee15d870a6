"""The sentences below a table: what was scored and how, the versions, whether the paper's order came back."""

from operator import itemgetter

from omegaconf import DictConfig

from vos_lightning.report.tables import Table
from vos_lightning.runs.folder import code_version

KEPT = {
    "last": "the last epoch",
    "val_loss": "the epoch of the lowest validation loss",
    "val_JF": "the epoch of the highest validation J&F",
}


def notes(table: Table) -> list[str]:
    """What was scored and how, the versions, and whether the paper's order came back."""
    cfg, results = table.cfg, [r for row in table.rows for r in row.results]
    published = cfg.table.published
    protocol = results[0]["scores"]["protocol"] if results else "not scored"
    lines = [
        f"Ours: {protocol}; on {cfg.data.name} {cfg.data.score_split}, {_conditions(cfg)}.",
        f"Paper: {published.data} {published.split}.",
        _order(table),
    ]
    if results:
        codes, hashes = ({r[key] for r in results} for key in ("code_version", "config_hash"))
        lines.append(
            f"Code {', '.join(sorted(codes))} (now {code_version()}); "
            f"configurations {' '.join(sorted(hashes))};"
        )
        lines.append(f"measured on {', '.join(sorted({r['device'] for r in results}))};")
        data = results[0]["data_version"]
        lines.append("data " + ", ".join(f"{split} {version}" for split, version in data.items()) + ".")
    return lines


def _conditions(cfg: DictConfig) -> str:
    data, train = cfg.data, cfg.train
    size, length = "x".join(map(str, data.size)), data.clip_length
    frames = length if isinstance(length, int) else " to ".join(map(str, length))
    epochs = sum(stage.epochs for stage in train.stages)
    if data.samples:
        epochs = f"{epochs} epochs of {data.samples} clips"
    steps = f"{epochs} epochs".replace("clips epochs", "clips")
    first = train.first and f"the run of {' '.join(train.first)}"
    weights = first or train.init_from or f"{cfg.model.weights} weights".replace("none", "random")
    return (
        f"{cfg.model.name}, {cfg.model.backbone} from {weights}, {size}, batch {data.batch_size}, "
        f"clips of {frames}, {steps if train.max_steps < 0 else f'{train.max_steps} steps'}, "
        f"{KEPT[train.stages[-1].get('keep', 'last')]}"
    )


def _order(table: Table) -> str:
    known = [(row, table.ours(row), table.published(row)) for row in table.rows]
    rows = [(row.label, a, b) for row, a, b in known if a is not None and b is not None]
    if len(rows) < 2:
        return "Order: too few cells are finished to compare with the paper's."
    ours, paper = ([r[0] for r in sorted(rows, key=itemgetter(i), reverse=True)] for i in (1, 2))
    verdict = "came back" if paper == ours else "did not come back"
    return f"The paper's order ({', '.join(paper)}) {verdict}; here {', '.join(ours)}."
