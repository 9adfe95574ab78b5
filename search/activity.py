"""Says what this process does while there is nothing to show yet, and for how long; and how Ctrl-C ends it meanwhile.

Standard library only: it speaks before anything else is imported.
"""

import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import IO, NoReturn, Self

FIRST_SECONDS = 0.8  # of silence, before a file or a pipe gets the first line
SILENT_SECONDS = 2.0  # of silence, before it gets the next
LONG_SECONDS = 60.0  # the same once hours have passed
SHARE = 0.01  # of the time that a stage takes: its lines come more seldom the longer it takes
CLEAR, SHOW_CURSOR = "\r\x1b[2K", "\x1b[?25h"
INTERRUPTED = 130


class Activity:
    """Tells from a thread of its own what is being done: on a terminal in one line that counts its seconds.

    A file or a pipe gets a plain line only where nothing was said for `SILENT_SECONDS`.

    Args:
        out: where to; default: standard error.
        live: whether it is a terminal on which one line is written again and again; default: as `out` says.
    """

    def __init__(self, out: IO[str] | None = None, live: bool | None = None) -> None:
        self._out = out or sys.stderr
        self._live = is_terminal(self._out) if live is None else live
        self._what = ""
        self._start = self._since = self._said = time.monotonic()
        self._silent = FIRST_SECONDS
        self._lock, self._over = threading.RLock(), threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._tell, name="activity", daemon=True).start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._over.set()
        self.end()

    def begin(self, what: str) -> None:
        """From now on it is `what` that is done."""
        with self._lock:
            self._what, self._since = what, time.monotonic()
            if self._live:
                self._show()

    def change(self, what: str) -> None:
        """The same, which has come so far."""
        self._what = what

    def end(self) -> None:
        """What was begun is done: other lines may follow."""
        with self._lock:
            if self._what and self._live:
                self._out.write(CLEAR)
                self._out.flush()
            self._what = ""
            self.said()

    def said(self) -> None:
        """Something else was printed."""
        self._said = time.monotonic()
        self._silent = min(LONG_SECONDS, max(SILENT_SECONDS, SHARE * (self._said - self._start)))

    def _tell(self) -> None:
        while not self._over.wait(0.25):
            with self._lock:
                if self._what and (self._live or time.monotonic() - self._said >= self._silent):
                    self._show()

    def _show(self) -> None:
        text = f"{self._what} ({time.monotonic() - self._since:.0f} s)"
        # On a terminal the cursor stays at the line's beginning, so that whatever is printed goes over it.
        self._out.write(f"{CLEAR}{text}\r" if self._live else f"{text}\n")
        self._out.flush()
        self.said()


def run_alone(main: Callable[[Sequence[str] | None, Activity], int], arguments: Sequence[str] | None = None) -> int:
    """The exit status of `main`, as the whole of this process: from now on it speaks, and can be interrupted."""
    end_at_once()
    with Activity() as activity:
        activity.begin("starting")
        status = main(arguments, activity)
    gc.freeze()  # Python would take seconds to look for circles in thousands of modules before it ends
    if status == INTERRUPTED:  # nor is anything waited for
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(INTERRUPTED)
    return status


def is_terminal(out: IO[str]) -> bool:
    """Whether lines can be written over."""
    return out.isatty() and os.environ.get("TERM") != "dumb"


def end_at_once() -> None:
    """From now on SIGINT and SIGTERM end this process at once, wherever it is, with one line and status 130.

    Nothing is lost by that, for it may be killed at any time: the same command continues. A signal that is ignored,
    as below nohup, stays so.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    before = CLEAR + SHOW_CURSOR if is_terminal(sys.stderr) else ""
    # not by a buffer, in which another thread may be
    os.write(2, f"{before}interrupted; run the same command again to continue\n".encode())
    os._exit(INTERRUPTED)
