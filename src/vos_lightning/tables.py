"""A sweep's results beside the paper's, as text, Markdown and JSON, from the runs' folders alone.

Scores are kept in 0..1 and shown in percent.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from vos_lightning.baselines import classify_colours, copy_first_mask
from vos_lightning.configuration import build_data
from vos_lightning.data.modules import fingerprint
from vos_lightning.data.sequence import Sequence as VideoSequence
from vos_lightning.errors import InputError
from vos_lightning.runs import Run, code_version, read_json, write_json
from vos_lightning.scoring.davis import score_sequence, summarise
from vos_lightning.sweep import Cell
from vos_lightning.training import run_of

FIGURES = ("JF", "J", "F")
BASELINES: dict[str, Callable[[VideoSequence], Iterator[np.ndarray]]] = {
    "first mask copied": copy_first_mask,
    "colour classifier": classify_colours,
}


@dataclass
class Row:
    """One cell over its seeds.

    values: of the swept keys. paper, server: J&F, J and F in percent, or None. runs: one a seed, with the
    results of those that are finished.
    """

    values: dict[str, str]
    paper: dict[str, float] | None
    server: dict[str, float] | None
    runs: list[Run] = field(default_factory=list)

    @property
    def results(self) -> list[dict[str, Any]]:
        """Results of the finished runs."""
        return [result for run in self.runs if (result := run.result()) is not None]

    def score(self, key: str) -> float | None:
        """Mean over the seeds, 0..1; None where no run is finished."""
        return mean(r["scores"][key] for r in self.results) if self.results else None


@dataclass(frozen=True)
class Table:
    """A sweep's table; `comparable` where data and split are the paper's."""

    title: str
    rows: list[Row]
    baselines: dict[str, dict[str, float]]
    cfg: DictConfig

    @property
    def comparable(self) -> bool:
        """Whether our figures, or the server's, were measured on the paper's data and split."""
        published, data = self.cfg.table.published, self.cfg.data
        split = data.submit_split if self.has_server else data.score_split
        return bool(data.name == published.data and split == published.split)

    @property
    def has_server(self) -> bool:
        """Whether figures of a server were entered."""
        return any(row.server for row in self.rows)

    @property
    def complete(self) -> bool:
        """Whether every run is finished."""
        return all(len(row.results) == len(row.runs) for row in self.rows)


def build_table(cells: Sequence[Cell], server: Path | None = None) -> Table:
    """Collects a sweep's runs.

    Args:
        cells: of `sweep.expand`.
        server: a YAML file with the server's figures: `cells: [{set: {KEY: VALUE}, JF: .., J: .., F: ..}]`.

    Raises:
        InputError: a server file that cannot be used.
    """
    cfg = cells[0].cfg
    data = build_data(cfg)
    entered = _read_server(server) if server else []
    rows: dict[tuple[str, ...], Row] = {}
    for cell in cells:
        key = tuple(cell.values.values())
        if key not in rows:
            paper = _entry(cfg.table.cells, cell.cfg)
            rows[key] = Row(cell.values, paper, _entry(entered, cell.cfg))
        rows[key].runs.append(run_of(cell.cfg, data))
    baselines = _baselines(data.sequences(cfg.data.score_split), Path(cfg.run.root))
    return Table(cfg.table.title, list(rows.values()), baselines, cfg)


def _entry(entries: Any, cfg: DictConfig) -> dict[str, float] | None:
    """The figures of the entry whose `set` holds in cfg."""
    for entry in entries:
        if all(OmegaConf.select(cfg, key) == value for key, value in entry["set"].items()):
            return {key: float(entry[key]) for key in FIGURES}
    return None


def _read_server(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"{path}: no such file; it should hold the server's figures.")
    content = OmegaConf.load(path)
    wanted = {"set", *FIGURES}
    if "cells" not in content or any(not wanted <= set(entry) for entry in content.cells):
        raise InputError(f"{path}: must hold cells, each with {', '.join(sorted(wanted))} (percent).")
    return content.cells


def _baselines(sequences: list[VideoSequence], root: Path) -> dict[str, dict[str, float]]:
    """Scores of the baselines, kept in root by what they scored."""
    path = root / f"baselines-{fingerprint(sequences)}.json"
    scores = read_json(path)
    if scores is None:
        scores = {}
        for name, masks in BASELINES.items():
            done = [
                score_sequence((s.mask(t) for t in range(len(s))), masks(s), name=s.name) for s in sequences
            ]
            scores[name] = {k: v for k, v in summarise(done).to_dict().items() if k in FIGURES}
        root.mkdir(parents=True, exist_ok=True)
        write_json(path, scores)
    return scores


def cells_of(table: Table) -> tuple[list[str], list[list[str]]]:
    """Column names and rows of text."""
    keys = [key.split(".")[-1] for key in table.rows[0].values]
    split = table.cfg.data.score_split
    columns = [*keys, f"J&F {split}", "J", "F", "paper J&F", "J", "F", "difference", "seeds", "minutes"]
    if table.has_server:
        at = columns.index("paper J&F")
        columns[at:at] = [f"server J&F {table.cfg.data.submit_split}", "J", "F"]
    lines = [_line(row, table) for row in table.rows]
    for name, scores in table.baselines.items():
        figures = [f"{100 * scores[key]:.1f}" for key in FIGURES]
        lines.append([name, *[""] * (len(keys) - 1), *figures, *[""] * (len(columns) - len(keys) - 3)])
    return columns, lines


def _line(row: Row, table: Table) -> list[str]:
    results = row.results
    ours = [_with_spread([100 * r["scores"][key] for r in results]) for key in FIGURES]
    if len(results) < len(row.runs):
        states = [run.status()["state"] for run in row.runs if run.result() is None]
        ours[0] += f" ({', '.join(states)})"
    server = [_percent(row.server, key) for key in FIGURES] if table.has_server else []
    return [
        *row.values.values(),
        *ours,
        *server,
        *(_percent(row.paper, key) for key in FIGURES),
        _difference(row, table),
        ", ".join(str(r["seed"]) for r in results),
        f"{mean((r['train_seconds'] + r['score_seconds']) / 60 for r in results):.1f}" if results else "",
    ]


def _difference(row: Row, table: Table) -> str:
    """J&F less the paper's, in points: the server's where its figures were entered, else ours."""
    if not table.comparable:
        return "other data"
    own = row.score("JF")
    measured = row.server["JF"] if row.server else None if table.has_server or own is None else 100 * own
    return f"{measured - row.paper['JF']:+.1f}" if measured is not None and row.paper else ""


def _with_spread(values: list[float]) -> str:
    if not values:
        return "-"
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def _percent(figures: dict[str, float] | None, key: str) -> str:
    return f"{figures[key]:.1f}" if figures else "-"


def notes(table: Table) -> list[str]:
    """What was scored and how, the versions, and whether the paper's order came back."""
    cfg, results = table.cfg, [r for row in table.rows for r in row.results]
    published = cfg.table.published
    protocol = results[0]["scores"]["protocol"] if results else "not scored"
    lines = [
        f"Ours: {protocol} on {cfg.data.name} {cfg.data.score_split}, {_conditions(cfg)}.",
        f"Paper: {published.data} {published.split}.",
        _order(table),
    ]
    if results:
        codes, hashes = ({r[key] for r in results} for key in ("code_version", "config_hash"))
        lines.append(
            f"Code {', '.join(sorted(codes))} (now {code_version()}); "
            f"configurations {' '.join(sorted(hashes))};"
        )
        data = results[0]["data_version"]
        lines.append("data " + ", ".join(f"{split} {version}" for split, version in data.items()) + ".")
    return lines


def _conditions(cfg: DictConfig) -> str:
    size = "x".join(map(str, cfg.data.size))
    epochs = sum(stage.epochs for stage in cfg.train.stages)
    length = f"{epochs} epochs" if cfg.train.max_steps < 0 else f"{cfg.train.max_steps} steps"
    weights = cfg.train.init_from or f"{cfg.model.weights} weights".replace("none", "random")
    return (
        f"{cfg.model.backbone} from {weights}, {cfg.model.affinity} affinity, {size}, "
        f"batch {cfg.data.batch_size}, clips of {cfg.data.clip_length}, {length}"
    )


def _order(table: Table) -> str:
    def measured(row: Row) -> float | None:
        return (row.server or {}).get("JF") if table.has_server else row.score("JF")

    rows = [row for row in table.rows if row.paper and measured(row) is not None]
    if len(rows) < 2:
        return "Order: too few cells are finished to compare with the paper's."

    def names(key: Callable[[Row], float]) -> list[str]:
        return [" ".join(row.values.values()) for row in sorted(rows, key=key, reverse=True)]

    paper, ours = names(lambda r: r.paper["JF"] if r.paper else 0), names(lambda r: measured(r) or 0)
    verdict = "came back" if paper == ours else "did not come back"
    return f"The paper's order ({', '.join(paper)}) {verdict}; here {', '.join(ours)}."


def as_json(table: Table) -> dict[str, Any]:
    """Every figure of the table, scores in 0..1 and the paper's and the server's in percent."""
    rows = [
        {
            "values": row.values,
            "paper": row.paper,
            "server": row.server,
            "runs": [
                {"folder": str(run.folder), "state": run.status()["state"], "result": run.result()}
                for run in row.runs
            ],
        }
        for row in table.rows
    ]
    return {"title": table.title, "rows": rows, "baselines": table.baselines, "notes": notes(table)}
