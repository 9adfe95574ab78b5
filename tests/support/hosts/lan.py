"""Several hosts on one machine, and a switch between them: namespaces of Linux, nothing else.

The switch has a namespace of its own too, so nothing is added to the machine's network and no packet leaves it. A
host's devices vanish with its processes, and all processes with the one that made them.
"""

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from tests.support.hosts import host_files
from tests.support.hosts.host import Host, namespaces_of
from tests.support.hosts.waiting import left_after, wait_for
from tests.support.study_process import ROOT

NETWORK = "10.77.0"
LAPTOP, HEAD = "laptop", "head"


class Lan:
    """A laptop, and as the cluster a head and workers, which are on while it is entered.

    Args:
        root: folder of all that the hosts write, left as it is in the end.
        workers: how many; None: only the laptop.
        shell: lines more for every shell of the hosts.
    """

    def __init__(self, root: Path, workers: int | None, shell: str = "") -> None:
        self.root, self.shared, self._shell = root.resolve(), root.resolve() / "shared", shell
        self.key = self.root / "cluster_key"
        self.hosts: dict[str, Host] = {}
        self.namespaces: frozenset[str] = frozenset()
        self._keep = [os.path.realpath(folder) for folder in (sys.base_prefix, sys.prefix, ROOT)]
        self._names = {LAPTOP: f"{NETWORK}.2"}
        if workers is not None:
            self._names |= {HEAD: f"{NETWORK}.10"}
            self._names |= {f"worker{i}": f"{NETWORK}.{10 + i}" for i in range(1, workers + 1)}

    @property
    def laptop(self) -> Host:
        return self.hosts[LAPTOP]

    @property
    def head(self) -> Host:
        return self.hosts[HEAD]

    @property
    def workers(self) -> list[Host]:
        return [host for name, host in self.hosts.items() if name.startswith("worker")]

    def __enter__(self) -> Self:
        self.shared.mkdir(parents=True)
        self.shared.chmod(0o777)
        public_key = host_files.make_key(self.key)
        self._switch = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "sleep", "infinity"])
        try:
            wait_for(self._apart, 60, "the switch")
            self._in_switch("ip", "link", "add", "br0", "type", "bridge", "forward_delay", "0")
            self._in_switch("ip", "link", "set", "br0", "up")
            for name, address in self._names.items():
                self.add(name, [address], public_key)
            host_files.give_key(self.key, self.laptop.state)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *raised: object) -> None:
        with ExitStack() as off:  # all of it, whatever fails
            off.callback(self._switch.wait, 60)
            off.callback(self._switch.kill)
            for host in self.hosts.values():
                off.callback(host.power_off)

    def add(self, name: str, addresses: list[str], public_key: str) -> Host:
        """Switches on one host more; who holds the other half of the key may log in as ubuntu and as root."""
        device = f"{_prefix()}{len(self.hosts)}"
        host = Host(name, addresses, self.root / name, device, self._in_switch)
        host_files.write(host.state, public_key, self._names | {name: addresses[0]}, self._shell)
        self.hosts[name] = host
        host.boot(self._keep, self.shared, self._switch.pid)
        self.namespaces |= host.namespaces()
        return host

    def remains(self) -> list[str]:
        """What is left of the hosts once they have been off for a moment: processes, mounts, devices."""
        # Who entered a host from here, by `nsenter`, sees the end of what was started there, and ends.
        return left_after(30, self._left)

    def _left(self) -> list[str]:
        left = [f"process {pid}" for pid in _pids() if namespaces_of(pid) & self.namespaces]
        left += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(self.root) in line]
        return left + [each.name for each in Path("/sys/class/net").iterdir() if each.name.startswith(_prefix())]

    def _in_switch(self, *command: str) -> str:
        inside = ["nsenter", "-t", str(self._switch.pid), "--net"]
        return subprocess.run([*inside, *command], check=True, text=True, capture_output=True).stdout

    def _apart(self) -> bool:
        return not namespaces_of(self._switch.pid, ["net"]) & namespaces_of(os.getpid(), ["net"])


def _prefix() -> str:
    return f"rs{os.getpid() % 10_000}-"  # of device names, which have at most 15 characters


def _pids() -> list[int]:
    return [int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()]
