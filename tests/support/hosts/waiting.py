"""Waiting for what takes a while, and telling how long steps took."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


def wait_for(condition: Callable[[], T], seconds: float, what: str, every: float = 0.1) -> T:
    """The first true value of `condition`; fails after so many seconds, naming `what` was waited for."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"{what}: not there after {seconds:g} s"
        time.sleep(every)


def left_after(seconds: float, found: Callable[[], list[str]]) -> list[str]:
    """What is found; where it is something, again and again for so many seconds, until it is nothing."""
    end = time.monotonic() + seconds
    while (left := found()) and time.monotonic() < end:
        time.sleep(0.2)
    return left


def tell(text: str) -> None:
    """A line that `pytest -s` shows at once."""
    sys.stdout.write(f"    {text}\n")
    sys.stdout.flush()


@contextmanager
def step(name: str) -> Iterator[None]:
    """Tells how long it took."""
    began = time.monotonic()
    yield
    tell(f"{time.monotonic() - began:6.1f} s  {name}")
