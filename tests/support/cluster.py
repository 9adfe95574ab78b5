"""A real Ray cluster on loopback, with token authentication, to which machines can be added and switched off."""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.support.study_process import ROOT


class RayCluster:
    """What a user's shell needs to join it is `shell`."""

    def __init__(self, folder: Path, head_cores: int) -> None:
        self._log = (folder / "cluster.log").open("wb")
        self.shell = os.environ | {
            "PYTHONPATH": str(ROOT),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # so that Ray takes 127.0.0.1 for the nodes' address
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.cluster_nodes", str(head_cores)],
            env=self.shell, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
        )  # fmt: skip
        self.address = self._told()
        self.shell["RAY_ADDRESS"] = self.address

    def add(self, cores: int) -> int:
        """A machine more; the pid of its raylet."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{cores}\n")
        self.process.stdin.flush()
        return int(self._told())

    def close(self) -> None:
        """Ends every process of it, whatever became of them."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        with suppress(subprocess.TimeoutExpired):
            self.process.communicate(timeout=30)
        for left in psutil.wait_procs(family, 10)[1]:
            left.kill()
        self.process.kill()
        self._log.close()

    def _told(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        assert line, f"the cluster ended: {Path(self._log.name).read_text()}"
        return line


@contextmanager
def cluster(folder: Path, head_cores: int = 1) -> Iterator[RayCluster]:
    """While it is entered, a cluster of one machine with `head_cores`; its log is in `folder`."""
    made = RayCluster(folder, head_cores)
    try:
        yield made
    finally:
        made.close()


def workers(pid: int) -> list[psutil.Process]:
    """Workers of trials below a process, by age."""
    found = []
    for process in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if process.cmdline()[:1] and process.cmdline()[0].startswith(
                ("ray::ResourceTrainable", "ray::TrialWorker")
            ):
                found.append(process)
    return sorted(found, key=lambda process: process.create_time())


def switch_off(raylet: int) -> None:
    """Kills everything on a machine at once, so that nothing of it can tell anybody."""
    machine = psutil.Process(raylet)
    family = [machine, *machine.children(recursive=True)]
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.suspend()
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()
