"""Which sources decide what a training or an evaluation finds, and in which version they are.

A version is taken from the syntax tree without docstrings, so that an edited gate makes another run and an
edited sentence does not.
"""

import ast
import hashlib
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from vos_lightning import __version__
from vos_lightning.configuration import PACKAGE
from vos_lightning.models.interface import Experiment

TRAINING = ("layers", "data", "devices.py", "models/training.py", "runs/fitting.py", "runs/load.py")
EVALUATION = ("scoring", "evaluation")
VALIDATION = ("scoring/measures.py", "evaluation/merging.py")  # where a score chooses the epoch that is kept
# Files of those rooms that no score of a run comes from.
UNSCORED = (
    *("scoring/submission.py", "scoring/folders.py"),
    *("evaluation/baselines.py", "evaluation/pictures.py"),
)
EVALUATED = ("propagate.py", "online.py", "detect.py")  # files of a model that work after its training alone


def training_sources(experiment: Experiment) -> dict[str, str]:
    """File -> version of the sources that decide a training."""
    inner = [*TRAINING]
    if any(stage.rule is not None and stage.rule.scored for stage in experiment.training.stages):
        inner += VALIDATION
    own = {name: v for name, v in _of_model(experiment).items() if Path(name).name not in EVALUATED}
    return _versions(PACKAGE, *inner) | own


def evaluation_sources(experiment: Experiment) -> dict[str, str]:
    """File -> version of the sources that decide an evaluation, besides those of its training."""
    own = {name: v for name, v in _of_model(experiment).items() if Path(name).name in EVALUATED}
    scoring = {name: v for name, v in _versions(PACKAGE, *EVALUATION).items() if name not in UNSCORED}
    return scoring | own


def baseline_sources() -> dict[str, str]:
    """File -> version of the sources that decide what a baseline scores."""
    return _versions(PACKAGE, *EVALUATION)


@cache
def code_version() -> str:
    """The package's version and 8 hex digits of all its sources, as they are when this is first asked for."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(str(path.relative_to(PACKAGE)).encode() + path.read_bytes())
    return f"{__version__}+{digest.hexdigest()[:8]}"


def _of_model(experiment: Experiment) -> dict[str, str]:
    """The folder of the module that a model is defined in, or that module alone where it is in no package."""
    module = sys.modules[type(experiment.model).__module__]
    file = Path(module.__file__ or "")
    if PACKAGE in file.parents:
        return _versions(PACKAGE, str(file.parent.relative_to(PACKAGE)))
    if module.__package__:
        return _versions(file.parents[1], file.parent.name)
    return _versions(file.parent, file.name)


@cache  # since a process goes on with what it has imported, whatever is edited meanwhile
def _versions(root: Path, *names: str) -> dict[str, str]:
    """File below root -> version, of files and of all that folders hold."""
    found: dict[str, str] = {}
    for name in names:
        path = root / name
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        found |= {file.relative_to(root).as_posix(): version_of(file.read_text("utf-8")) for file in files}
    return found


@cache
def version_of(source: str) -> str:
    """8 hex digits of a Python source's syntax tree, without comments, layout and docstrings."""
    text = "".join(_words(ast.parse(source)))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _words(node: Any) -> Iterator[str]:
    """A syntax tree as words; written here, since those of ast.dump change with Python's version."""
    if isinstance(node, list):
        for item in node:
            yield from _words(item)
    elif isinstance(node, ast.AST):
        yield f"({type(node).__name__}"
        for name, value in ast.iter_fields(node):
            if value is not None and value != []:
                yield f" {name}="
                yield from _words(_without_docstring(node, value) if name == "body" else value)
        yield ")"
    else:
        yield repr(node)


def _without_docstring(node: ast.AST, body: Any) -> Any:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return (
        body[1:]
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None
        else body
    )
