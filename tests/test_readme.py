"""The README's tables of results are what `vos-table` wrote, and the files that pages name are there."""

import json
import re
from pathlib import Path

import pytest

from vos_lightning.configuration import PACKAGE, ROOT
from vos_lightning.data.catalogue import DATA_SETS
from vos_lightning.fields import fields_of
from vos_lightning.models.catalogue import MODELS
from vos_lightning.models.training import Optimisation
from vos_lightning.runs.settings import Machine

README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# A table of results stands below a comment that names its file.
TABLES = re.findall(r"<!-- (docs/results/[\w-]+\.json) -->\n\n((?:\|.*\n)+)", README)


def test_the_readme_shows_every_file_of_results() -> None:
    there = {f"docs/results/{path.name}" for path in (ROOT / "docs/results").glob("*.json")}
    assert {name for name, _ in TABLES} == there != set()


@pytest.mark.parametrize(("name", "text"), TABLES, ids=[name for name, _ in TABLES])
def test_a_table_of_the_readme_is_what_was_measured(name: str, text: str) -> None:
    found = json.loads((ROOT / name).read_text())
    header, _, *lines = ([cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines())
    shown = [found["columns"].index(column) for column in header]
    assert lines and all(line in [[row[i] for i in shown] for row in found["lines"]] for line in lines)

    results = [run["result"] for row in found["rows"] for run in row["runs"]]
    codes = {result["code_version"] for result in results}
    assert len(codes) == 1 and codes.pop() in README
    column = next(i for i, name in enumerate(found["columns"]) if name.startswith(results[0]["split"]))
    for line, row in zip(found["lines"], found["rows"], strict=False):
        scores = row["runs"][0]["result"]["scores"]
        known = {f"{100 * value:.1f}" for value in scores.values() if isinstance(value, float)}
        assert set(line[column].split("/")) <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_files_that_a_page_names_are_there(page: Path) -> None:
    named = set(re.findall(r"`([\w.*-]+/[\w.*/-]*(?:\.py|\.yaml|\.md))`", page.read_text("utf-8")))
    ours = {name for name in named if "NAME" not in name}  # which stands for any
    assert not {name for name in ours if not any([*ROOT.glob(name), *PACKAGE.glob(name)])}


def test_the_keys_that_pages_and_comments_name_are_fields() -> None:
    parts = [part for m in MODELS.values() for part in (m.fields, m.examples, m.training, m.prediction)]
    known = {"logger"}.union(*map(fields_of, (*parts, *DATA_SETS.values(), Optimisation, Machine)))
    texts = [*PAGES, *(ROOT / "conf").rglob("*.yaml"), *(ROOT / "sweeps").glob("*.yaml")]
    key = r"(?<![\w./])(?:data|model|train|optim|predict|run)\.(?!py\b|yaml\b)([a-z_]+)\b"
    named = [(path.name, name) for path in texts for name in re.findall(key, path.read_text("utf-8"))]
    assert len(named) > 100
    assert not [(page, name) for page, name in named if name not in known]
