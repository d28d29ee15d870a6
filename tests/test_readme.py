"""The README's tables of results hold the figures that `vos-table` wrote, with the version of the code."""

import json
import re

import pytest

from vos_lightning.configuration import ROOT

README = (ROOT / "README.md").read_text()
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
