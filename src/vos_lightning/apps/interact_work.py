"""The state that every tab of vos-interact shows, and the one thread that computes.

Requests only say what the list of strokes should be, and it is on disk before they are answered. The thread
brings the session to that list, stroke by stroke, so that one computation runs at a time and nobody waits for
it with a request open.

Shapes: T frames of h x w pixels.
"""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from threading import Condition, Thread
from typing import TYPE_CHECKING, Any

import numpy as np

from vos_lightning.apps.cli import sentence
from vos_lightning.data.images import write_mask
from vos_lightning.data.scribbles import Interaction, Scribble, ScribbleFile, read_scribbles, write_scribbles
from vos_lightning.data.videos import Video
from vos_lightning.errors import InputError
from vos_lightning.report.overlays import write_overlay

if TYPE_CHECKING:
    from vos_lightning.evaluation.rounds import Session

MOST_STROKES = 2000
AFTER = 1e-3  # seconds between strokes, so that their times tell their order


class Unwritten(Exception):
    """The strokes could not be written, which may get better: a full disk."""


@dataclass(frozen=True)
class Stroke:
    """A scribble on frame t, by the id that the page gave it."""

    id: str
    frame: int
    scribble: Scribble

    def same_line(self, other: "Stroke") -> bool:
        """Whether both are one line: what the file keeps of a stroke has no id."""
        mine, theirs = self.scribble, other.scribble
        return (self.frame, mine.id) == (other.frame, theirs.id) and np.array_equal(mine.path, theirs.path)


class Workshop:
    """One video, the strokes drawn on it, and what a session makes of them.

    video: of T frames, all of one size. objects: the highest id. out: the folder for scribbles.json, masks/
    and overlay.mp4. rate: frames a second of the overlay. begin: makes a session that has heard nothing; it
    is called in the thread, and again after an error, since nobody knows what state a session is then in.

    Raises InputError for a scribbles.json that cannot be read or is of another video.
    """

    def __init__(
        self, video: Video, objects: int, out: Path, rate: Fraction, begin: Callable[[], "Session"]
    ) -> None:
        self.video, self.objects, self.out, self.rate = video, objects, out, rate
        self.size = video.frame(0).shape[:2]
        self._begin, self._file = begin, out / "scribbles.json"
        self._change = Condition()
        self._born, self._revision = secrets.token_hex(4), 0  # a new server's revisions are others
        self._strokes = self._loaded()
        self._gone: set[str] = set()  # ids of strokes that were taken back
        self._failed: set[str] = set()  # ids of strokes that the session has failed on
        self._answered: set[str] = set()  # ids of those that it has answered once
        self._session: Session | None = None
        self._done: list[Stroke] = []  # what the session has heard
        self._masks: np.ndarray | None = None
        self._facts: dict[str, Any] = {"masks": 0, "saves": 0, "thinking": "", "problem": "", "saved": ""}
        self._facts |= {"problems": 0, "seconds": 0.0}
        self._save_asked = self._stuck = self._closing = False
        self._saving: list[Stroke] | None = None  # the strokes whose masks are being written
        self._thread = Thread(target=self._work, daemon=True)

    def _loaded(self) -> list[Stroke]:
        if not self._file.exists():
            return []
        drawn = read_scribbles(self._file, len(self.video))
        if drawn.video != self.video.name:
            raise InputError(
                f"{self._file}: is of the video {drawn.video}, not of {self.video.name}; name another --out."
            )
        found = [(scribble, t) for t, scribbles in enumerate(drawn.scribbles) for scribble in scribbles]
        if any(scribble.id > self.objects for scribble, _ in found):
            raise InputError(f"{self._file}: has objects above {self.objects}, the most; name another --out.")
        found.sort(key=lambda pair: pair[0].start)
        return [Stroke(f"file-{n}", t, scribble) for n, (scribble, t) in enumerate(found)]

    # --- what requests ask --------------------------------------------------------------------------------

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def close(self) -> None:
        """Ends the thread after the computation that runs."""
        with self._change:
            self._closing = True
            self._change.notify_all()
        self._thread.join(timeout=20)

    @property
    def revision(self) -> str:
        """Differs whenever something in `state` does."""
        return f"{self._born}-{self._revision}"

    def state(self) -> dict[str, Any]:
        """What the page shows, as plain values."""
        with self._change:
            strokes = [
                {
                    "id": stroke.id,
                    "frame": stroke.frame,
                    "object": stroke.scribble.id,
                    "path": np.round(stroke.scribble.path, 4).tolist(),
                    "failed": stroke.id in self._failed,
                }
                for stroke in self._strokes
            ]
            height, width = self.size
            video = {"name": self.video.name, "frames": len(self.video), "width": width, "height": height}
            video |= {"rate": float(self.rate)}
            shown = {"revision": self.revision, "objects": self.objects, "video": video, "strokes": strokes}
            step = None if self._stuck else self._step()
            thinking = self._facts["thinking"] or (step[0] if step else "")
            masks = f"{self._born}-{self._facts['masks']}"
            return shown | self._facts | {"masks": masks, "thinking": thinking}

    def mask(self, t: int) -> np.ndarray:
        """The mask (h, w) uint8 of frame t."""
        masks = self._masks
        return np.zeros(self.size, np.uint8) if masks is None else masks[t]

    def draw(self, stroke: Stroke) -> None:
        """Takes a stroke in and writes it to disk; one that came before changes nothing.

        The stroke's times are the seconds that it took; they are moved to this clock's now. Raises
        InputError if there are too many, Unwritten if the file cannot be written.
        """
        with self._change:
            known = {known.id for known in self._strokes} | self._gone
            if stroke.id in known or any(stroke.same_line(other) for other in self._strokes):
                return
            if len(self._strokes) >= MOST_STROKES:
                raise InputError(f"stroke: there are {MOST_STROKES} already, the most; undo some.")
            line, now = stroke.scribble, time.time()
            after = max((s.scribble.start + AFTER for s in self._strokes), default=0.0)
            start = max(now - (line.end - line.start), after)
            timed = Scribble(line.path, line.id, start, max(now, start))
            self._replace([*self._strokes, Stroke(stroke.id, stroke.frame, timed)])

    def undo(self, name: str) -> None:
        """Takes back the last stroke, which must have this id; one that is gone already changes nothing.

        Raises InputError if another stroke came after it, Unwritten if the file cannot be written.
        """
        with self._change:
            if name in {stroke.id for stroke in self._strokes[:-1]}:
                raise InputError("undo: another stroke came after this one; undo that one first.")
            if self._strokes and self._strokes[-1].id == name:
                self._replace(self._strokes[:-1])
                self._gone.add(name)

    def save(self) -> None:
        """Asks for the files of the masks and the overlay.

        Asked again while they are written or wait, they are written once, unless a stroke came between.
        """
        with self._change:
            self._save_asked, self._stuck = self._saving is not self._strokes, False
            self._changed()

    def _replace(self, strokes: list[Stroke]) -> None:
        self._write(strokes)
        self._strokes, self._stuck = strokes, False
        self._changed()

    def _write(self, strokes: list[Stroke]) -> None:
        of = [tuple(s.scribble for s in strokes if s.frame == t) for t in range(len(self.video))]
        try:
            if strokes:
                write_scribbles(self._file, ScribbleFile(self.video.name, tuple(of)))
            else:  # a file of scribbles has one at least
                self._file.unlink(missing_ok=True)
        except (InputError, OSError) as error:
            raise Unwritten(sentence(error)) from error

    def _changed(self, **facts: Any) -> None:
        with self._change:
            self._facts |= facts
            self._revision += 1
            self._change.notify_all()

    # --- the thread ---------------------------------------------------------------------------------------

    def _work(self) -> None:
        while (step := self._next_step()) is not None:
            what, act, stroke = step
            self._changed(thinking=what)
            try:
                act()
                self._changed(thinking="")
            except Exception as error:  # whatever a session raises, the page lives on
                self._report(f"{what} failed: {sentence(error)}", act, stroke)

    def _report(self, problem: str, act: Callable[[], None], stroke: Stroke | None) -> None:
        with self._change:
            if act != self._save:
                self._session, self._done = None, []
            if stroke is None:
                self._stuck = act == self._prepare  # until another request
            elif stroke.id in self._answered:  # so it is not the stroke
                self._stuck = True
            else:
                self._failed.add(stroke.id)
            self._changed(thinking="", problem=problem, problems=self._facts["problems"] + 1)

    def _next_step(self) -> tuple[str, Callable[[], None], Stroke | None] | None:
        """What the next thing to do is called, the thing, and the stroke it is about; None at the end."""
        with self._change:
            while not self._closing:
                step = None if self._stuck else self._step()
                if step is not None:
                    return step
                self._change.wait()
            return None

    def _step(self) -> tuple[str, Callable[[], None], Stroke | None] | None:
        wanted = self._wanted()
        if self._session is None:
            return "Preparing the video", self._prepare, None
        if self._done != wanted[: len(self._done)]:
            return "Undoing", self._take_back, None
        if len(self._done) < len(wanted):
            stroke = wanted[len(self._done)]
            return f"The scribble on frame {stroke.frame + 1}", lambda: self._answer(stroke), stroke
        return ("Saving", self._save, None) if self._save_asked else None

    def _wanted(self) -> list[Stroke]:
        """What the session should have heard."""
        return [stroke for stroke in self._strokes if stroke.id not in self._failed]

    def _prepare(self) -> None:
        self._session = self._begin()
        if not self._wanted():
            self._show(None)

    def _answer(self, stroke: Stroke) -> None:
        assert self._session is not None
        started = time.monotonic()
        masks = self._session.answer(Interaction(stroke.frame, (stroke.scribble,)))
        self._facts["seconds"] = time.monotonic() - started
        self._done = [*self._done, stroke]
        self._answered.add(stroke.id)
        self._show(masks)

    def _take_back(self) -> None:
        assert self._session is not None
        masks = self._session.undo()
        self._done = self._done[:-1]
        self._show(masks)

    def _show(self, masks: np.ndarray | None) -> None:
        with self._change:
            self._masks = masks
            self._changed(masks=self._facts["masks"] + 1)

    def _save(self) -> None:
        with self._change:
            self._save_asked, self._saving = False, self._strokes
        try:
            self._write_masks()
        finally:
            self._saving = None
        self._changed(saved=str(self.out), saves=self._facts["saves"] + 1)

    def _write_masks(self) -> None:
        folder, count = self.out / "masks", len(self.video)
        folder.mkdir(parents=True, exist_ok=True)
        masks = np.stack([self.mask(t) for t in range(count)]) if self._masks is None else self._masks
        for t, mask in enumerate(masks):
            write_mask(folder / f"{self.video.frames[t].stem}.png", mask)

        def tell(t: int) -> None:
            self._changed(thinking=f"Saving frame {t + 1} of {count}")

        write_overlay(self.out / "overlay.mp4", self.video, masks, self.rate, tell)
