"""docs/architecture.md shows the rooms of the package as they are."""

import re

from tests.architecture import PAGE, arrows, redrawn
from vos_lightning.configuration import PACKAGE


def test_the_drawing_shows_the_imports_of_the_code() -> None:
    page = PAGE.read_text("utf-8")
    assert page == redrawn(page), "draw it anew with `python -m tests.architecture`"


def test_the_page_has_a_line_for_every_room() -> None:
    page = PAGE.read_text("utf-8")
    rooms = set(arrows()) - {"ground"}
    assert rooms == set(re.findall(r"^\| `(\w+)/` \|", page, re.M))


def test_the_page_names_every_file_of_the_ground_floor() -> None:
    page = PAGE.read_text("utf-8")
    files = [path.name for path in PACKAGE.glob("*.py") if path.name != "__init__.py"]
    assert all(f"`{name}`" in page for name in files)
