"""Processes of the benchmark: one for each part, and those of NVIDIA's multi-process service."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from search.errors import first_line

LIMIT = 540.0  # seconds of a part: a command of one part ends within ten minutes
MPS_CONTROL = "nvidia-cuda-mps-control"


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


@contextmanager
def mps() -> Iterator[None]:
    """NVIDIA's multi-process service for the processes that begin in the block; its folders are its own."""
    control = shutil.which(MPS_CONTROL)
    if control is None:
        raise FileNotFoundError(f"{MPS_CONTROL} is not installed; it comes with NVIDIA's driver")
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for name in ("CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"):
            os.environ[name] = tempfile.mkdtemp(dir=folder)
        try:
            subprocess.run([control, "-d"], check=True, timeout=60)
            try:
                yield
            finally:
                subprocess.run([control], input="quit -t 20\n", text=True, check=True, timeout=60)
        finally:
            os.environ.clear()
            os.environ.update(before)
