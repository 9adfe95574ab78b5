"""The memory of this machine, or of the container that the process runs in."""

import os
from pathlib import Path

# What the control groups of Linux allow this container, version 2 and version 1; a number, or a word for no limit.
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def total() -> int:
    """Bytes that could be taken at most, if nothing else took any."""
    limits = [path.read_text().strip() for path in _LIMITS if path.is_file()]
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([machine, *(int(limit) for limit in limits if limit.isdecimal())])
