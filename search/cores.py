"""What a worker that trains on the CPU takes for itself: cores that no other worker has, and memory that it keeps."""

import ctypes
import os
from pathlib import Path

from search import scratch

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # parameters of glibc's mallopt (malloc.h)
KEPT_BUFFER = 32 * 2**20  # bytes, the most that glibc allows: larger buffers still go back to the system
NEVER = 2**31 - 1  # bytes that may lie free before the heap shrinks: the largest C int


def usable() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def claim(threads: int) -> frozenset[int]:
    """Pins the calling thread, and all that it starts from now on, to `threads` cores that no other worker has claimed.

    All workers of one user on this machine share the claims, whichever study they belong to; the system gives a claim
    back when its process ends. Neighbouring cores are claimed together. The worker stays unpinned where too few are
    left, where the platform has no affinity (macOS) and where the folder of the claims cannot be trusted: what is lost
    then is speed.

    Returns:
        The cores, empty where the worker stays unpinned.
    """
    if not hasattr(os, "sched_setaffinity"):
        return frozenset()
    folder = scratch.home()
    if folder is None:
        return frozenset()
    allowed = sorted(os.sched_getaffinity(0))
    # Fixed groups, and not any free cores: two workers that claim at once would each take a part and both fail.
    for start in range(0, len(allowed) - threads + 1, threads):
        cores = allowed[start : start + threads]
        if _lock([folder / f"core-{core}.lock" for core in cores]):
            os.sched_setaffinity(0, cores)
            return frozenset(cores)
    return frozenset()


def keep_freed_memory() -> bool:
    """Makes the C library keep what is freed, for the next buffer of its size; False without glibc.

    By default large buffers go back to the system, and every step of training has the system clear the pages of its
    activations again. The price: between two networks the process keeps as much as the larger one needed.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is None:
        return False
    return bool(mallopt(MMAP_THRESHOLD, KEPT_BUFFER)) and bool(mallopt(TRIM_THRESHOLD, NEVER))


def _lock(paths: list[Path]) -> bool:
    """Locks all of these files for the life of the process, or none."""
    import fcntl  # not on Windows

    files: list[int] = []
    try:
        for path in paths:
            files.append(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            fcntl.flock(files[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # taken (EWOULDBLOCK), or a file system without locks
        for file in files:
            os.close(file)
        return False
    return True  # the files stay open, and the locks with them
