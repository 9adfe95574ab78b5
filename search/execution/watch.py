"""Ray may lose a part without which no trial can go on. It would hang then, or end the process without a word."""

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

import psutil

from search.errors import Halted
from search.execution.internals import RAY

PARTS = ("gcs_server", "raylet")  # names of processes
EVERY = 1.0  # seconds between two looks
SILENT = 10.0  # seconds for which a cluster may be out of reach; Ray's own processes wait for a minute
GRACE = 10.0  # seconds in which the study is to leave Ray after a part has died: without its head, Tune never does


class Watch:
    """Looks at Ray in a thread of its own, for the main one may hang in Ray.

    Args:
        died: what has died, in a clause with its remedy; None while all lives.
        end: ends the process, where the study has not left Ray `GRACE` seconds after that.
    """

    def __init__(self, died: Callable[[], str | None], end: Callable[[Halted], None]) -> None:
        self._died, self._end = died, end
        self._found: Halted | None = None
        self._leaving = False
        self._looking, self._left = threading.Lock(), threading.Event()
        threading.Thread(target=self._look, name="watch", daemon=True).start()

    def check(self) -> None:
        """Raises Halted when a part of Ray has died."""
        if self._found is not None:
            raise self._found

    @contextmanager
    def leaving(self) -> Iterator[None]:
        """While it is entered, Ray is left: what ends from now on has been ended by us."""
        with self._looking:
            self._leaving = True
        try:
            yield
        finally:
            self._left.set()

    def _look(self) -> None:
        while not self._left.wait(EVERY):
            with self._looking:
                cause = None if self._leaving else self._died()
                if cause is None:
                    continue
                self._found = Halted(cause)
            if not self._left.wait(GRACE):
                self._end(self._found)
            return


def here() -> Callable[[], str | None]:
    """Of the control service and the raylet that Ray has started for this process.

    Asking for them also collects the dead: Ray's workers end with their raylet, and take it for alive until then.

    Raises:
        Halted: this process has not started both.
    """
    parts = {child.name(): child for child in psutil.Process().children()}
    for kind in PARTS:
        if kind not in parts:
            raise Halted(f"Ray has started no process {kind} here, which is to be watched; install Ray {RAY}")

    def died() -> str | None:
        for kind in PARTS:
            with suppress(psutil.TimeoutExpired):  # it lives
                return (
                    f"Ray's {kind} on this machine died ({_ending(parts[kind].wait(0))}); "
                    "see that the machine has memory to spare and that nothing ends Ray's processes"
                )
        return None

    return died


def joined(where: str, parts: Mapping[str, tuple[str, int]]) -> Callable[[], str | None]:
    """Of a cluster: each of its `parts`, a name and where it listens, is to be reached."""
    last = dict.fromkeys(parts, time.monotonic())

    def died() -> str | None:
        for part, listens in parts.items():
            try:
                socket.create_connection(listens, timeout=EVERY).close()
                last[part] = time.monotonic()
            except OSError as error:
                if time.monotonic() - last[part] > SILENT:
                    return (
                        f"{part} of the cluster at {where} is out of reach ({error.strerror or error}); "
                        "see that the cluster runs"
                    )
        return None

    return died


def _ending(status: int | None) -> str:
    if status is None:
        return "collected by another part of this process"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"exit status {status}"
