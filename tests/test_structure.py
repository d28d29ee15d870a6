"""The rooms of the package, which way their imports run, and that no room but its own knows a model."""

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter

from tests.architecture import ALL, MODULES, room
from vos_lightning.configuration import CONF, PACKAGE

# Room -> the rooms that it may import besides itself and the ground floor.
BELOW: dict[str, set[str]] = {
    "ground": set(),
    "layers": set(),
    "data": set(),
    "scoring": {"data"},
    "evaluation": {"scoring", "data"},
    "models": {"evaluation", "scoring", "data", "layers"},
    "runs": {"models", "scoring", "data", "layers"},
    "report": {"runs", "models", "evaluation", "scoring", "data"},
    "apps": {"report", "runs", "evaluation", "scoring", "data"},
}
# Rooms and modules that may import inside functions, and why.
LATE = {
    "apps": "--help answers before torch is imported, which takes seconds",
    "runs.sweep": "Hydra loads its callback at every start, also for --cfg and --info",
    "runs.train": "wandb is imported by a run that logs to it alone",
}
FOLDERS = sorted(path.parent.name for path in (PACKAGE / "models").glob("*/model.py"))
LABELS = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))


def model(module: str) -> str | None:
    """The folder of models/ that a module is in."""
    return next((name for name in FOLDERS if f"{module}.".startswith(f"models.{name}.")), None)


def test_imports_run_one_way() -> None:
    assert {room(module) for module in MODULES} == BELOW.keys()
    allowed = {name: {name, "ground", *below} for name, below in BELOW.items()}
    assert not [found for found in ALL if room(found.other) not in allowed[room(found.module)]]


def test_no_module_imports_itself_through_others() -> None:
    graph = {module: {found.other for found in ALL if found.module == module} for module in MODULES}
    TopologicalSorter(graph).prepare()  # raises CycleError


def test_a_model_is_imported_by_its_own_folder_and_the_catalogue_alone() -> None:
    found = [i for i in ALL if model(i.other) and model(i.module) != model(i.other)]
    assert {i.module for i in found} == {"models.catalogue"}


def test_imports_inside_functions_have_a_reason() -> None:
    late = {key for found in ALL if found.late for key in (found.module, room(found.module)) if key in LATE}
    assert late == LATE.keys()
    assert not [i for i in ALL if i.late and not {i.module, room(i.module)} & LATE.keys()]


# --- what a model is called ------------------------------------------------------------------------------


def words(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and text of every name, attribute and argument, and of every string that is no docstring."""
    documented = [n for n in ast.walk(tree) if isinstance(getattr(n, "body", None), list)]
    docstrings = {id(n.body[0].value) for n in documented if n.body and isinstance(n.body[0], ast.Expr)}
    for node in ast.walk(tree):
        if id(node) not in docstrings:
            for field in ("id", "attr", "name", "asname", "arg", "module", "value"):
                if isinstance(text := getattr(node, field, None), str):
                    yield getattr(node, "lineno", 0), text


def test_nothing_outside_its_folder_and_the_catalogue_names_a_model() -> None:
    """Tests, benchmarks and conf/ may; docstrings and comments say whose idea a thing is."""
    inside = {module: tree for module, tree in MODULES.items() if model(module)}
    classes = {n.name for tree in inside.values() for n in tree.body if isinstance(n, ast.ClassDef)}
    names = re.compile(rf"(?<![a-z])({'|'.join({*LABELS, *FOLDERS, 'stesa'})})(?![a-z])", re.IGNORECASE)
    assert len(LABELS) >= 5 and len(FOLDERS) >= 2 and len(classes) > 20
    found = [
        f"{module}, line {line}: {text}"
        for module, tree in MODULES.items()
        if module not in inside and module != "models.catalogue"
        for line, text in words(tree)
        if text in classes or names.search(text)
    ]
    assert not found, "\n".join(found)
