"""The page of vos-interact in a real browser, before a server that is a process of its own."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.colour_session import FRAMES, pictures
from tests.helpers import written
from vos_lightning.configuration import ROOT
from vos_lightning.data.images import read_mask
from vos_lightning.data.scribbles import read_scribbles

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ("no-first-run", "disable-background-networking", "disable-component-update", "disable-sync")
SWITCHES = [f"--{name}" for name in ("no-sandbox", "disable-gpu", "disable-quic", *QUIET)]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium; install it, as .ci/run does")


class Server:
    """A process that serves a session of colours."""

    def __init__(self, source: Path, out: Path, seconds: float = 0.0) -> None:
        self.out, self.command = (
            out,
            [sys.executable, "-m", "tests.colour_session", source, out, str(seconds)],
        )
        self.start()

    def start(self) -> None:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
        self.process = subprocess.Popen(
            self.command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
        )
        assert self.process.stdout is not None
        self.address = next(
            found[0] for line in self.process.stdout if (found := re.search(r"http\S+", line))
        )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield started
        started.close()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts a server on a video of so many frames."""
    made: list[Server] = []

    def start(frames: int = FRAMES, seconds: float = 0.0) -> Server:
        written(tmp_path / "boxes", pictures(frames), {})
        made.append(Server(tmp_path / "boxes", tmp_path / "out", seconds))
        return made[-1]

    yield start
    for server in made:
        server.kill()


@pytest.fixture
def opened(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens a page of its own, on which no script may fail."""
    made, failed = [], []

    def open_page(address: str, width: int = 1000, **options: bool) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 700}, **options)  # type: ignore[arg-type]
        made.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: failed.append(str(error)))
        page.goto(address)
        ready(page)
        return page

    yield open_page
    for context in made:
        context.close()
    assert not failed


def ready(page: Page, marks: int | None = None) -> None:
    """Waits until nothing is left to do, so many frames are marked, and the shown one has its newest mask."""
    if marks is not None:
        expect(page.locator("#marks button")).to_have_count(marks)
    page.wait_for_selector("#status[data-kind=ready]")
    page.wait_for_selector("#picture[data-shown$=true]")


def draw(page: Page, *points: tuple[float, float], away: tuple[float, float] | None = None) -> None:
    """Draws a line through shares of the picture with the mouse, and beyond it to `away`."""
    box = page.locator("#picture").bounding_box()
    assert box is not None
    for n, (x, y) in enumerate([*points, *([away] if away else [])]):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=3)
        if n == 0:
            page.mouse.down()
    page.mouse.up()


def pixel(page: Page, x: float, y: float) -> list[int]:
    """What the canvas shows at a share of the picture, RGB."""
    script = """([x, y]) => { const c = document.querySelector("#picture"); return [...c.getContext("2d")
        .getImageData(Math.floor(x * c.width), Math.floor(y * c.height), 1, 1).data].slice(0, 3) }"""
    return page.evaluate(script, [x, y])


RED, TINTED = [220, 30, 30], [174, 15, 15]  # the box alone, and half of it in object 1's (128, 0, 0)
LINE = ((0.1, 0.15), (0.2, 0.2))
SPOT = (0.26, 0.4)  # of the red box, not under LINE


def near(found: list[int], expected: list[int]) -> bool:
    return bool(np.abs(np.array(found) - expected).max() < 12)


def test_a_line_changes_the_masks_of_all_frames_and_undo_takes_it_back(
    serve: Callable[..., Server], opened: Callable[..., Page]
) -> None:
    server = serve()
    page = opened(server.address)
    assert near(pixel(page, *SPOT), RED)
    draw(page, *LINE)
    ready(page, marks=1)
    assert near(pixel(page, *SPOT), TINTED)
    page.keyboard.press("End")
    ready(page)
    assert near(pixel(page, 0.38, 0.4), TINTED)  # where the box has gone
    page.keyboard.press("h")
    ready(page)
    assert near(pixel(page, 0.38, 0.4), RED)
    page.keyboard.press("h")

    page.keyboard.press("2")
    draw(page, (0.7, 0.75), (0.8, 0.75), away=(1.3, 1.2))  # is cut off at the edge
    ready(page, marks=2)
    for _ in range(2):
        page.keyboard.press("s")  # twice, for one save
    page.get_by_text("Saved in").first.wait_for()
    assert page.get_by_text("Saved in").count() == 1
    assert (server.out / "overlay.mp4").stat().st_size > 1000
    assert set(np.unique(read_mask(server.out / "masks/00003.png"))) == {0, 1, 2}
    drawn = read_scribbles(server.out / "scribbles.json", FRAMES)
    assert drawn.frames == (0, FRAMES - 1) and drawn.scribbles[-1][0].path.max() == 1

    page.keyboard.down("z")
    page.keyboard.down("z")  # as a key that is held down repeats
    page.keyboard.up("z")
    ready(page, marks=1)
    assert near(pixel(page, 0.38, 0.4), TINTED)
    page.keyboard.press("Control+z")
    ready(page, marks=0)
    page.keyboard.press("Home")
    ready(page)
    assert near(pixel(page, *SPOT), RED) and not (server.out / "scribbles.json").exists()


def test_lines_outlive_a_reload_a_second_tab_and_a_lost_server(
    serve: Callable[..., Server], opened: Callable[..., Page]
) -> None:
    server = serve(seconds=0.3)
    page = opened(server.address)
    draw(page, *LINE)
    expect(page.locator("#marks button")).to_have_count(1)
    page.reload()  # while the session thinks
    ready(page, marks=1)
    other = opened(server.address)
    ready(other, marks=1)
    other.keyboard.press("ArrowRight")
    ready(other)
    draw(other, *LINE)
    page.keyboard.press("2")
    draw(page, (0.7, 0.75), (0.8, 0.75))  # at once with the other's
    ready(page, marks=2)
    ready(other, marks=2)
    assert sum(map(len, read_scribbles(server.out / "scribbles.json").scribbles)) == 3

    server.kill()
    page.wait_for_selector("#status[data-kind=lost]")
    page.keyboard.press("End")
    draw(page, (0.7, 0.75), (0.8, 0.75))
    page.get_by_text("1 line kept here").wait_for()
    for _ in range(2):
        page.keyboard.press("z")  # this line, and one that the server has
    page.keyboard.press("End")
    draw(page, (0.7, 0.75), (0.8, 0.75))
    assert sum(map(len, read_scribbles(server.out / "scribbles.json").scribbles)) == 3
    before = server.address
    server.start()
    assert server.address == before
    ready(page)
    drawn = read_scribbles(server.out / "scribbles.json")
    assert sum(map(len, drawn.scribbles)) == 3 and len(drawn.scribbles[-1]) == 1
    ready(other, marks=len(drawn.frames))


def test_a_long_video_on_a_phone_by_touch_and_by_keys(
    serve: Callable[..., Server], opened: Callable[..., Page]
) -> None:
    server = serve(frames=150)
    page = opened(server.address, width=375, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") == 375
    small = "b => b.getBoundingClientRect().height < 44 && !b.closest('#marks, dialog')"
    assert page.evaluate(f"[...document.querySelectorAll('button')].filter({small}).length") == 0
    box = page.locator("#picture").bounding_box()
    assert box is not None
    touch = page.context.new_cdp_session(page)
    for kind, x in (("touchStart", 0.1), ("touchMove", 0.15), ("touchMove", 0.2), ("touchEnd", None)):
        point = {} if x is None else {"x": box["x"] + x * box["width"], "y": box["y"] + 0.2 * box["height"]}
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point] if point else []})
    ready(page, marks=1)
    assert near(pixel(page, *SPOT), TINTED)

    page.keyboard.press("End")
    ready(page)
    assert near(pixel(page, 0.38, 0.4), TINTED)
    for key in (
        "2",
        "p",
        *["Shift+ArrowRight"] * 5,
        *["Shift+ArrowDown"] * 5,
        "Enter",
        "ArrowLeft",
        "Enter",
        "p",
    ):
        page.keyboard.press(key)
    ready(page, marks=2)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.evaluate("""() => { const time = document.querySelector("#time");
        for (let t = 149; t >= 75; t--) { time.value = t; time.dispatchEvent(new Event("input")) } }""")
    ready(page)
    assert 0 < sum("/frames/" in url for url in asked) < 20  # those passed by are not fetched
