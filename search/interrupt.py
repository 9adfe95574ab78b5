"""Ctrl-C once: stop where every trial can be continued. Twice: now."""

import signal
from types import FrameType, TracebackType
from typing import Any, Self


class Interrupt:
    """While it is entered, the first SIGINT or SIGTERM sets `requested`; the next acts as it would without us."""

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        for each, handler in self._before.items():
            signal.signal(each, handler)
