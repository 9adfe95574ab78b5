"""Who works on a study at a URL: one process, known by name, that shows every ten seconds that it lives."""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from search.errors import Halted, InputError
from search.storage.remote import Remote

FILE = ".lock"
BEAT, LEASE, SETTLED = 10.0, 45.0, 2.0  # seconds: between signs of life; without one, a holder is dead; for a rival


@dataclass(frozen=True)
class Holder:
    """A process, and how often it has shown that it lives."""

    pid: int
    host: str
    machine: str  # this boot of this machine, and the table in which its pid stands; "" where that is not known
    id: str  # of this entry
    beats: int

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"

    @property
    def dead(self) -> bool:
        """True when it is known not to be there any more; of another machine that is never known."""
        return self.machine == _machine() != "" and not Path(f"/proc/{self.pid}").exists()


class Lease:
    """Holds the folder at `url` for this process until `leave`; each time that it shows that it lives, calls `beat`.

    No two machines need to have the same time: a sign of life is a number that changes while somebody looks.

    Raises:
        InputError: another process holds it and lives, or the folder cannot be used.
    """

    def __init__(self, url: str, beat: Callable[[], None] = lambda: None) -> None:
        self._place = Remote(url, patience=0)  # never write after the lease has expired
        self._beat = beat
        self._mine = Holder(os.getpid(), socket.gethostname(), _machine(), uuid.uuid4().hex, beats=0)
        self._taken = False
        self._left = threading.Event()
        try:
            self._take()
        except Halted as refused:
            told = str(refused).partition(";")[0]
            raise InputError(f"output: {told}; correct the URL, or your access to it") from None
        threading.Thread(target=self._live, name="lease", daemon=True).start()

    def check(self) -> None:
        """Before anything is written: is this process still the one?

        Raises:
            Halted: another has taken over, or may have, for this one could not show for long that it lives.
        """
        if not self._taken and time.monotonic() - self._shown > LEASE:
            self._show_again()
        if self._taken:
            raise Halted(f"another process has taken over the study in {self._place.url}; wait for it")

    def leave(self) -> None:
        """Lets another process in at once."""
        self._left.set()
        if not self._taken:
            with suppress(Halted):  # the store is away: the entry is taken for dead in time
                self._place.remove([FILE])

    def _take(self) -> None:
        found, end = self._read(), time.monotonic() + LEASE
        while found is not None and not found.dead and time.monotonic() < end:
            self._left.wait(1.0)
            now = self._read()
            if now is not None and now != found:
                raise self._refusal(now)
            found = now
        self._show()
        self._left.wait(SETTLED)  # one that came at the same moment has written by now: the last to write has it
        rival = self._rival()
        if rival is not None:
            raise self._refusal(rival)

    def _live(self) -> None:
        while not self._taken and not self._left.wait(BEAT):
            with suppress(Halted):  # the store is away: `check` finds out whether for too long
                self._show_again()
                if not self._taken:
                    self._beat()

    def _show_again(self) -> None:
        self._taken = self._taken or self._rival() is not None
        if not self._taken:
            self._show()

    def _show(self) -> None:
        self._mine = replace(self._mine, beats=self._mine.beats + 1)
        self._place.put(FILE, json.dumps(asdict(self._mine)).encode())
        self._shown = time.monotonic()

    def _rival(self) -> Holder | None:
        found = self._read()
        return found if found is not None and found.id != self._mine.id else None

    def _read(self) -> Holder | None:
        try:
            return Holder(**json.loads(self._place.get(FILE) or b"null"))
        except (ValueError, TypeError):
            return None  # none there, or cut short by a store that writes in steps: its writer died

    def _refusal(self, holder: Holder) -> InputError:
        return InputError(
            f"the study in {self._place.url} is being worked on by {holder}; wait for it, or use another --name"
        )


def _machine() -> str:
    boot, pids = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    if not boot.exists() or not pids.exists():
        return ""
    return f"{boot.read_text().strip()} {pids.stat().st_ino}"
