"""A sweep's results beside the paper's, as text, Markdown and JSON, from the runs' folders alone.

Scores are kept in 0..1 and shown in percent; seconds are shown as they are. A column shows one figure, or two
as seen/unseen.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from vos_lightning.data.sets import fingerprint
from vos_lightning.errors import InputError
from vos_lightning.evaluation.baselines import baselines_of
from vos_lightning.fields import flatten
from vos_lightning.models.interface import Experiment
from vos_lightning.plain import read_json, read_yaml
from vos_lightning.report.spec import checked_spec
from vos_lightning.runs.folder import NUMBER, content_hash, write_json
from vos_lightning.runs.run import Run
from vos_lightning.runs.settings import settings_of
from vos_lightning.runs.sources import baseline_sources
from vos_lightning.runs.sweep import Cell
from vos_lightning.scoring.rules import NUMBERS, rules_of

Columns = Mapping[str, Sequence[str]]  # heading -> keys of figures
SECONDS = ("seconds_per_frame", "online_seconds")


def figure(result: Mapping[str, Any], key: str) -> float | None:
    """A figure of a run's result: a score in percent or as a number, or seconds a frame or of online learning
    a video.
    """
    timings = result.get("timings", [])
    if key == "seconds_per_frame":
        frames = sum(t["frames"] for t in timings)
        return sum(t["seconds"] + t["online_seconds"] for t in timings) / frames if frames else None
    if key == "online_seconds":
        return mean(t["online_seconds"] for t in timings) if timings else None
    value = result["scores"].get(key)
    if not isinstance(value, NUMBER):
        return None
    return value if key in NUMBERS else 100 * value


@dataclass
class Row:
    """One cell over its seeds.

    values: the values of the swept keys. fields: the configuration of its first seed, by dotted keys. paper,
    server: figures in percent or seconds, or None. runs: one run for each seed, of which some may not be
    finished.
    """

    values: dict[str, str]
    fields: Mapping[str, Any]
    paper: Mapping[str, float] | None
    server: Mapping[str, float] | None
    runs: list[Run] = field(default_factory=list)

    @property
    def label(self) -> str:
        """Its values as words, where yes and no stand behind their key."""
        named = (
            f"{key.partition('.')[2]} {v}" if v in ("yes", "no") else v for key, v in self.values.items()
        )
        return " ".join(named)

    @property
    def results(self) -> list[dict[str, Any]]:
        """Results of the finished runs."""
        return [result for run in self.runs if (result := run.result()) is not None]

    @property
    def first(self) -> Run | None:
        """The first finished run."""
        return next((run for run in self.runs if run.result() is not None), None)

    def measured(self, key: str) -> list[float]:
        """A figure of each finished run that has it."""
        return [value for result in self.results if (value := figure(result, key)) is not None]


@dataclass(frozen=True)
class Table:
    """A sweep's table.

    spec: the node `table` of its configuration, see sweeps/: title, and perhaps published with cells, which
    a paper gives, columns, others and reports. experiment: that of its first cell.
    """

    spec: Mapping[str, Any]
    rows: list[Row]
    baselines: dict[str, dict[str, float]]
    experiment: Experiment

    @property
    def columns(self) -> Columns:
        """What its columns show; the first is what rows are ordered by."""
        return _columns(self.spec, self.experiment)

    @property
    def main(self) -> Sequence[str]:
        """The keys of the first column."""
        return next(iter(self.columns.values()))

    @property
    def comparable(self) -> bool:
        """Whether our figures, or the server's, were measured on the paper's data and split."""
        published, data = self.spec.get("published"), self.experiment.data_set
        if published is None:
            return False
        split = data.submit_split if self.has_server else data.score_split
        return bool(data.name == published["data"] and split == published["split"])

    @property
    def has_server(self) -> bool:
        """Whether figures of a server were entered."""
        return any(row.server for row in self.rows)

    @property
    def complete(self) -> bool:
        """Whether every run is finished."""
        return all(len(row.results) == len(row.runs) for row in self.rows)

    def ours(self, row: Row) -> float | None:
        """What a row is ordered by: the mean of the main figures, the server's where they were entered."""
        if self.has_server:
            return _mean(row.server, self.main)
        values = [row.measured(key) for key in self.main]
        return mean(mean(v) for v in values if v) if any(values) else None

    def published(self, row: Row) -> float | None:
        """The mean of the paper's main figures."""
        return _mean(row.paper, self.main)


def _columns(spec: Mapping[str, Any], experiment: Experiment) -> Columns:
    """Those of a node `table`, or else the headline of the rules that score an experiment."""
    headline = rules_of(experiment.data_set, experiment.given).headline
    return spec.get("columns") or {heading: [key] for heading, key in headline.items()}


def _mean(figures: Mapping[str, float] | None, keys: Sequence[str]) -> float | None:
    values = [figures[key] for key in keys if key in figures] if figures else []
    return mean(values) if values else None


def build_table(cells: Sequence[Cell], server: Path | None = None) -> Table:
    """Collects a sweep's runs.

    Args:
        cells: those of a manifest, whose runs were launched; or those of `sweep.expand`, whose runs are
            those that would be.
        server: a YAML file with the server's figures in percent: `cells: [{set: {KEY: VALUE}, J: .., ...}]`,
            with the keys of the table's columns.

    Raises:
        InputError: a server file that cannot be used, a field of a cell, or of the node `table`.
    """
    spec = checked_spec(cells[0].config.get("table"))
    first = settings_of(cells[0].config)
    keys = {key for group in _columns(spec, first.experiment).values() for key in group}
    entered = _read_server(server, keys) if server else []
    rows: dict[tuple[str, ...], Row] = {}
    known: dict[Any, str] = {}
    for cell in cells:
        key, fields = tuple(cell.values.values()), flatten(cell.config)
        if key not in rows:
            paper, there = _entry(spec.get("cells", []), fields), _entry(entered, fields)
            rows[key] = Row(cell.values, fields, paper, there)
        rows[key].runs.append(_run(cell, known))
    baselines = _baselines(first.experiment, Path(first.machine.root))
    return Table(spec, list(rows.values()), baselines, first.experiment)


def _run(cell: Cell, known: dict[Any, str]) -> Run:
    settings = settings_of(cell.config)
    if cell.training is None or cell.evaluation is None:
        return Run.of(settings, known)
    return Run.named(settings, cell.training, cell.evaluation)


def _entry(entries: Any, fields: Mapping[str, Any]) -> dict[str, float] | None:
    """The figures of the entry whose `set` holds in a configuration."""
    for entry in entries:
        if holds(entry["set"], fields):
            return {key: float(value) for key, value in entry.items() if key != "set"}
    return None


def holds(wanted: Mapping[str, Any], fields: Mapping[str, Any]) -> bool:
    """Whether fields of a configuration, by dotted keys, have these values."""
    return all(fields.get(key) == value for key, value in wanted.items())


def _read_server(path: Path, known: set[str]) -> Any:
    if not path.is_file():
        raise InputError(f"{path}: no such file; it should hold the server's figures.")
    cells, names = read_yaml(path).get("cells"), ", ".join(sorted(known))
    if not isinstance(cells, list) or not all(isinstance(c, dict) and len(c) > 1 for c in cells):
        raise InputError(f"{path}: must hold cells, each with set and some of {names} (percent).")
    for entry in cells:
        if not isinstance(entry.get("set"), dict):
            raise InputError(f"{path}: must hold cells, each with set and some of {names} (percent).")
        if unknown := set(entry) - known - {"set"}:
            raise InputError(f"{path}: {min(unknown)} is no figure of this table; give some of {names}.")
        for key in set(entry) - {"set"}:
            if type(entry[key]) not in (int, float):
                raise InputError(f"{path}: {key}={entry[key]}: must be a number (percent).")
    return cells


def _baselines(experiment: Experiment, root: Path) -> dict[str, dict[str, float]]:
    """Scores of what learns nothing and is given what the model is, kept in root by what and how."""
    data_set = experiment.data_set
    baselines = baselines_of(data_set.kind, experiment.given)
    if not baselines:
        return {}
    samples, rules = data_set.samples(data_set.score_split), rules_of(data_set, experiment.given)
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


def cells_of(table: Table) -> tuple[list[str], list[list[str]]]:
    """Column names and rows of text."""
    data_set, columns = table.experiment.data_set, table.columns
    keys = [key.partition(".")[2] for key in table.rows[0].values]
    heads = list(columns)
    ours, paper = ([f"{name} {head}" for head in heads] for name in (data_set.score_split, "paper"))
    server = [f"server {data_set.submit_split} {head}" for head in heads] if table.has_server else []
    names = [*keys, *ours, *server, *paper, "difference", "seeds", "minutes"]
    lines = [_line(row, table) for row in table.rows]
    blank = [""] * (len(keys) - 1)
    for name, scores in table.baselines.items():
        figures = {key: figure({"scores": scores}, key) for k in columns.values() for key in k}
        gap = [""] * (len(names) - len(keys) - len(heads))
        lines.append([name, *blank, *_entered(columns, figures), *gap])
    for other in table.spec.get("others", []):
        gap = [""] * (len(ours) + len(server))
        lines.append([other["name"], *blank, *gap, *_entered(columns, other), *[""] * 3])
    return names, lines


def _line(row: Row, table: Table) -> list[str]:
    results, columns = row.results, table.columns
    ours = [_shown(keys, row.measured) for keys in columns.values()]
    if len(results) < len(row.runs):
        states = [run.state() for run in row.runs if run.result() is None]
        ours[0] += f" ({', '.join(states)})"
    return [
        *row.values.values(),
        *ours,
        *(_entered(columns, row.server) if table.has_server else []),
        *_entered(columns, row.paper),
        _difference(row, table),
        ", ".join(str(r["seed"]) for r in results),
        f"{mean((r['train_seconds'] + r['score_seconds']) / 60 for r in results):.1f}" if results else "",
    ]


def _difference(row: Row, table: Table) -> str:
    """Ours, or the server's where they were entered, less the paper's, in points."""
    if not table.comparable:
        return "other data" if "published" in table.spec else ""
    ours, paper = table.ours(row), table.published(row)
    return f"{ours - paper:+.1f}" if ours is not None and paper is not None else ""


def _entered(columns: Columns, figures: Mapping[str, float | None] | None) -> list[str]:
    known = figures or {}
    return [_shown(keys, lambda key: [known.get(key)]) for keys in columns.values()]


def _shown(keys: Sequence[str], values: Callable[[str], Sequence[float | None]]) -> str:
    """The figures of a column, each a mean with its spread over seeds."""
    parts = []
    for key in keys:
        known = [value for value in values(key) if value is not None]
        digits = 2 if key in (*SECONDS, *NUMBERS) else 1
        spread = f" ± {stdev(known):.{digits}f}" if len(known) > 1 else ""
        parts.append(f"{mean(known):.{digits}f}{spread}" if known else "-")
    return "-" if set(parts) == {"-"} else "/".join(parts)


def as_json(table: Table, columns: list[str], lines: list[list[str]], notes: list[str]) -> dict[str, Any]:
    """Every figure of a table, with its `columns` and `lines` as shown, see `cells_of`, and its notes.

    The results hold scores in 0..1; the paper's and the server's figures are in percent.
    """
    rows = [
        {
            "values": row.values,
            "paper": row.paper,
            "server": row.server,
            "runs": [
                {"folder": str(run.evaluation.path), "state": run.state(), "result": run.result()}
                for run in row.runs
            ],
        }
        for row in table.rows
    ]
    return {
        "title": table.spec["title"],
        "columns": columns,
        "lines": lines,
        "rows": rows,
        "baselines": table.baselines,
        "notes": notes,
    }
