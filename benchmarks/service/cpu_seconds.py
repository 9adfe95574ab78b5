"""Which processes below a command used the cores: read from Linux' /proc while it runs."""

import os
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
IDLE = "ray::IDLE"  # Ray's title for a process that no trial has used yet, or uses any more


@dataclass(frozen=True)
class Process:
    """One process at one moment."""

    parent: int
    seconds: float  # CPU time so far, user and system, its children not counted
    command: str


class Usage:
    """CPU seconds of a process and of all below it, as of the last time that each was `seen`."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._seconds: dict[int, float] = {}
        self._workers: set[int] = set()

    def see(self, processes: dict[int, Process]) -> None:
        """Notes what the processes of this moment have used."""
        for pid in below(self._root, processes):
            self._seconds[pid] = processes[pid].seconds
            title = processes[pid].command
            if title.startswith("ray::") and not title.startswith(IDLE):
                self._workers.add(pid)

    def by_role(self) -> dict[str, float]:
        """CPU seconds of the driver, of the workers that train, and of all other processes below the driver."""
        workers = sum(s for pid, s in self._seconds.items() if pid in self._workers)
        driver = self._seconds.get(self._root, 0.0)
        return {"driver": driver, "workers": workers, "others": sum(self._seconds.values()) - driver - workers}


def below(root: int, processes: dict[int, Process]) -> set[int]:
    """The process and all that descend from it."""
    found = {root} & processes.keys()
    new = found
    while new:
        new = {pid for pid, process in processes.items() if process.parent in new} - found
        found |= new
    return found


def processes() -> dict[int, Process]:
    """All processes of this machine that this user may look at; none without /proc."""
    found: dict[int, Process] = {}
    for folder in PROC.glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text()
            command = (folder / "cmdline").read_text().replace("\0", " ")
        except (FileNotFoundError, ProcessLookupError):  # it has ended since
            continue
        # proc(5): the name, field 2, stands in parentheses and may hold any character; 4 parent, 14 user, 15 system
        fields = stat.rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        found[int(folder.name)] = Process(int(fields[1]), ticks / os.sysconf("SC_CLK_TCK"), command)
    return found
