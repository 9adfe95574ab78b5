"""A process for each part of the benchmark."""

import time
from collections.abc import Callable, Iterable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from search.errors import first_line

LIMIT = 540.0  # seconds of a part: a command of one part ends within ten minutes


def apart(work: Callable[..., Iterable[Any]], *arguments: Any) -> tuple[list[Any], str | None]:
    """What `work` yields in a new process, and why it ended early, if it did."""
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_tell, args=(theirs, work, arguments))
    process.start()
    theirs.close()
    found: list[Any] = []
    deadline = time.monotonic() + LIMIT
    try:
        while ours.poll(max(0.0, deadline - time.monotonic())):
            yielded, error = ours.recv()
            if yielded is None:
                process.join(30)  # so that it leaves the GPU by itself
                return found, error
            found.append(yielded)
        return found, f"it was not done after {LIMIT:.0f} s"
    except EOFError:
        process.join()
        return found, f"its process died (exit status {process.exitcode})"
    finally:
        process.kill()
        process.join()


def _tell(pipe: Connection, work: Callable[..., Iterable[Any]], arguments: tuple[Any, ...]) -> None:
    error = None
    try:
        for yielded in work(*arguments):
            pipe.send((yielded, None))
    except Exception as failure:  # of whatever kind: it is told, and the other parts go on
        error = f"{type(failure).__name__}: {first_line(failure)}"
    pipe.send((None, error))
