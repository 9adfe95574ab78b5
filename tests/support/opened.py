"""How often a file is opened, by any process of this machine: counted by the kernel, not by the code that opens it."""

import ctypes
import os
import select
import struct
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Self

IN_OPEN, IN_CLOSE = 0x20, 0x10  # linux/inotify.h; closed without having been written
_libc = ctypes.CDLL(None, use_errno=True)


class Opened:
    """As a context; `counts` may be asked for inside and after.

    Args:
        files: that are there.
    """

    def __init__(self, *files: Path) -> None:
        self._files = files
        self._counts: dict[int, int] = {}

    def __enter__(self) -> Self:
        self._queue = _libc.inotify_init1(0)
        assert self._queue >= 0, os.strerror(ctypes.get_errno())
        for file in self._files:
            watch = _libc.inotify_add_watch(self._queue, os.fsencode(file), IN_OPEN | IN_CLOSE)
            assert watch >= 0, f"{file}: {os.strerror(ctypes.get_errno())}"
            self._counts[watch] = 0
        self._stop, self._stopped = os.pipe()
        # The kernel merges equal events that follow one another unread: what has been told is read at once.
        self._reader = Thread(target=self._read)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._stopped)
        self._reader.join()
        os.close(self._stop)
        os.close(self._queue)

    def counts(self) -> list[int]:
        """Of each file, in their order."""
        return list(self._counts.values())

    def _read(self) -> None:
        while True:
            ready, _, _ = select.select([self._queue, self._stop], [], [])
            if self._queue not in ready:
                return
            events = os.read(self._queue, 65536)
            at = 0
            while at < len(events):
                watch, mask, _, length = struct.unpack_from("iIII", events, at)
                self._counts[watch] += bool(mask & IN_OPEN)
                at += 16 + length
