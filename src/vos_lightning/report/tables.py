"""A sweep's results beside the paper's, as text, Markdown and JSON, from the runs' folders alone.

Scores are kept in 0..1 and shown in percent. A column shows one figure, or several as seen/unseen.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from vos_lightning.fields import flatten
from vos_lightning.models.interface import Experiment
from vos_lightning.report.entries import entry_of, figures_of, read_server
from vos_lightning.report.floors import floors
from vos_lightning.report.measured import digits, figure
from vos_lightning.report.spec import checked_spec
from vos_lightning.runs.run import Run
from vos_lightning.runs.settings import settings_of
from vos_lightning.runs.sweep import Cell, word
from vos_lightning.scoring.rules import Rules

Columns = Mapping[str, Sequence[str]]  # heading -> keys of figures


@dataclass
class Row:
    """One cell over its seeds.

    values: the values of the swept keys, both as the table calls them. fields: the configuration of its first
    seed, by dotted keys, and the swept ones. paper, server: figures in percent or another unit, or None.
    marks: words of the table's own columns of text. runs: one run for each seed, of which some may not be
    finished.
    """

    values: dict[str, str]
    fields: Mapping[str, Any]
    paper: Mapping[str, float] | None
    server: Mapping[str, float] | None
    marks: Mapping[str, Any]
    runs: list[Run] = field(default_factory=list)

    @property
    def label(self) -> str:
        """Its values as words, where yes and no stand behind their key."""
        named = (f"{_short(key)} {v}" if v in ("yes", "no") else v for key, v in self.values.items())
        return " ".join(named)

    @property
    def experiment(self) -> Experiment:
        """That of its runs, of which the seeds differ."""
        return self.runs[0].settings.experiment

    @property
    def rules(self) -> Rules:
        """Those that score its runs."""
        return self.experiment.rules

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
    a paper gives, columns, names, others and reports. baselines: scores by name, by the protocol of the rows
    that they belong to. experiment: that of its first cell.
    """

    spec: Mapping[str, Any]
    rows: list[Row]
    baselines: dict[str, dict[str, dict[str, float]]]
    experiment: Experiment

    @property
    def columns(self) -> Columns:
        """What its columns show; the first is what rows are ordered by."""
        return _columns(self.spec, self.experiment)

    @property
    def marks(self) -> list[str]:
        """The headings of its columns of text."""
        marked = [
            *(row.marks for row in self.rows),
            *(o.get("marks", {}) for o in self.spec.get("others", [])),
        ]
        return list(dict.fromkeys(name for marks in marked for name in marks))

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
    headline = experiment.rules.headline.items()
    return spec.get("columns") or {heading: [key] for heading, key in headline}


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
    entered = read_server(server, keys) if server else []
    rows: dict[tuple[str, ...], Row] = {}
    known: dict[Any, str] = {}
    for cell in cells:
        key = tuple(cell.values.values())
        if key not in rows:
            rows[key] = _row(cell, spec, entered)
        rows[key].runs.append(_run(cell, known))
    scored = {row.rules.name: row.experiment for row in rows.values()}
    baselines = {name: floors(experiment, Path(first.machine.root)) for name, experiment in scored.items()}
    return Table(spec, list(rows.values()), baselines, first.experiment)


def _row(cell: Cell, spec: Mapping[str, Any], entered: Any) -> Row:
    """A row without its runs."""
    fields, names = cell.values | flatten(cell.config), spec.get("names", {})
    entry = entry_of(spec.get("cells", []), fields) or {}
    marks = entry.get("marks", {})
    values = {names.get(key, key): names.get(value, value) for key, value in cell.values.items()}
    return Row(values, fields, figures_of(entry), figures_of(entry_of(entered, fields)), marks)


def _run(cell: Cell, known: dict[Any, str]) -> Run:
    settings = settings_of(cell.config)
    if cell.training is None or cell.evaluation is None:
        return Run.of(settings, known)
    return Run.named(settings, cell.training, cell.evaluation)


def _short(key: str) -> str:
    """A swept key without its node."""
    return key.partition(".")[2] or key


def cells_of(table: Table) -> tuple[list[str], list[list[str]]]:
    """Column names and rows of text.

    Where rows are scored by several protocols, a column names them, also those of the baselines.
    """
    data_set, columns = table.experiment.data_set, table.columns
    keys = [_short(key) for key in table.rows[0].values]
    heads, protocols = list(columns), ["protocol"] if len(table.baselines) > 1 else []
    ours, paper = ([f"{name} {head}" for head in heads] for name in (data_set.score_split, "paper"))
    server = [f"server {data_set.submit_split} {head}" for head in heads] if table.has_server else []
    rest = ["difference", "seeds", "minutes"]
    lines = [_line(row, table) for row in table.rows]
    for rules, baselines in table.baselines.items():
        for name, scores in baselines.items():
            figures = {key: figure({"scores": scores}, key) for k in columns.values() for key in k}
            shown = _words(name, len(keys), table, {}, rules)
            lines.append([*shown, *_entered(columns, figures), *[""] * len([*server, *paper, *rest])])
    for other in table.spec.get("others", []):
        shown = _words(other["name"], len(keys), table, other.get("marks", {}), "")
        gap = [""] * len([*ours, *server])
        lines.append([*shown, *gap, *_entered(columns, other), *[""] * len(rest)])
    return [*keys, *table.marks, *protocols, *ours, *server, *paper, *rest], lines


def _words(name: str, keys: int, table: Table, marks: Mapping[str, Any], protocol: str) -> list[str]:
    """The first cells of a line that is no row of ours, with its name, its marks and its protocol."""
    return [name, *[""] * (keys - 1), *_marks(table, marks), *_protocol(table, protocol)]


def _marks(table: Table, marks: Mapping[str, Any]) -> list[str]:
    return [word(marks[name]) if name in marks else "" for name in table.marks]


def _protocol(table: Table, protocol: str) -> list[str]:
    """The cell of the column `protocol`, if there is one."""
    return [protocol] if len(table.baselines) > 1 else []


def _line(row: Row, table: Table) -> list[str]:
    results, columns = row.results, table.columns
    ours = [_shown(keys, row.measured) for keys in columns.values()]
    if len(results) < len(row.runs):
        states = [run.state() for run in row.runs if run.result() is None]
        ours[0] += f" ({', '.join(states)})"
    return [
        *row.values.values(),
        *_marks(table, row.marks),
        *_protocol(table, row.rules.name),
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
        spread = f" ± {stdev(known):.{digits(key)}f}" if len(known) > 1 else ""
        parts.append(f"{mean(known):.{digits(key)}f}{spread}" if known else "-")
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
