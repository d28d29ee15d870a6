"""vos-interact: what its server takes and refuses, what is on disk, and the page in a real browser."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from http.client import HTTPConnection
from io import BytesIO
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import uvicorn
from PIL import Image

from tests.colour_session import FRAMES, SIZE, ColourSession, pictures
from tests.helpers import written
from vos_lightning.apps.interact import main
from vos_lightning.apps.interact_server import HEADERS, MOST_BYTES, MOST_POINTS, application
from vos_lightning.apps.interact_work import Workshop
from vos_lightning.data.images import read_mask, voc_palette
from vos_lightning.data.scribbles import read_scribbles
from vos_lightning.data.videos import Given
from vos_lightning.errors import InputError

TOKEN = "t" * 32


def stroke(name: str = "a", **changes: Any) -> dict[str, Any]:
    """A line on the red box of frame 0."""
    line = {"id": name, "frame": 0, "object": 1, "path": [[0.2, 0.2], [0.25, 0.3]], "seconds": 0.5}
    return line | changes


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Callable[..., tuple[Workshop, "Client"]]]:
    """Makes a workshop on four frames, and a client of its server."""
    video = written(tmp_path / "boxes", pictures(), {})
    made: list[tuple[Workshop, Client]] = []

    def make(begin: Callable[[], ColourSession] = lambda: ColourSession(video)) -> tuple[Workshop, Client]:
        (tmp_path / "out").mkdir(exist_ok=True)
        work = Workshop(video, 9, tmp_path / "out", Fraction(25), begin)
        work.start()
        made.append((work, Client(work)))
        return made[-1]

    yield make
    for work, asked in made:
        asked.server.should_exit = True
        work.close()
        asked.thread.join()


class Client:
    """Asks the server of a workshop, with paths as they are given."""

    def __init__(self, work: Workshop) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        app = application(work, TOKEN, self.port)
        self.server = uvicorn.Server(uvicorn.Config(app, port=self.port, log_level="error", lifespan="off"))
        self.thread = Thread(target=self.server.run)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.002)

    def ask(self, method: str, path: str, content: bytes | None = None, **headers: str) -> "Answer":
        """An answer; `path` counts from the page's address unless it begins with a slash."""
        whole = path if path.startswith("/") else f"/{TOKEN}/{path}"
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request(method, whole, content, headers)
        answer = connection.getresponse()
        return Answer(answer.status, dict(answer.getheaders()), answer.read())

    def get(self, path: str, **headers: str) -> "Answer":
        return self.ask("GET", path, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> "Answer":
        return self.ask("POST", path, json.dumps(body).encode(), **headers)


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)


def settled(work: Workshop) -> dict[str, Any]:
    """The state once the thread has nothing left to do."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not (state := work.state())["thinking"]:
            return state
        time.sleep(0.005)
    raise AssertionError("the thread does not settle")


Make = Callable[..., tuple[Workshop, Client]]


# --- who may ask -----------------------------------------------------------------------------------------


def test_only_the_page_itself_is_answered(workshop: Make) -> None:
    asked = workshop()[1]
    home = f"127.0.0.1:{asked.port}"
    answer = asked.get("state")
    assert answer.status == 200
    assert HEADERS.items() <= {name.title(): value for name, value in answer.headers.items()}.items()
    assert asked.get("state", Origin=f"http://{home}").status == 200
    evil = {"Host": f"evil.example:{asked.port}"}
    for wrong in ({"Origin": "http://evil.example"}, {"Origin": "null"}, evil):
        for answer in (asked.get("state", **wrong), asked.post("strokes", stroke(), **wrong)):
            assert answer.status == 403
            assert "use the address that vos-interact printed" in answer.json["error"]
    near = [f"/{token}/state" for token in (TOKEN[1:], f"{TOKEN}x", f"{TOKEN[:-1]}%c3%a9")]
    for path in ("/", "/state", *near, "/page/app.js", "//", "/%2f/state"):
        assert asked.get(path).status == 403, path
    assert asked.get("state").json["strokes"] == []


def test_no_request_reaches_another_file(workshop: Make, tmp_path: Path) -> None:
    asked = workshop()[1]
    (tmp_path / "out" / "secret.txt").write_text("secret")
    for path in (
        *("frames/4", "frames/-1", "masks/" + "9" * 5000, "frames/../state.json", "page/../interact.py"),
        *("page/..%2finteract.py", "page/%2e%2e/interact.py", "frames/0%00", "page//etc/passwd"),
        *("page/....//interact.py", "out/secret.txt", "frames/00000.png"),
    ):
        answer = asked.get(path)
        assert answer.status == 404 and "error" in answer.json, path
    assert asked.get("").content.startswith(b"<!doctype html>")
    assert asked.get("page/app.js").status == 200


# --- what is asked ---------------------------------------------------------------------------------------


BAD: list[tuple[dict[str, Any], str]] = [
    ({"path": [[0.5, 1.01]]}, "inside the picture"),
    ({"path": [[0.5, -1e-9]]}, "inside the picture"),
    ({"path": [[0.5, float("nan")]]}, "inside the picture"),
    ({"path": [[0.5, 10**400]]}, "inside the picture"),
    ({"path": [[0.5, True]]}, "inside the picture"),
    ({"path": [[0.5]]}, "inside the picture"),
    ({"path": []}, "1 to 2000 points"),
    ({"path": [[0.5, 0.5]] * (MOST_POINTS + 1)}, "1 to 2000 points"),
    ({"path": None}, "1 to 2000 points"),
    ({"object": 10}, "from 0 to 9"),
    ({"object": -1}, "from 0 to 9"),
    ({"object": 1.0}, "from 0 to 9"),
    ({"object": True}, "from 0 to 9"),
    ({"frame": FRAMES}, "from 0 to 3"),
    ({"frame": "../x"}, "from 0 to 3"),
    ({"seconds": float("inf")}, "seconds"),
    ({"seconds": -1}, "seconds"),
    ({"id": ""}, "id must be"),
    ({"id": "x" * 65}, "id must be"),
    ({"id": 7}, "id must be"),
]


def test_a_bad_stroke_is_refused_in_a_sentence(workshop: Make) -> None:
    work, asked = workshop()
    for changes, sentence in BAD:
        answer = asked.post("strokes", stroke(**changes))
        assert answer.status == 422 and sentence in answer.json["error"], changes
    assert asked.post("strokes", stroke()).status == 200
    assert len(settled(work)["strokes"]) == 1


def test_a_bad_body_is_refused_in_a_sentence(workshop: Make) -> None:
    asked = workshop()[1]
    for body in (b"", b"[]", b"{", b"[" * 100_000, b"\xff", b'{"id": ' + b"9" * 5000 + b"}", b"null"):
        answer = asked.ask("POST", "strokes", body)
        assert answer.status == 400 and "JSON object" in answer.json["error"], body[:20]
    answer = asked.ask("POST", "strokes", b" " * (MOST_BYTES + 1))
    assert answer.status == 413 and "KiB" in answer.json["error"]
    assert asked.post("state").status == 405
    assert asked.get("strokes").json == {"error": "Method Not Allowed"}
    assert asked.get("state").json["strokes"] == []


# --- what is done ----------------------------------------------------------------------------------------


def test_masks_follow_strokes_and_undos_each_once(workshop: Make) -> None:
    work, asked = workshop()
    truth = [(picture == [220, 30, 30]).all(-1) for picture in pictures()]
    for _ in range(2):  # the second is a retry
        asked.post("strokes", stroke())
    assert len(settled(work)["strokes"]) == 1
    for t in range(FRAMES):
        image = Image.open(BytesIO(asked.get(f"masks/{t}").content))
        assert np.array_equal(np.asarray(image), truth[t])
        assert image.info["transparency"] == 0 and image.getpalette() == voc_palette()
        assert np.abs(read_jpeg(asked.get(f"frames/{t}").content) - pictures()[t].astype(int)).mean() < 4
    asked.post("strokes", stroke("b", object=2, path=[[0.7, 0.75]]))
    assert (settled(work), asked.post("undo", {"id": "a"}).status)[1] == 422  # not the last one
    assert set(np.unique(work.mask(0))) == {0, 1, 2}
    for _ in range(2):
        assert asked.post("undo", {"id": "b"}).status == 200
    assert [one["id"] for one in settled(work)["strokes"]] == ["a"]
    asked.post("strokes", stroke("b", object=2, path=[[0.7, 0.75]]))  # a retry that comes late
    assert [one["id"] for one in settled(work)["strokes"]] == ["a"]
    asked.post("undo", {"id": "a"})
    settled(work)
    assert not work.mask(0).any() and not (work.out / "scribbles.json").exists()


def read_jpeg(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(content))).astype(int)


def test_strokes_are_on_disk_before_they_are_answered_and_come_back(workshop: Make, tmp_path: Path) -> None:
    def never() -> ColourSession:
        raise InputError("no session today.")

    asked, file = workshop(begin=never)[1], tmp_path / "out" / "scribbles.json"
    asked.post("strokes", stroke("a", frame=2))
    asked.post("strokes", stroke("b", object=0))
    drawn = read_scribbles(file, FRAMES)
    assert (drawn.video, drawn.frames, drawn.scribbles[2][0].id) == ("boxes", (0, 2), 1)
    assert "no session today" in asked.get("state").json["problem"]

    again, asked = workshop()
    assert [one["frame"] for one in settled(again)["strokes"]] == [2, 0]  # in the order they were drawn
    assert again.mask(0).any()
    asked.post("strokes", stroke("a", frame=2))  # a retry across a restart
    assert len(settled(again)["strokes"]) == 2

    file.rename(tmp_path / "kept.json")
    file.mkdir()  # so that nothing can be written
    answer = asked.post("strokes", stroke("late"))
    assert answer.status == 507 and "cannot be written" in answer.json["error"]
    assert len(settled(again)["strokes"]) == 2
    file.rmdir()
    (tmp_path / "kept.json").rename(file)
    assert asked.post("strokes", stroke("late")).status == 200

    file.write_text(file.read_text().replace("boxes", "other"))
    with pytest.raises(InputError, match="of the video other"):
        workshop()


def test_a_session_that_fails_is_reported_and_the_others_strokes_stay(workshop: Make) -> None:
    work, asked = workshop()
    asked.post("strokes", stroke("a"))
    asked.post("strokes", stroke("bad", object=9))  # on which the session fails
    asked.post("strokes", stroke("c", object=2, path=[[0.7, 0.75]]))
    state = settled(work)
    assert "no memory left" in state["problem"]
    assert [one["failed"] for one in state["strokes"]] == [False, True, False]
    assert set(np.unique(work.mask(0))) == {0, 1, 2}
    for name in ("c", "bad"):
        asked.post("undo", {"id": name})
    assert len(settled(work)["strokes"]) == 1 and set(np.unique(work.mask(0))) == {0, 1}


def test_saving_writes_masks_scribbles_and_an_overlay(workshop: Make) -> None:
    work, asked = workshop()
    asked.post("strokes", stroke())
    asked.post("save")
    asked.post("save")  # while the first waits
    assert settled(work)["saves"] == 1
    for t in range(FRAMES):
        assert np.array_equal(read_mask(work.out / "masks" / f"{t:05d}.png"), work.mask(t))
    with av.open(str(work.out / "overlay.mp4")) as film:
        found = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(found) == FRAMES and found[0].shape == (*SIZE, 3)
    expected = 0.55 * np.array([220, 30, 30]) + 0.45 * np.array([128, 0, 0])  # the tint of pictures.py
    assert np.abs(found[0][20:30, 20:40] - expected).max() < 12


def test_a_run_without_scribbles_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = SimpleNamespace(given=Given.MASKS, fields=SimpleNamespace(name="RVOS"))
    monkeypatch.setattr("vos_lightning.runs.load.load_run", lambda *_: (told, None))
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path), "run", "--no-browser"])
    assert stop.value.code == 2
    assert capsys.readouterr().err == (
        "vos-interact: run: its model, RVOS, takes no scribbles; give a run of a model that does.\n"
    )
