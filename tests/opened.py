"""How often a file is opened, by any process of this machine: counted by the kernel, not by the code that opens it."""

import ctypes
import os
import struct
from pathlib import Path
from types import TracebackType
from typing import Self

IN_OPEN, IN_CLOSE, IN_NONBLOCK = 0x20, 0x10, 0o4000  # linux/inotify.h; closed without having been written
_libc = ctypes.CDLL(None, use_errno=True)


class Opened:
    """As a context; `count` may be asked for inside and after.

    Args:
        files: that are there.
    """

    def __init__(self, *files: Path) -> None:
        self._files = files
        self._counts: dict[int, int] = {}

    def __enter__(self) -> Self:
        self._queue = _libc.inotify_init1(IN_NONBLOCK)
        assert self._queue >= 0, os.strerror(ctypes.get_errno())
        for file in self._files:
            # The kernel merges equal events that follow one another: each opening is parted from the next by a closing.
            watch = _libc.inotify_add_watch(self._queue, os.fsencode(file), IN_OPEN | IN_CLOSE)
            assert watch >= 0, f"{file}: {os.strerror(ctypes.get_errno())}"
            self._counts[watch] = 0
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.counts()
        os.close(self._queue)
        self._queue = -1

    def counts(self) -> list[int]:
        """Of each file, in their order."""
        while self._queue >= 0:
            try:
                events = os.read(self._queue, 65536)
            except BlockingIOError:
                break
            at = 0
            while at < len(events):
                watch, mask, _, length = struct.unpack_from("iIII", events, at)
                self._counts[watch] += bool(mask & IN_OPEN)
                at += 16 + length
        return list(self._counts.values())
