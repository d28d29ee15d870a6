"""The modules of the package, the imports between them, and the rooms that they stand in.

A room is a folder of src/vos_lightning/; the files beside the folders are the ground floor, on which every
room stands. `python -m tests.architecture` draws the rooms in docs/architecture.md anew.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from vos_lightning.configuration import PACKAGE, ROOT

PAGE = ROOT / "docs/architecture.md"
FENCES = ("```mermaid\n", "```\n")
GROUND = {"", "errors", "fields", "plain", "atomic", "processes", "devices", "configuration"}


class Import(NamedTuple):
    """`module` imports `other`, inside a function if `late`."""

    module: str
    other: str
    late: bool


def name_of(path: Path) -> str:
    """The module of a file, such as runs.train; empty for the package itself."""
    return ".".join(part for part in path.relative_to(PACKAGE).with_suffix("").parts if part != "__init__")


MODULES = {name_of(path): ast.parse(path.read_text("utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


def imports(module: str) -> Iterator[Import]:
    """Every import of the package's own modules, also those inside functions and for types alone."""
    nodes = list(ast.walk(MODULES[module]))
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    late = {id(node) for function in functions for node in ast.walk(function)}
    for node in nodes:
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports by a relative name"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for package, _, name in (name.partition(".") for name in names):
            if package == "vos_lightning":
                yield Import(module, name if name in MODULES else name.rpartition(".")[0], id(node) in late)


ALL = [found for module in MODULES for found in imports(module)]


def room(module: str) -> str:
    """The room of a module such as data.videos."""
    first = module.partition(".")[0]
    return "ground" if first in GROUND else first


def arrows() -> dict[str, set[str]]:
    """Room -> the other rooms that its files import from."""
    found: dict[str, set[str]] = {room(module): set() for module in MODULES}
    for module, other, _ in ALL:
        found[room(module)] |= {room(other)} - {room(module)}
    return found


def beyond(found: dict[str, set[str]], start: str) -> set[str]:
    """The rooms that a room reaches by one arrow or more."""
    reached, waiting = set(), [*found[start]]
    while waiting:
        there = waiting.pop()
        if there not in reached:
            reached.add(there)
            waiting += found[there]
    return reached


def drawing() -> str:
    """The rooms as a Mermaid flowchart, with a dotted arrow where a longer way leads to the same room."""
    found = arrows()
    lines = ["flowchart TD"]
    for here in sorted(found, key=lambda name: (-len(beyond(found, name)), name)):
        near = found[here] - {"ground"}
        far = {there for there in near for way in near - {there} if there in beyond(found, way)}
        lines += [f"  {here} --> {there}" for there in sorted(near - far)]
        lines += [f"  {here} -.-> {there}" for there in sorted(far)]
    return "\n".join(lines) + "\n"


def redrawn(page: str) -> str:
    """The page with the drawing as it is now."""
    before, fence, rest = page.partition(FENCES[0])
    _, end, after = rest.partition(FENCES[1])
    return before + fence + drawing() + end + after


if __name__ == "__main__":
    PAGE.write_text(redrawn(PAGE.read_text("utf-8")), "utf-8")
