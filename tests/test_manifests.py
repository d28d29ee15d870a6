"""Manifests of sweeps that come from others: what a table takes from them, and what is refused."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vos_lightning.errors import InputError
from vos_lightning.report.tables import build_table, cells_of
from vos_lightning.runs import sweep as sweeps
from vos_lightning.runs.sweep import expand, launched, manifest_path, sweep_of, write_manifest

SWEEP = [
    *("sweeps=table4", "model.nonlocal_position=res3", "model.cell=gru,lstm", "scale=embedded"),
    "data.spec={train: 1, val: 1, test: 1, frames: 5, height: 32, width: 64}",
]


@pytest.fixture(scope="module")
def launch(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Any, Any]:
    """Overrides whose manifest is written, and what they compose."""
    top = tmp_path_factory.mktemp("sweep")
    overrides = [*SWEEP, f"data.cache={top}/cache", f"run.root={top}/runs"]
    assert write_manifest(overrides) == manifest_path(overrides, sweep_of(overrides))
    return overrides, sweep_of(overrides), expand(overrides)


@pytest.fixture
def sweep(
    launch: tuple[list[str], Any, Any], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[list[str], Path, str]]:
    """Overrides, and the path and content of their manifest, which may be replaced."""
    overrides, cfg, cells = launch
    monkeypatch.setattr(sweeps, "expand", lambda _: cells)  # which takes its time
    monkeypatch.setattr(sweeps, "sweep_of", lambda _: cfg)
    path = manifest_path(overrides, cfg)
    text = path.read_text()
    yield overrides, path, text
    path.write_text(text)


def first_cell(manifest: dict[str, Any], **fields: Any) -> None:
    manifest["cells"][0] |= fields


def config(manifest: dict[str, Any], node: str, **fields: Any) -> None:
    for cell in manifest["cells"]:
        cell["config"][node] = cell["config"][node] | fields


MANIFESTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "cells": lambda m: m.update(cells=5),
    "cells must": lambda m: m.update(cells=[]),
    "each cell must": lambda m: m["cells"].append(5),
    "each cell must hold": lambda m: first_cell(m, config="${oc.env:HOME}"),
    "values": lambda m: first_cell(m, values={"model.cell": ["gru"]}),
    "values must": lambda m: first_cell(m, values={}),
    "of the same keys": lambda m: first_cell(m, values={"other": "x"}),
    "must be names": lambda m: first_cell(m, training="../../elsewhere"),
    "training and evaluation must": lambda m: first_cell(m, training=".."),
    "training and evaluation": lambda m: first_cell(m, evaluation=None),
    "another sweep": lambda m: first_cell(m, values={"model.cell": "x"}),
    "runs of another sweep": lambda m: first_cell(m, seed=7),
    r"_target_: no such field": lambda m: config(m, "model", _target_="os.system"),
    r"model\.architecture=x: unknown": lambda m: config(m, "model", architecture="x"),
    r"model\.name=": lambda m: config(m, "model", name="${oc.env:HOME}/x"),
}


@pytest.mark.parametrize(("words", "edit"), MANIFESTS.items(), ids=MANIFESTS)
def test_a_manifest_of_another_shape_is_refused(
    sweep: tuple[list[str], Path, str], words: str, edit: Callable[[dict[str, Any]], Any]
) -> None:
    overrides, path, text = sweep
    manifest = json.loads(text)
    edit(manifest)
    path.write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=words) as raised:
        build_table(launched(overrides))
    assert str(raised.value).isprintable()


def test_a_manifest_says_which_runs_there_are_and_not_where(
    sweep: tuple[list[str], Path, str], tmp_path: Path
) -> None:
    overrides, path, text = sweep
    manifest = json.loads(text)
    config(manifest, "run", root=f"{tmp_path}/root", dir=f"{tmp_path}/dir")
    config(manifest, "data", cache=f"{tmp_path}/cache", name="davis2017", spec={"train": 10**9})
    first_cell(manifest, training=None, evaluation=None)
    config(manifest, "train", first=["sweeps=table4", f"data.cache={tmp_path}/first"])
    path.write_text(json.dumps(manifest))
    table = build_table(launched(overrides))
    assert [line[:3] for line in cells_of(table)[1]][:2] == [
        ["gru", "- (queued)", "-"],
        ["lstm", "- (queued)", "-"],
    ]
    assert not list(tmp_path.iterdir())
    assert all(run.training.path.parent == path.parents[1] for row in table.rows for run in row.runs)
