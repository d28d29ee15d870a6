"""How a run ends by signals, and processes that do not outlive the one that started them."""

import ctypes
import os
import signal
import sys
import time
from threading import Thread, current_thread, main_thread
from types import FrameType
from typing import Any

PR_SET_PDEATHSIG = 1  # of Linux's prctl
INTERRUPTED = "interrupted; the same command does what is missing."


class Interrupted(BaseException):
    """A run was told to end by the signal of this number."""

    def __init__(self, number: int, sentence: str = INTERRUPTED) -> None:
        super().__init__(number, sentence)
        self.number, self.sentence = number, sentence

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.number, self.sentence)


class Interruption:
    """Raises `Interrupted` in its context at SIGTERM or SIGINT: at once, or where `deferred`, by `check`.

    A second signal does not wait. A signal that is ignored stays so, and so do all outside the main thread.
    """

    def __init__(self) -> None:
        self.deferred, self.number = False, 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        if current_thread() is main_thread():
            found = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
            self._before = {
                n: handler for n, handler in found.items() if handler not in (signal.SIG_IGN, None)
            }
        for number in self._before:
            signal.signal(number, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def defer(self) -> None:
        """Lets signals wait for `check` from here on, also where a library has taken them to itself since."""
        self.deferred = True
        for number in self._before:
            signal.signal(number, self._take)

    def _take(self, number: int, _: FrameType | None) -> None:
        if not self.deferred or self.number:
            raise Interrupted(number)
        self.number = number

    def check(self) -> None:
        """Raises `Interrupted` if a signal came."""
        if self.number:
            raise Interrupted(self.number)


def end_with(parent: int) -> None:
    """Ends this process by SIGKILL once `parent`, its parent process, is gone, however that ended."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        Thread(target=_watch, args=[parent], daemon=True).start()
    if os.getppid() != parent:  # it was gone before
        os._exit(1)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def begin_worker(parent: int, _: int) -> None:
    """Makes a loader process end with its parent, and leave to it the signals that a whole group gets."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    end_with(parent)
